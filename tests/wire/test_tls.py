"""TLS: whom the wire trusts, and that kept connections serve on."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from coatcheck.wire.port import TlsFailed, WireSettings
from tests.wire.support import Face, all_faces, faces, fresh_engines, get, raw_server, read_head

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class TlsServer:
    url: str
    ca_bundle: str
    connections: int = 0
    goodbyes: int = 0


@contextlib.contextmanager
def tls_server(directory: Path, *names: str) -> Iterator[TlsServer]:
    """Serve "ok" to every request, with a certificate for `names` from an authority of its own."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    bundle = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))

    told = TlsServer("", str(bundle))

    def talk(connection: socket.socket) -> None:
        told.connections += 1
        while True:
            try:
                read_head(connection)
            except ConnectionAbortedError:
                # An orderly end of TLS; any other is an SSLEOFError.
                told.goodbyes += 1
                raise
            connection.sendall(OK)

    with raw_server(talk, context) as told.url:
        yield told


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TlsServer]:
    with tls_server(tmp_path, "127.0.0.1", "localhost") as server:
        yield server


@all_faces
def test_the_authority_given_is_trusted_and_the_connection_kept(
    face: Face, server: TlsServer
) -> None:
    async def go() -> None:
        for name in "127.0.0.1", "127.0.0.1", "localhost":
            wire = face.wire(settings)
            url = server.url.replace("127.0.0.1", name)
            assert (await wire.exchange(get(url))).body == b"ok"

    settings = WireSettings(ca_bundle=server.ca_bundle)
    face.run(go())
    assert server.connections == 2


@faces
@pytest.mark.parametrize("trust", [None, "system"])
def test_an_unknown_authority_is_not(face: Face, server: TlsServer, trust: str | None) -> None:
    with pytest.raises(TlsFailed, match=r"(?i)certificate") as caught:
        face.exchange(get(server.url), ca_bundle=trust)
    assert not caught.value.sent


@faces
def test_a_certificate_for_another_name_is_not(face: Face, tmp_path: Path) -> None:
    with (
        tls_server(tmp_path, "elsewhere.test") as server,
        pytest.raises(TlsFailed, match=r"127\.0\.0\.1") as caught,
    ):
        face.exchange(get(server.url), ca_bundle=server.ca_bundle)
    assert not caught.value.sent


@faces
def test_a_missing_bundle_is_named(face: Face, server: TlsServer) -> None:
    with pytest.raises(TlsFailed, match=r"/no/such/ca\.pem") as caught:
        face.exchange(get(server.url), ca_bundle="/no/such/ca.pem")
    assert not caught.value.sent


@faces
def test_the_systems_authorities_are_those_of_openssl(
    face: Face, server: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", server.ca_bundle)
    with fresh_engines():
        assert face.exchange(get(server.url), ca_bundle="system").body == b"ok"


@faces
def test_a_wire_that_trusts_nobody_does_not_use_the_connection_of_one_that_does(
    face: Face, server: TlsServer
) -> None:
    async def go() -> None:
        await face.wire(WireSettings(ca_bundle=server.ca_bundle)).exchange(get(server.url))
        with pytest.raises(TlsFailed):
            await face.wire(None).exchange(get(server.url))

    face.run(go())

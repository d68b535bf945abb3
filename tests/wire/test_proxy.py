"""Proxies: given, from the environment, none."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coatcheck.testing import FaultServer, reply
from coatcheck.wire.port import ConnectFailed, Disconnected, TlsFailed, WireError, WireSettings
from tests.wire.support import Face, faces, get, put, raw_server, read_head
from tests.wire.test_tls import tls_server


class Proxy:
    """Forwards plain requests, opens tunnels, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""

    def talk(self, client: socket.socket) -> None:
        head = read_head(client)
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.asked.append(f"{method} {target}")
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            if host == "refused.test":
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            client.sendall(b"HTTP/1.1 200 Connected\r\nETag: of-the-proxy\r\n\r\n")
            head = b""
        else:
            host, port = urlsplit(target).hostname or "", str(urlsplit(target).port)
        with socket.create_connection((host, int(port))) as server:
            server.sendall(head)
            back = threading.Thread(target=_pump, args=(server, client))
            back.start()
            _pump(client, server)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    with raw_server(proxy.talk) as proxy.url:
        yield proxy


@faces
def test_a_proxy_given_is_used(face: Face, fault_server: FaultServer, proxy: Proxy) -> None:
    fault_server.play(reply(body=b"ok"))
    assert face.exchange(get(f"{fault_server.endpoint}/x"), proxy=proxy.url).body == b"ok"
    assert proxy.asked == [f"GET {fault_server.endpoint}/x"]


@faces
def test_a_proxy_from_the_environment_is_used_unless_exempt(
    face: Face, fault_server: FaultServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.play(reply(body=b"ok"))
    monkeypatch.setenv("http_proxy", proxy.url)
    face.exchange(get(fault_server.endpoint))
    assert len(proxy.asked) == 1
    monkeypatch.setenv("no_proxy", "example.test,127.0.0.1")
    face.exchange(get(fault_server.endpoint))
    assert len(proxy.asked) == 1


@faces
def test_an_empty_proxy_means_none_whatever_the_environment_says(
    face: Face, fault_server: FaultServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.play(reply(body=b"ok"))
    monkeypatch.setenv("http_proxy", proxy.url)
    assert face.exchange(get(fault_server.endpoint), proxy="").body == b"ok"
    assert proxy.asked == []


@faces
def test_tls_goes_through_a_tunnel_to_the_server_itself(
    face: Face, proxy: Proxy, tmp_path: Path
) -> None:
    async def go() -> None:
        wire = face.wire(WireSettings(ca_bundle=server.ca_bundle, proxy=proxy.url))
        for _ in range(2):
            response = await wire.exchange(get(server.url))
            assert (response.body, response.header("etag")) == (b"ok", None)
            assert response.headers() == {"content-length": "2"}

    with tls_server(tmp_path, "127.0.0.1") as server:
        face.run(go())
        assert proxy.asked == [f"CONNECT {server.url.removeprefix('https://')}"]


@faces
def test_a_server_behind_a_tunnel_must_be_trusted_too(
    face: Face, proxy: Proxy, tmp_path: Path
) -> None:
    with tls_server(tmp_path, "127.0.0.1") as server, pytest.raises(TlsFailed) as caught:
        face.exchange(get(server.url), proxy=proxy.url)
    assert not caught.value.sent


@faces
def test_a_tunnel_that_is_refused_sends_nothing(face: Face, proxy: Proxy) -> None:
    with pytest.raises(ConnectFailed) as caught:
        face.exchange(put("https://refused.test/", b"body"), proxy=proxy.url)
    assert not caught.value.sent


@faces
def test_a_proxy_that_is_down_sends_nothing(face: Face, fault_server: FaultServer) -> None:
    with pytest.raises(ConnectFailed) as caught:
        face.exchange(get("http://127.0.0.1:2/"), proxy="http://127.0.0.1:1")
    assert not caught.value.sent


@faces
def test_a_silent_proxy_takes_the_connect_timeout(face: Face) -> None:
    silence = threading.Event()

    def talk(connection: socket.socket) -> None:
        silence.wait(5)

    with raw_server(talk) as url:
        with pytest.raises(ConnectFailed) as caught:
            face.exchange(get("https://x.test/"), proxy=url, connect_timeout_seconds=0.3)
        silence.set()
    assert not caught.value.sent


@faces
def test_a_proxys_password_is_in_no_message(face: Face) -> None:
    for proxy in "http://user:sesame@127.0.0.1:1", "http://user:sesame@no-such-host.invalid:1":
        with pytest.raises(WireError) as caught:
            face.exchange(get("http://127.0.0.1:2/"), proxy=proxy)
        assert "sesame" not in str(caught.value)


@faces
def test_a_proxy_that_hangs_up_after_the_request_may_have_passed_it_on(face: Face) -> None:
    def talk(connection: socket.socket) -> None:
        read_head(connection)

    with raw_server(talk) as url, pytest.raises(Disconnected) as caught:
        face.exchange(put("http://127.0.0.1:2/", b"body"), proxy=url)
    assert caught.value.sent

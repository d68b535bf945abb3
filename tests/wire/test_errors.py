"""Every way to get no reply: the class of the error, whether anything was sent, and how long it
takes to be told."""

import socket
import threading
from collections.abc import Callable

import pytest

from coatcheck.testing import FaultServer, free_port, garbage, redirect, reply
from coatcheck.wire.port import (
    ConnectFailed,
    Disconnected,
    ReplyTooLarge,
    Request,
    Stalled,
    TimedOut,
    TlsFailed,
    WireError,
)
from tests.wire.support import (
    Face,
    all_faces,
    black_hole,
    faces,
    get,
    put,
    raw_server,
    read_head,
    reset,
    takes,
)


def failure(face: Face, request: Request, **settings: object) -> WireError:
    with pytest.raises(WireError) as caught:
        face.exchange(request, **settings)
    assert str(caught.value)
    return caught.value


@all_faces
def test_a_refused_port_sends_nothing(face: Face) -> None:
    error = failure(face, get(f"http://127.0.0.1:{free_port()}/"))
    assert (type(error), error.sent) == (ConnectFailed, False)


@faces
def test_a_name_that_cannot_be_resolved_sends_nothing(face: Face) -> None:
    error = failure(face, get("http://no-such-host.invalid/"))
    assert (type(error), error.sent) == (ConnectFailed, False)
    assert "no-such-host.invalid" in error.reason


@faces
def test_an_impossible_url_sends_nothing(face: Face) -> None:
    error = failure(face, get("http://127.0.0.1:99999/"))
    assert (type(error), error.sent) == (ConnectFailed, False)


@all_faces
def test_a_host_that_swallows_connections_takes_the_connect_timeout(face: Face) -> None:
    with black_hole() as url, takes(at_least=0.28, at_most=1.5):
        error = failure(face, get(url), connect_timeout_seconds=0.3)
    assert (type(error), error.sent) == (ConnectFailed, False)


@faces
def test_time_that_runs_out_while_connecting_is_a_timeout_with_nothing_sent(face: Face) -> None:
    with black_hole() as url, takes(at_least=0.28, at_most=1.5):
        error = failure(face, get(url, seconds=0.3))
    assert (type(error), error.sent) == (TimedOut, False)


@faces
def test_a_reset_before_the_reply_may_have_been_done(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(reply().reset())
    error = failure(face, put(fault_server.endpoint, b"body"))
    assert (type(error), error.sent) == (Disconnected, True)


@faces
@pytest.mark.parametrize("after", [0, 10])
def test_a_reset_within_the_reply(face: Face, fault_server: FaultServer, after: int) -> None:
    fault_server.play(reply(body=b"x" * 100).reset(after_body_bytes=after))
    error = failure(face, get(fault_server.endpoint))
    assert (type(error), error.sent) == (Disconnected, True)


@faces
@pytest.mark.parametrize("after", [None, 0, 99])
def test_a_close_before_the_end_of_the_reply(
    face: Face, fault_server: FaultServer, after: int | None
) -> None:
    fault_server.play(reply(body=b"x" * 100).closed(after_body_bytes=after))
    error = failure(face, get(fault_server.endpoint))
    assert (type(error), error.sent) == (Disconnected, True)


@faces
def test_a_chunked_reply_that_is_cut(face: Face) -> None:
    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")

    with raw_server(talk) as url:
        error = failure(face, get(url))
    assert (type(error), error.sent) == (Disconnected, True)


@faces
def test_silence_ends_after_the_stall_timeout(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(reply().stalled())
    with takes(at_least=0.9, at_most=2.5):
        error = failure(face, get(fault_server.endpoint), stall_timeout_seconds=1)
    assert (type(error), error.sent) == (Stalled, True)


@faces
def test_a_drip_below_the_floor_ends_after_the_stall_timeout(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply(body=b"x" * 10_000).dripped(1, 0.05))
    with takes(at_least=0.9, at_most=3.5):
        error = failure(face, get(fault_server.endpoint), stall_timeout_seconds=1)
    assert (type(error), error.sent) == (Stalled, True)


@faces
def test_a_server_that_does_not_take_the_body_stalls(face: Face) -> None:
    done = threading.Event()

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        done.wait(10)

    # The socket's buffer takes the first megabytes at once, and the average of some seconds counts.
    floor = {"stall_timeout_seconds": 1, "stall_bytes_per_second": 50_000_000}
    with raw_server(talk) as url, takes(at_least=0.9, at_most=3.5):
        error = failure(face, put(url, bytes(64 << 20)), **floor)
        done.set()
    assert (type(error), error.sent) == (Stalled, True)


@all_faces
def test_a_reply_that_takes_too_long_in_all_is_a_timeout(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply(body=b"x" * 100_000).dripped(2_000, 0.05))
    with takes(at_least=0.28, at_most=1.5):
        error = failure(face, get(fault_server.endpoint, seconds=0.3))
    assert (type(error), error.sent) == (TimedOut, True)


@faces
@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xffnot HTTP\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbody",
        b"HTTP/1.1 2",
    ],
    ids=["binary", "ssh", "length", "chunk", "cut"],
)
def test_what_is_not_http_may_have_been_done(
    face: Face, fault_server: FaultServer, data: bytes
) -> None:
    fault_server.play(garbage(data))
    error = failure(face, put(fault_server.endpoint, b"body"))
    assert (type(error), error.sent) == (Disconnected, True)


@faces
@pytest.mark.parametrize("size", [100_000, 8_000_000])
def test_a_refusal_before_the_body_has_arrived_is_a_reply(
    face: Face, fault_server: FaultServer, size: int
) -> None:
    fault_server.play(reply(503, b"<Error/>").early(request_body_bytes=1000))
    response = face.exchange(put(fault_server.endpoint, bytes(size)))
    assert (response.status, response.body) == (503, b"<Error/>")


@faces
def test_huge_headers_are_refused(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(reply().with_huge_headers(2_000_000))
    error = failure(face, get(fault_server.endpoint))
    assert (type(error), error.sent) == (Disconnected, True)


@faces
@pytest.mark.parametrize("shape", ["declared", "chunked", "undeclared"])
def test_a_reply_over_the_limit_is_refused_unread(
    face: Face, fault_server: FaultServer, shape: str
) -> None:
    whole = reply(body=b"x" * 4_000_000)
    fault_server.play(
        {"declared": whole, "chunked": whole.chunked(50_000), "undeclared": whole.declaring(None)}[
            shape
        ]
    )
    error = failure(face, get(fault_server.endpoint, limit=100_000))
    assert (type(error), error.sent) == (ReplyTooLarge, True)
    assert "100000 bytes" in error.reason


@faces
def test_a_reply_one_byte_over_a_small_limit_is_refused(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply(body=b"x" * 101))
    error = failure(face, get(fault_server.endpoint, limit=100))
    assert (type(error), error.sent) == (ReplyTooLarge, True)


@faces
def test_an_errors_xml_arrives_whatever_the_limit(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(reply(503, b"x" * 5_000))
    response = face.exchange(get(fault_server.endpoint, limit=0))
    assert (response.status, response.body) == (503, b"x" * 5_000)


@faces
def test_an_endless_error_is_refused(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(reply(503, b"x" * 4_000_000).chunked(50_000))
    assert type(failure(face, get(fault_server.endpoint, limit=0))) is ReplyTooLarge


@faces
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(face: Face, fault_server: FaultServer, status: int) -> None:
    with FaultServer(reply()) as elsewhere:
        fault_server.play(redirect(elsewhere.endpoint, status))
        response = face.exchange(get(fault_server.endpoint))
        assert (response.status, response.header("location")) == (status, elsewhere.endpoint)
        assert elsewhere.connections == 0


@faces
def test_plain_http_on_a_tls_port_is_not_trusted(face: Face) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with raw_server(talk) as url:
        error = failure(face, get(url.replace("http:", "https:")))
    assert (type(error), error.sent) == (TlsFailed, False)


@faces
@pytest.mark.parametrize("end", [reset, socket.socket.close])
def test_a_handshake_cut_short_is_a_failed_connection_worth_another_try(
    face: Face, end: Callable[[socket.socket], None]
) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        end(connection)

    with raw_server(talk) as url:
        error = failure(face, get(url.replace("http:", "https:")))
    assert (type(error), error.sent) == (ConnectFailed, False)


@faces
def test_an_unknown_method_is_a_mistake_and_leaves_the_wire_in_order(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply(body=b"ok"))
    with pytest.raises(KeyError, match="BREW"):
        face.exchange(Request("BREW", fault_server.endpoint, [], 5.0, 0))
    assert face.exchange(get(fault_server.endpoint)).body == b"ok"


@faces
def test_a_header_that_cannot_be_sent_is_a_mistake_and_leaves_the_wire_in_order(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply(body=b"ok"))
    with pytest.raises(UnicodeEncodeError):
        face.exchange(Request("GET", fault_server.endpoint, ["x-name: ä"], 5.0, 0))
    assert face.exchange(get(fault_server.endpoint)).body == b"ok"

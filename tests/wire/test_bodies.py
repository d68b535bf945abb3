"""What goes out and what comes back: sizes, shapes of replies, and replies into a buffer."""

import gc
import os
import socket
import subprocess
import sys
from hashlib import sha256

import pytest

from coatcheck.testing import FaultServer, reply
from coatcheck.wire.port import Disconnected, ReplyTooLarge, Request, Response, WireSettings
from tests.wire.support import (
    ASYNCIO_FACE,
    BLOCKING_FACE,
    Face,
    all_faces,
    faces,
    get,
    put,
    raw_server,
    read_head,
)

KIB, MIB = 1 << 10, 1 << 20


def noise(size: int) -> bytes:
    """Bytes in which any two places differ."""
    return (sha256(str(size).encode()).digest() * (size // 32 + 1))[:size]


@faces
@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 8 * MIB, 64 * MIB])
def test_bodies_arrive_whole_both_ways(face: Face, fault_server: FaultServer, size: int) -> None:
    body = noise(size)
    fault_server.play([reply(), reply(body=body), reply(body=body).chunked(100_000)])

    async def go() -> None:
        wire = face.wire(None)
        assert (await wire.exchange(put(fault_server.endpoint, body))).status == 200
        for _ in "declared", "chunked":
            response = await wire.exchange(get(fault_server.endpoint, limit=size))
            assert (response.body == body, response.received_bytes) == (True, size)

    face.run(go())
    sent = fault_server.requests[0]
    assert sent.body == body
    assert sent.headers["content-length"] == str(size)
    assert {"expect", "content-type", "transfer-encoding"}.isdisjoint(sent.headers)


@faces
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "POST"])
def test_each_method_goes_out_as_it_is_called(
    face: Face, fault_server: FaultServer, method: str
) -> None:
    fault_server.play(reply(204))
    headers = ["x-test: a b", "content-type: text/plain; charset=utf-8"]
    face.exchange(Request(method, f"{fault_server.endpoint}/a/../b//c?d=%20", headers, 5.0, 0))
    [request] = fault_server.requests
    assert (request.method, request.target) == (method, "/a/../b//c?d=%20")
    assert request.headers["x-test"] == "a b"
    assert request.headers["content-type"] == "text/plain; charset=utf-8"
    assert request.headers["user-agent"] == "coatcheck"


@faces
def test_a_view_of_bytes_is_sent_like_bytes(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(reply())
    body = noise(3 * MIB)
    face.exchange(put(fault_server.endpoint, memoryview(body)[5:-7]))
    assert fault_server.requests[0].body == body[5:-7]


@faces
def test_head_returns_the_length_of_a_body_that_is_not_there(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply(body=b"x" * 5_000_000))
    response = face.exchange(Request("HEAD", fault_server.endpoint, [], 5.0, 0))
    assert (response.body, response.header("content-length")) == (b"", "5000000")


@faces
@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", 304, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200, b"a"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nraw",
            200,
            b"raw",
        ),
    ],
)
def test_each_shape_of_reply_is_read_to_its_end(
    face: Face, data: bytes, status: int, body: bytes
) -> None:
    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(data)
        if b"HTTP/1.0" not in data:
            connection.recv(1)  # the client, not a close, ends this

    with raw_server(talk) as url:
        response = face.exchange(get(url, seconds=5))
    assert (response.status, response.body) == (status, body)


@faces
def test_an_interim_reply_is_passed_over_with_its_headers(face: Face) -> None:
    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(
            b"HTTP/1.1 100 Continue\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nETag: early\r\nLink: </x>\r\n\r\n"
            b"HTTP/1.1 200 OK: fine\r\nETag: late\r\nContent-Length: 2\r\n\r\nok"
        )

    with raw_server(talk) as url:
        response = face.exchange(get(url))
    assert (response.status, response.body) == (200, b"ok")
    assert response.headers() == {"etag": "late", "content-length": "2"}
    assert (response.header("etag"), response.header("link")) == ("late", None)


def test_headers_are_lower_case_and_the_last_one_wins() -> None:
    lines = [b"HTTP/1.1 200 OK\r\n", b"ETag: one\r\n", b"etag:two\r\n", b"X: \xe9:\r\n", b"\r\n"]
    response = Response(200, lines, b"", 0)
    assert response.headers() == {"etag": "two", "x": "\xe9:"}
    assert response.header("etag") == "two"


@faces
@pytest.mark.parametrize("size", [1, 100, 3 * MIB])
def test_a_reply_goes_into_its_buffer_and_nowhere_else(
    face: Face, fault_server: FaultServer, size: int
) -> None:
    body = noise(size)
    fault_server.play(reply(206, body))
    whole = bytearray(b"-" * (size + 20))
    response = face.exchange(
        get(fault_server.endpoint, limit=size, into=memoryview(whole)[10 : size + 10])
    )
    assert (response.received_bytes, response.body) == (size, b"")
    assert whole == b"-" * 10 + body + b"-" * 10


@faces
@pytest.mark.parametrize("shape", ["declared", "chunked"])
@pytest.mark.parametrize("excess", [1, 3 * MIB])
def test_a_reply_too_long_for_its_buffer_is_refused_and_nothing_is_written_beyond(
    face: Face, fault_server: FaultServer, shape: str, excess: int
) -> None:
    size = MIB
    long = reply(body=b"x" * (size + excess))
    fault_server.play(long if shape == "declared" else long.chunked(10_000))
    whole = bytearray(b"-" * (size + 20))
    with pytest.raises(ReplyTooLarge):
        face.exchange(
            get(fault_server.endpoint, limit=size, into=memoryview(whole)[10 : size + 10])
        )
    assert whole[:10] + whole[-10:] == b"-" * 20


@faces
def test_a_reply_too_short_for_its_buffer_tells_how_much_came(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply(body=b"short"))
    response = face.exchange(get(fault_server.endpoint, limit=100, into=memoryview(bytearray(100))))
    assert response.received_bytes == 5


@faces
def test_an_error_is_returned_beside_the_buffer(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(reply(404, b"<Error/>"))
    buffer = bytearray(8)
    response = face.exchange(get(fault_server.endpoint, limit=8, into=memoryview(buffer)))
    assert (response.status, response.body, response.received_bytes) == (404, b"<Error/>", 8)
    assert buffer == bytes(8)


@faces
def test_a_buffer_interrupted_half_way_is_not_written_to_again(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play([reply(body=b"x" * 200).closed(after_body_bytes=100), reply(body=b"y" * 200)])
    first, second = bytearray(200), bytearray(200)

    async def go() -> None:
        wire = face.wire(None)
        with pytest.raises(Disconnected):
            await wire.exchange(get(fault_server.endpoint, limit=200, into=memoryview(first)))
        await wire.exchange(get(fault_server.endpoint, limit=200, into=memoryview(second)))

    face.run(go())
    assert first[100:] == bytes(100)
    assert second == b"y" * 200


@faces
@pytest.mark.parametrize("flaw", ["read-only", "released"])
def test_a_buffer_that_takes_nothing_harms_only_its_own_exchange(
    face: Face, fault_server: FaultServer, flaw: str
) -> None:
    fault_server.play(
        lambda head: reply(body=b"good" if head.target == "/good" else b"x" * 10).stalled(0)
    )
    buffer = memoryview(bytes(10) if flaw == "read-only" else bytearray(10))

    async def go() -> list[object]:
        wire = face.wire(None)

        async def bad() -> object:
            try:
                return await wire.exchange(
                    get(f"{fault_server.endpoint}/bad", limit=10, into=buffer)
                )
            except (TypeError, ValueError) as error:
                return type(error)

        async def good() -> object:
            return (await wire.exchange(get(f"{fault_server.endpoint}/good"))).body

        async def release() -> None:
            await face.runtime.offload(lambda: fault_server.wait_for_requests(2))
            if flaw == "released":
                buffer.release()
            fault_server.release()

        async def last() -> None:
            await face.runtime.sleep(0.05)  # on the blocking runtime, `release` blocks its run
            await release()

        return await face.runtime.gather([bad, good, last], limit=3)

    outcome = face.run(go())
    assert outcome == [TypeError if flaw == "read-only" else ValueError, b"good", None]


@all_faces
def test_an_exchange_leaves_no_body_behind(face: Face, fault_server: FaultServer) -> None:
    sent, filled = noise(KIB), bytearray(100)
    fault_server.play([reply(), reply(body=b"x" * 100), reply(body=b"x" * 100).closed(50)])

    async def go() -> None:
        wire = face.wire(None)
        await wire.exchange(put(fault_server.endpoint, sent))
        into = memoryview(filled)
        await wire.exchange(get(fault_server.endpoint, limit=100, into=into))
        with pytest.raises(Disconnected):
            await wire.exchange(get(fault_server.endpoint, limit=100, into=into))

    before = sys.getrefcount(sent), sys.getrefcount(filled)
    gc.disable()
    try:
        face.run(go())
        assert (sys.getrefcount(sent), sys.getrefcount(filled)) == before
    finally:
        gc.enable()


IDLE_MEMORY = """
import sys
from tests.wire.support import {face} as face, get, put
from coatcheck.testing import FaultServer, reply

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

size = 4 << 20
with FaultServer(lambda head: reply(body=bytes(size)) if head.method == "GET" else reply()) as s:
    async def go():
        wire = face.wire(None)
        await wire.exchange(get(s.endpoint, limit=1 << 30))
        s._requests.clear()
        before = resident()
        for _ in range(2):
            await face.runtime.gather(
                [lambda: wire.exchange(put(s.endpoint, bytes(size)))] * 4
                + [lambda: wire.exchange(get(s.endpoint, limit=size))] * 4, limit=8)
            s._requests.clear()
        return resident() - before
    print(face.run(go()))
"""


@pytest.mark.parametrize("face", [ASYNCIO_FACE, BLOCKING_FACE], ids=lambda face: face.name)
def test_idle_handles_hold_no_bodies(face: Face) -> None:
    name = f"{face.name.upper()}_FACE"
    ran = subprocess.run(
        [sys.executable, "-c", IDLE_MEMORY.format(face=name)],
        capture_output=True,
        text=True,
        check=False,
        # Freed memory goes back to the system at once, so that what is left is held by somebody.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 6 * MIB


def test_nothing_secret_shows_in_a_representation() -> None:
    request = put("http://127.0.0.1/", b"payload-body")
    request.headers.append("authorization: AWS4-HMAC-SHA256 Signature=abc")
    settings = WireSettings(proxy="http://user:password@proxy.test")
    shown = repr(request) + repr(settings)
    assert "payload-body" not in shown
    assert "Signature" not in shown
    assert "password" not in shown

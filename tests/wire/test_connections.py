"""Connections: kept and used again, replaced when dead, limited in number, unseen by select."""

import asyncio
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from coatcheck.runtime import run
from coatcheck.testing import FaultServer, reply
from coatcheck.wire import blocking, curl
from coatcheck.wire.port import Disconnected, ReplyTooLarge, Request, TimedOut, WireSettings
from tests.wire.support import (
    ASYNCIO_FACE,
    BLOCKING_FACE,
    UVLOOP_FACE,
    Face,
    all_faces,
    faces,
    fresh_engines,
    get,
    put,
    raw_server,
    read_head,
    takes,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@all_faces
def test_one_connection_serves_one_exchange_after_the_other(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply(body=b"body"))

    async def go() -> None:
        for wire in face.wire(None), face.wire(None):
            for method in "GET", "HEAD", "DELETE", "POST", "GET", "PUT":
                await wire.exchange(Request(method, fault_server.endpoint, [], 5.0, 100, b"b"))

    face.run(go())
    assert (len(fault_server.requests), fault_server.connections) == (12, 1)


def test_blocking_calls_on_any_thread_share_the_kept_connections(fault_server: FaultServer) -> None:
    fault_server.play(reply())
    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(BLOCKING_FACE.exchange, get(fault_server.endpoint)).result()
    assert fault_server.connections == 1


@pytest.mark.parametrize("face", [ASYNCIO_FACE, UVLOOP_FACE], ids=lambda face: face.name)
def test_a_new_loop_takes_over_the_connections_of_a_closed_one(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply())
    for _ in range(3):
        face.exchange(get(fault_server.endpoint))
    assert fault_server.connections == 1


@faces
def test_an_exchange_that_failed_gives_its_connection_up(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play([reply(body=b"x" * 200_000), reply(body=b"ok")])

    async def go() -> bytes:
        wire = face.wire(None)
        with pytest.raises(ReplyTooLarge):
            await wire.exchange(get(fault_server.endpoint, limit=10))
        return (await wire.exchange(get(fault_server.endpoint))).body

    assert face.run(go()) == b"ok"
    assert fault_server.connections == 2


@faces
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_connection_closed_while_idle_is_replaced(face: Face, method: str) -> None:
    served = threading.Semaphore(0)
    closed = threading.Event()

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(OK)
        served.release()
        connection.close()
        closed.set()

    async def go(url: str) -> None:
        wire = face.wire(None)
        for _ in range(3):
            closed.clear()
            request = Request(method, url, ["content-length: 0"], 5.0, 10)
            assert (await wire.exchange(request)).body == b"ok"
            await face.runtime.offload(closed.wait)

    with raw_server(talk) as url:
        face.run(go(url))
    assert [served.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


@faces
@pytest.mark.parametrize("body", [b"x", b"x" * 100_000, b"x" * 5_000_000])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_body_goes_out_once_though_a_kept_connection_breaks(
    face: Face, fault_server: FaultServer, method: str, body: bytes
) -> None:
    """The server has done the first request; a second could be answered "there already"."""
    fault_server.play([reply(), reply().closed(), reply(412)])

    async def go() -> None:
        wire = face.wire(None)
        await wire.exchange(get(fault_server.endpoint))
        with pytest.raises(Disconnected) as caught:
            await wire.exchange(Request(method, fault_server.endpoint, [], 5.0, 0, body))
        assert caught.value.sent

    face.run(go())
    assert [request.method for request in fault_server.requests] == ["GET", method]


@faces
def test_an_empty_put_goes_out_once_though_its_connection_breaks(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play([reply(), reply().closed(), reply(412)])

    async def go() -> None:
        wire = face.wire(None)
        await wire.exchange(get(fault_server.endpoint))
        with pytest.raises(Disconnected):
            await wire.exchange(put(fault_server.endpoint, b""))

    face.run(go())
    assert [request.method for request in fault_server.requests] == ["GET", "PUT"]


@faces
def test_a_full_put_after_an_empty_one_uses_a_kept_connection(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply())

    async def go() -> None:
        wire = face.wire(None)
        for body in b"", b"full", b"full":
            await wire.exchange(put(fault_server.endpoint, body))

    face.run(go())
    assert fault_server.connections == 1


@all_faces
def test_64_at_once_and_the_rest_wait_their_turn(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(reply(body=b"ok").stalled())
    total = curl.MAX_CONNECTIONS + 6

    async def go() -> list[bytes]:
        wire = face.wire(None)

        async def one() -> bytes:
            return (await wire.exchange(get(fault_server.endpoint))).body

        return await face.runtime.gather([one] * total, limit=total)

    with ThreadPoolExecutor(1) as pool:
        replies = pool.submit(face.run, go())
        fault_server.wait_for_requests(curl.MAX_CONNECTIONS)
        time.sleep(0.1)  # for what must not happen there is no event
        assert len(fault_server.requests) == curl.MAX_CONNECTIONS
        fault_server.release()
        assert replies.result() == [b"ok"] * total
    assert fault_server.connections == curl.MAX_CONNECTIONS


@faces
def test_waiting_for_a_turn_is_neither_connecting_nor_stalling(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curl, "MAX_CONNECTIONS", 1)

    def talk(connection: socket.socket) -> None:
        while True:
            read_head(connection)
            time.sleep(0.3)
            connection.sendall(OK)

    async def go(url: str) -> list[bytes]:
        wire = face.wire(WireSettings(connect_timeout_seconds=0.2, stall_timeout_seconds=1))

        async def one() -> bytes:
            return (await wire.exchange(get(url))).body

        return await face.runtime.gather([one] * 5, limit=5)

    with raw_server(talk) as url, takes(at_least=1.4, at_most=4), fresh_engines():
        assert face.run(go(url)) == [b"ok"] * 5


@faces
def test_time_that_runs_out_while_waiting_for_a_turn_is_a_timeout(
    face: Face, monkeypatch: pytest.MonkeyPatch, fault_server: FaultServer
) -> None:
    monkeypatch.setattr(curl, "MAX_CONNECTIONS", 1)
    fault_server.play(reply().stalled())

    async def go() -> object:
        wire = face.wire(None)

        async def one(seconds: float) -> object:
            try:
                return await wire.exchange(get(fault_server.endpoint, seconds=seconds))
            except TimedOut as error:
                return error.sent

        return await face.runtime.gather([lambda: one(0.5), lambda: one(0.2)], limit=2)

    with fresh_engines(), takes(at_least=0.4, at_most=2):
        assert face.run(go()) == [True, False]


@pytest.fixture
def _many_descriptors() -> Iterator[None]:
    """Fill the places that select() can see."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1400:
        pytest.skip("the system grants no 1,400 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1400), hard))
    descriptors = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while descriptors[-1] < 1100:
            descriptors.append(os.dup(descriptors[0]))
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_descriptors")
@all_faces
def test_descriptors_over_1023_are_waited_for_without_spinning(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(reply(body=b"x" * 3_000_000).stalled(after_body_bytes=1_000_000))

    async def go() -> bytes:
        wire = face.wire(None)
        with ThreadPoolExecutor(1) as pool:
            release = pool.submit(_release_later, fault_server)
            body = (await wire.exchange(get(fault_server.endpoint, limit=1 << 30))).body
            release.result()
        return body

    started = time.thread_time()
    with fresh_engines(), takes(at_least=0.5, at_most=3):
        assert len(face.run(go())) == 3_000_000
    assert time.thread_time() - started < 0.2


def _release_later(server: FaultServer) -> None:
    server.wait_for_requests()
    time.sleep(0.5)
    server.release()


def test_connections_seen_and_unseen_by_select_on_one_engine_both_get_on(
    fault_server: FaultServer,
) -> None:
    """Waiting for those that can be seen must not hold up those that cannot."""
    fault_server.play(
        lambda head: reply(body=b"x") if head.target == "/quick" else reply().stalled()
    )

    async def go() -> float:
        wire = BLOCKING_FACE.wire(None)

        async def slow() -> float:
            await wire.exchange(get(f"{fault_server.endpoint}/slow"))
            return 0.0

        async def quick() -> float:
            await BLOCKING_FACE.runtime.sleep(0.05)
            fillers = [os.open(os.devnull, os.O_RDONLY)]
            while fillers[-1] < 1100:
                fillers.append(os.dup(fillers[0]))
            try:
                await wire.exchange(get(f"{fault_server.endpoint}/quick"))
                started = time.monotonic()
                for _ in range(10):
                    await wire.exchange(get(f"{fault_server.endpoint}/quick"))
                return time.monotonic() - started
            finally:
                for filler in fillers:
                    os.close(filler)
                fault_server.release()

        return (await BLOCKING_FACE.runtime.gather([slow, quick], limit=2))[1]

    with fresh_engines():
        # Ten slices of waiting would be two seconds.
        assert BLOCKING_FACE.run(go()) < 1


def test_a_name_is_looked_up_without_waiting_for_a_slice(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SLICE_SECONDS", 5)
    fault_server.play(reply())
    with fresh_engines(), takes(at_most=3):
        BLOCKING_FACE.exchange(get(fault_server.endpoint.replace("127.0.0.1", "localhost")))


def test_many_threads_share_one_wire(fault_server: FaultServer) -> None:
    fault_server.play(lambda head: reply(body=head.target.encode()))
    wire = BLOCKING_FACE.wire(None)

    def work(number: int) -> None:
        for turn in range(10):
            path = f"/{number}/{turn}"
            response = BLOCKING_FACE.run(wire.exchange(get(fault_server.endpoint + path)))
            assert response.body == path.encode()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(fault_server.requests) == 160
    assert fault_server.connections <= 16


def test_engines_of_a_crowd_of_threads_are_not_all_kept(fault_server: FaultServer) -> None:
    fault_server.play(reply().stalled())
    crowd = blocking.MAX_IDLE_ENGINES + 10
    with fresh_engines(), ThreadPoolExecutor(crowd) as pool:
        request = get(fault_server.endpoint)
        calls = [pool.submit(BLOCKING_FACE.exchange, request) for _ in range(crowd)]
        fault_server.wait_for_requests(crowd)
        fault_server.release()
        for call in calls:
            call.result()
        assert len(blocking._idle_engines) == blocking.MAX_IDLE_ENGINES


def test_the_loops_own_work_goes_on_during_an_exchange(fault_server: FaultServer) -> None:
    fault_server.play(reply().stalled())

    async def go() -> int:
        wire = ASYNCIO_FACE.wire(None)
        exchange = asyncio.ensure_future(wire.exchange(get(fault_server.endpoint)))
        turns = 0
        while not fault_server.requests:
            await asyncio.sleep(0.001)
            turns += 1
        for _ in range(100):
            await asyncio.sleep(0)
        fault_server.release()
        await exchange
        return turns

    assert asyncio.run(go()) >= 1

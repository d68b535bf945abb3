"""Cancelled exchanges on asyncio: the connection goes at once, and nobody else is harmed."""

import asyncio
import gc
import os
import signal
import stat
import time

import pycurl
import pytest

from coatcheck.testing import Behaviour, FaultServer, Request, reply
from coatcheck.wire import aio
from coatcheck.wire.aio import AsyncioWire
from coatcheck.wire.port import Disconnected
from tests.wire.support import (
    ASYNCIO_FACE,
    UVLOOP_FACE,
    Face,
    black_hole,
    get,
    open_descriptors,
    put,
    signalled,
)

loops = pytest.mark.parametrize("face", [ASYNCIO_FACE, UVLOOP_FACE], ids=lambda face: face.name)


def choose(head: Request) -> Behaviour:
    return reply(body=b"ok").stalled() if head.target == "/stalled" else reply(body=b"ok")


async def arrived(server: FaultServer, count: int = 1) -> None:
    await asyncio.to_thread(server.wait_for_requests, count)


@loops
@pytest.mark.parametrize("after", [None, 0, 500])
def test_a_cancelled_exchange_hangs_up_at_once(
    face: Face, fault_server: FaultServer, after: int | None
) -> None:
    fault_server.play(
        lambda head: (
            reply(body=b"x" * 1000).stalled(after)
            if head.target == "/stalled"
            else reply(body=b"ok")
        )
    )

    async def go() -> None:
        wire = AsyncioWire()
        exchange = asyncio.create_task(wire.exchange(get(f"{fault_server.endpoint}/stalled")))
        await arrived(fault_server)
        started = time.monotonic()
        exchange.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange
        assert time.monotonic() - started < 0.1
        await asyncio.to_thread(fault_server.wait_for_disconnect)
        assert (await wire.exchange(get(fault_server.endpoint))).body == b"ok"

    face.run(go())


@loops
def test_a_timeout_of_the_callers_ends_an_exchange(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(choose)

    async def go() -> None:
        wire = AsyncioWire()
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await wire.exchange(get(f"{fault_server.endpoint}/stalled"))
        with black_hole() as url, pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await wire.exchange(get(url))
        assert time.monotonic() - started < 0.5
        await asyncio.to_thread(fault_server.wait_for_disconnect)

    face.run(go())


@loops
def test_ctrl_c_ends_a_loop_and_its_exchanges_at_once(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(choose)

    async def go() -> None:
        wire = AsyncioWire()
        url = f"{fault_server.endpoint}/stalled"
        await ASYNCIO_FACE.runtime.gather([lambda: wire.exchange(get(url))] * 3, limit=3)

    with pytest.raises(KeyboardInterrupt), signalled(signal.SIGINT, 0.1) as sent:
        face.run(go())
    assert time.monotonic() - sent[0] < 0.5
    fault_server.wait_for_disconnect()
    fault_server.play(reply(body=b"ok"))
    assert face.exchange(get(fault_server.endpoint)).body == b"ok"


@loops
def test_500_cancelled_exchanges_leave_nothing_behind(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(choose)

    async def cancel(wire: AsyncioWire, wave: int) -> None:
        url = f"{fault_server.endpoint}/stalled"
        requests = [get(url), put(url, bytes(100_000))] * 25
        tasks = [asyncio.create_task(wire.exchange(request)) for request in requests]
        # Cancelled at all stages: before the first turn, while sending, while waiting.
        for _ in range(wave % 4):
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)

    async def go() -> None:
        wire = AsyncioWire()
        await wire.exchange(get(fault_server.endpoint))
        engine = aio._by_loop[asyncio.get_running_loop()]
        await cancel(wire, 3)
        await asyncio.to_thread(fault_server.wait_for_disconnect)
        before = open_descriptors()
        for wave in range(10):
            await cancel(wire, wave)
        assert not engine.active
        assert not engine._filling
        assert not engine._watched
        # Those that ended in the very moment of being cancelled may serve again: a wave's at most.
        assert sum(map(len, engine._pools.values())) <= 50
        await asyncio.to_thread(fault_server.wait_for_disconnect)
        assert open_descriptors() <= before
        assert (await wire.exchange(get(fault_server.endpoint))).body == b"ok"

    face.run(go())


@loops
def test_a_cancelled_exchange_does_not_take_its_handles_next_user_with_it(
    face: Face, fault_server: FaultServer
) -> None:
    """The reply and the cancellation come in one turn of the loop, and in the same turn another
    exchange begins, on the handle that the reply has freed."""
    fault_server.play(reply(body=b"ok").stalled())

    async def go() -> None:
        wire = AsyncioWire()
        first = asyncio.create_task(wire.exchange(get(fault_server.endpoint)))
        await arrived(fault_server)
        engine = aio._by_loop[asyncio.get_running_loop()]
        [descriptor] = [fd for fd in engine._watched if stat.S_ISSOCK(os.fstat(fd).st_mode)]
        fault_server.release()
        time.sleep(0.1)  # noqa: ASYNC251 # the loop must not see the reply before we do
        second = asyncio.create_task(wire.exchange(get(fault_server.endpoint)))
        first.cancel()
        engine.act(descriptor, pycurl.CSELECT_IN)
        assert not engine.active
        async with asyncio.timeout(5):
            assert (await second).body == b"ok"
        with pytest.raises(asyncio.CancelledError):
            await first

    face.run(go())


@loops
def test_the_neighbours_of_a_cancelled_exchange_go_on(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(choose)

    async def go() -> None:
        wire = AsyncioWire()
        url = f"{fault_server.endpoint}/stalled"
        tasks = [asyncio.create_task(wire.exchange(get(url))) for _ in range(8)]
        await arrived(fault_server, 8)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks[::2], return_exceptions=True)
        fault_server.release()
        assert [reply.body for reply in await asyncio.gather(*tasks[1::2])] == [b"ok"] * 4

    face.run(go())


def test_a_failure_is_no_cycle(fault_server: FaultServer) -> None:
    """An error that holds its frames, and they it, keeps the bodies until the collector comes."""
    fault_server.play(reply().closed())

    async def go() -> None:
        wire = AsyncioWire()

        async def job() -> None:
            await wire.exchange(get(fault_server.endpoint))

        for _ in range(2):
            with pytest.raises(Disconnected):
                await ASYNCIO_FACE.runtime.gather([job] * 3, limit=3)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(go())
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [found for found in gc.garbage if isinstance(found, Exception)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

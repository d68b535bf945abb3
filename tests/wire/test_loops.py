"""Event loops: one after the other, side by side in threads, closed in the midst of it all."""

import asyncio
import gc
import json
import subprocess
import sys
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop

from coatcheck.testing import Behaviour, FaultServer, Request, reply
from coatcheck.wire import aio
from coatcheck.wire.aio import AsyncioWire
from coatcheck.wire.port import WireSettings
from tests.wire.support import (
    ASYNCIO_FACE,
    UVLOOP_FACE,
    Face,
    fresh_engines,
    get,
    open_descriptors,
    put,
)

loops = pytest.mark.parametrize("face", [ASYNCIO_FACE, UVLOOP_FACE], ids=lambda face: face.name)
WIRE = AsyncioWire()


def choose(head: Request) -> Behaviour:
    answer = reply(body=b"ok" if head.method == "GET" else b"")
    return answer.stalled() if head.target == "/stalled" else answer


async def exchange(server: FaultServer) -> None:
    assert (await WIRE.exchange(get(server.endpoint))).body == b"ok"


@loops
def test_50_loops_one_after_the_other(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(choose)
    seen: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def go() -> None:
        seen.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*[exchange(fault_server) for _ in range(3)])

    with fresh_engines():
        face.run(go())
        before = open_descriptors()
        for _ in range(49):
            face.run(go())
        assert open_descriptors() <= before
        assert len(aio._engines) == 1
    assert fault_server.connections == 3
    gc.collect()
    assert sum(loop() is not None for loop in seen) <= 1


def test_a_loop_that_is_forgotten_unclosed_gives_its_engine_up(fault_server: FaultServer) -> None:
    fault_server.play(choose)
    with fresh_engines():
        for _ in range(3):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(exchange(fault_server))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # that is what this is about
                del loop
                gc.collect()
        assert len(aio._engines) == 1


@loops
def test_8_loops_side_by_side_in_threads(face: Face, fault_server: FaultServer) -> None:
    fault_server.play(lambda head: reply(body=head.target.encode()))
    together = threading.Barrier(8)

    async def go(number: int) -> None:
        together.wait()

        async def one(turn: int) -> None:
            path = f"/{number}/{turn}"
            assert (await WIRE.exchange(get(fault_server.endpoint + path))).body == path.encode()

        for _ in range(3):
            await asyncio.gather(*[one(turn) for turn in range(8)])

    with fresh_engines():
        with ThreadPoolExecutor(8) as pool:
            for _ in range(2):
                list(pool.map(lambda number: face.run(go(number)), range(8)))
        assert len(aio._engines) == 8
    assert len(fault_server.requests) == 2 * 8 * 3 * 8


@loops
def test_a_loop_closed_in_the_midst_of_an_exchange_takes_only_that_with_it(
    face: Face, fault_server: FaultServer
) -> None:
    fault_server.play(choose)
    unraisable: list[object] = []
    outer, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        loop = asyncio.new_event_loop() if face is ASYNCIO_FACE else uvloop.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)  # "destroyed but it is pending"
        task = loop.create_task(WIRE.exchange(get(f"{fault_server.endpoint}/stalled")))
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()
        for _ in range(2):
            face.run(exchange(fault_server))
        # Whoever collects it, and whenever, must not disturb the engine's next owner.
        del task, loop
        gc.collect()
        face.run(exchange(fault_server))
        assert unraisable == []
    finally:
        sys.unraisablehook = outer
    fault_server.release()


def test_a_loop_in_debug_mode_has_nothing_to_complain_of(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    fault_server.play(choose)

    async def go() -> None:
        asyncio.get_running_loop().slow_callback_duration = 5
        await asyncio.gather(*[exchange(fault_server) for _ in range(5)])
        await WIRE.exchange(put(fault_server.endpoint, bytes(1_000_000)))
        stalled = asyncio.create_task(WIRE.exchange(get(f"{fault_server.endpoint}/stalled")))
        await asyncio.to_thread(fault_server.wait_for_requests, 7)
        stalled.cancel()
        await asyncio.gather(stalled, return_exceptions=True)

    caplog.set_level("WARNING", "asyncio")
    asyncio.run(go(), debug=True)
    assert caplog.records == []


def test_a_reply_that_waits_for_a_busy_loop_is_no_stall(fault_server: FaultServer) -> None:
    fault_server.play(reply(body=bytes(300_000)).stalled(after_body_bytes=100_000))

    async def go() -> None:
        wire = AsyncioWire(WireSettings(stall_timeout_seconds=1))
        exchanging = asyncio.create_task(wire.exchange(get(fault_server.endpoint)))
        await asyncio.to_thread(fault_server.wait_for_requests)
        fault_server.release()
        time.sleep(1.7)  # noqa: ASYNC251 # this is the loop's being busy
        assert len((await exchanging).body) == 300_000

    asyncio.run(go())


STRICT = """
import asyncio, gc, json, sys
import uvloop
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.wire.aio import AsyncioWire
from coatcheck.wire.port import WireSettings
from coatcheck.wire.blocking import BlockingWire
from coatcheck.wire.port import Request, WireError

url = sys.argv[1]
problems = []
sys.unraisablehook = lambda problem: problems.append(repr(problem.exc_value))

async def go(wire, runtime):
    async def job():
        return (await wire.exchange(Request("GET", url, [], 5.0, 100))).body
    async def fail():
        try:
            await wire.exchange(Request("GET", "http://127.0.0.1:1/", [], 5.0, 100))
        except WireError:
            pass
    await runtime.gather([job, job, fail], limit=2)
    await runtime.finish(job, seconds=1)
    assert await runtime.offload(lambda: 3) == 3

for _ in range(2):
    asyncio.run(go(AsyncioWire(), ASYNCIO))
    uvloop.run(go(AsyncioWire(), ASYNCIO))
    BLOCKING.run(go(BlockingWire(), BLOCKING))
gc.collect()
print(json.dumps(problems))
"""


def test_development_mode_with_warnings_as_errors_is_silent(fault_server: FaultServer) -> None:
    fault_server.play(reply(body=b"ok"))
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", STRICT, fault_server.endpoint],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == []

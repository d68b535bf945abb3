"""A signal during a blocking call: its exception comes out within half a second, after the
clean-up, and the wire serves on."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from coatcheck.runtime.blocking import BLOCKING
from coatcheck.runtime.budget import ByteBudget
from coatcheck.testing import FaultServer, reply
from coatcheck.wire import blocking
from coatcheck.wire.blocking import BlockingWire
from tests.wire.support import (
    BLOCKING_FACE,
    black_hole,
    get,
    put,
    raw_server,
    read_head,
    signalled,
)

WIRE = BlockingWire()
BUDGET = ByteBudget(100)
Call = Callable[[FaultServer], Coroutine[Any, Any, object]]


class TimeIsUp(Exception):
    """What a soft time limit raises."""


async def waiting_for_headers(server: FaultServer) -> None:
    server.play(reply().stalled())
    await WIRE.exchange(get(server.endpoint))


async def amid_a_body(server: FaultServer) -> None:
    server.play(reply(body=b"x" * 1000).stalled(after_body_bytes=500))
    await WIRE.exchange(get(server.endpoint))


async def sending(server: FaultServer) -> None:
    never = threading.Event()

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        never.wait(3)

    with raw_server(talk) as url:
        try:
            await WIRE.exchange(put(url, bytes(64 << 20)))
        finally:
            never.set()


async def connecting(server: FaultServer) -> None:
    with black_hole() as url:
        await WIRE.exchange(get(url))


async def sleeping(server: FaultServer) -> None:
    await BLOCKING.sleep(20)


async def waiting_for_bytes(server: FaultServer) -> None:
    taken = await BUDGET.take(100, BLOCKING)
    try:
        await BUDGET.take(1, BLOCKING)
    finally:
        BUDGET.give_back(taken)


async def side_by_side(server: FaultServer) -> None:
    server.play(reply().stalled())
    jobs = [lambda: waiting_for_headers(server), sleep_long, lambda: waiting_for_bytes(server)]
    await BLOCKING.gather(jobs, limit=3)


async def sleep_long() -> None:
    await BLOCKING.sleep(20)


CALLS: list[Call] = [
    waiting_for_headers,
    amid_a_body,
    sending,
    connecting,
    sleeping,
    waiting_for_bytes,
    side_by_side,
]


def _time_is_up(number: int, frame: object) -> None:
    raise TimeIsUp


@pytest.fixture(params=[signal.SIGUSR1, signal.SIGINT], ids=["time-limit", "ctrl-c"])
def shot(request: pytest.FixtureRequest) -> Iterator[tuple[signal.Signals, type[BaseException]]]:
    # SIGUSR1 is the soft time limit of Celery's; SIGALRM is pytest's own.
    outer = signal.signal(signal.SIGUSR1, _time_is_up)
    yield request.param, TimeIsUp if request.param == signal.SIGUSR1 else KeyboardInterrupt
    signal.signal(signal.SIGUSR1, outer)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_an_interruption_comes_out_at_once_and_leaves_all_in_order(
    call: Call, shot: tuple[signal.Signals, type[BaseException]], fault_server: FaultServer
) -> None:
    number, error = shot
    with pytest.raises(error), signalled(number, 0.1) as sent:
        BLOCKING.run(call(fault_server))
    assert time.monotonic() - sent[0] < 0.5
    fault_server.wait_for_disconnect()
    assert BUDGET.free_bytes == 100
    assert not any(engine.active for engine in blocking._idle_engines)
    fault_server.play(reply(body=b"ok"))
    assert BLOCKING.run(WIRE.exchange(get(fault_server.endpoint))).body == b"ok"


@pytest.mark.usefixtures("shot")
@pytest.mark.parametrize("shot", [signal.SIGUSR1], indirect=True, ids=["time-limit"])
@pytest.mark.parametrize(
    "call",
    [waiting_for_headers, sleeping, waiting_for_bytes, side_by_side],
    ids=lambda call: call.__name__,
)
def test_a_signal_that_reaches_another_thread_of_the_process_interrupts_as_well(
    call: Call, fault_server: FaultServer
) -> None:
    """The system picks the thread, whose waiting it ends; the handler runs on the main thread."""
    sent: list[float] = []

    def receive() -> None:
        time.sleep(0.1)
        sent.append(time.monotonic())
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    thread = threading.Thread(target=receive)
    thread.start()
    with pytest.raises(TimeIsUp):
        BLOCKING.run(call(fault_server))
    assert time.monotonic() - sent[0] < 0.5
    thread.join()


def test_the_clean_up_of_an_interrupted_call_runs_to_its_end(
    shot: tuple[signal.Signals, type[BaseException]], fault_server: FaultServer
) -> None:
    fault_server.play(lambda head: reply().stalled() if head.target == "/work" else reply())

    async def abort() -> None:
        await WIRE.exchange(get(f"{fault_server.endpoint}/abort"))

    async def go() -> None:
        try:
            await WIRE.exchange(get(f"{fault_server.endpoint}/work"))
        finally:
            await BLOCKING.finish(abort, seconds=5)

    number, error = shot
    with pytest.raises(error), signalled(number, 0.1):
        BLOCKING.run(go())
    assert [request.target for request in fault_server.requests] == ["/work", "/abort"]


def test_interrupted_twice_a_clean_up_that_hangs_ends_at_once(
    shot: tuple[signal.Signals, type[BaseException]], fault_server: FaultServer
) -> None:
    fault_server.play(reply().stalled())

    async def clean() -> None:
        await WIRE.exchange(get(fault_server.endpoint))

    number, error = shot
    with pytest.raises(error), signalled(number, 0.1), signalled(number, 0.3) as second:
        BLOCKING.run(BLOCKING.finish(clean, seconds=20))
    assert 0 < time.monotonic() - second[0] < 0.5
    fault_server.wait_for_disconnect()


def test_a_handler_that_does_not_raise_does_not_disturb(fault_server: FaultServer) -> None:
    fault_server.play(reply(body=b"x" * 1000).stalled(after_body_bytes=500))
    handled: list[int] = []

    def handle(number: int, frame: object) -> None:
        handled.append(number)
        # A handler may use the wire itself, in the midst of a call.
        with FaultServer(reply(body=b"within")) as other:
            assert BLOCKING_FACE.exchange(get(other.endpoint)).body == b"within"
        fault_server.release()

    outer = signal.signal(signal.SIGUSR1, handle)
    try:
        with signalled(signal.SIGUSR1, 0.1):
            response = BLOCKING.run(WIRE.exchange(get(fault_server.endpoint)))
    finally:
        signal.signal(signal.SIGUSR1, outer)
    assert (len(response.body), handled) == (1000, [signal.SIGUSR1])


STRESS = """
import json, random, signal, sys, time
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.runtime.budget import ByteBudget
from coatcheck.wire import blocking
from coatcheck.wire.blocking import BlockingWire
from coatcheck.wire.port import Request

class Shot(Exception):
    pass

shots = hits = 0
def shoot(number, frame):
    global shots
    # Before its first step, give_back is as good as not called; nothing can mend that.
    if frame.f_code is not ByteBudget.give_back.__code__:
        shots += 1
        raise Shot

signal.signal(signal.SIGALRM, shoot)
wire, budget, url = BlockingWire(), ByteBudget(100), sys.argv[1]
chance = random.Random(7)

async def job():
    taken = await budget.take(60, BLOCKING)
    try:
        await wire.exchange(Request("PUT", url, [], 10.0, 100, bytes(20_000)))
    finally:
        budget.give_back(taken)

async def call():
    await BLOCKING.gather([job] * 3, limit=3)

slowest = 0.0
while shots < 300:
    started = time.monotonic()
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00005, 0.004))
            BLOCKING.run(call())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Shot:
        hits += 1
    slowest = max(slowest, time.monotonic() - started)
BLOCKING.run(call())
print(json.dumps({
    "lost": shots - hits,
    "free": budget.free_bytes,
    "active": sum(len(engine.active) for engine in blocking._idle_engines),
    "engines": len(blocking._idle_engines),
    "slow": slowest > 0.5 and slowest,
}))
"""


def test_300_signals_at_random_instants(fault_server: FaultServer) -> None:
    fault_server.play(reply(body=b"ok"))
    ran = subprocess.run(
        [sys.executable, "-c", STRESS, fault_server.endpoint],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    expected = {"lost": 0, "free": 100, "active": 0, "engines": 1, "slow": False}
    assert json.loads(ran.stdout) == expected, ran.stderr
    assert "Error" not in ran.stderr

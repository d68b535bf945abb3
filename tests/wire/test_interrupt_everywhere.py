"""A signal handler that raises at any instant of a blocking call: the exception comes out, and
the wire, the budget and the scheduler are as good as before."""

import gc
import inspect
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

import coatcheck.runtime.blocking
import coatcheck.runtime.budget
import coatcheck.runtime.run
import coatcheck.wire.blocking
import coatcheck.wire.curl
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.runtime.budget import ByteBudget
from coatcheck.testing import FaultServer, reply
from coatcheck.wire import blocking
from coatcheck.wire.blocking import BlockingWire
from tests.wire.checkpoints import Checkpoints
from tests.wire.support import fresh_engines, get, put

FILES = frozenset(
    str(module.__file__)
    for module in (
        coatcheck.runtime.blocking,
        coatcheck.runtime.budget,
        coatcheck.runtime.run,
        coatcheck.wire.blocking,
        coatcheck.wire.curl,
    )
)
LIMIT = 1000
Scene = Callable[[str, ByteBudget], Coroutine[Any, Any, object]]


class Shot(BaseException):
    """What the signal handler raises."""


class Failed(Exception):
    """What a job raises by itself."""


async def one_exchange(url: str, budget: ByteBudget) -> None:
    await BlockingWire().exchange(put(url, b"body"))


async def one_into_a_buffer(url: str, budget: ByteBudget) -> None:
    into = memoryview(bytearray(2))
    await BlockingWire().exchange(get(url, limit=2, into=into))


async def a_nap(url: str, budget: ByteBudget) -> None:
    await BLOCKING.sleep(0.0005)


async def side_by_side_within_a_budget(url: str, budget: ByteBudget) -> None:
    wire = BlockingWire()

    async def job() -> None:
        taken = await budget.take(LIMIT * 3 // 4, BLOCKING)
        try:
            await wire.exchange(get(url))
        finally:
            budget.give_back(taken)

    await BLOCKING.gather([job] * 3, limit=2)


async def a_failure_and_its_clean_up(url: str, budget: ByteBudget) -> None:
    wire = BlockingWire()

    async def fail() -> None:
        raise Failed

    async def job() -> None:
        taken = await budget.take(10, BLOCKING)
        try:
            await BLOCKING.sleep(5)
        finally:
            budget.give_back(taken)
            await BLOCKING.finish(clean, seconds=1)

    async def clean() -> None:
        await wire.exchange(get(url))

    try:
        await BLOCKING.gather([job, job, fail], limit=3)
    except Failed:
        return


SCENES: list[Scene] = [
    one_exchange,
    one_into_a_buffer,
    a_nap,
    side_by_side_within_a_budget,
    a_failure_and_its_clean_up,
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_an_interruption_anywhere(
    scene: Scene, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.play(lambda head: reply(body=b"ok" if head.method == "GET" else b""))
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", _grave_into(unraisable))
    budget = ByteBudget(LIMIT)
    with fresh_engines():
        # Python 3.12 traces operations only after it has been asked to once before.
        warm_up = Checkpoints(FILES, 0, Shot())
        warm_up.run(partial(BLOCKING.run, scene(fault_server.endpoint, budget)))
        wanted = 0
        while True:
            wanted += 1
            coroutine = scene(fault_server.endpoint, budget)
            checkpoints = Checkpoints(FILES, wanted, Shot())
            try:
                checkpoints.run(partial(BLOCKING.run, coroutine))
            except Shot:
                if inspect.getcoroutinestate(coroutine) != inspect.CORO_CLOSED:
                    # Raised before the first step of `run`, which was as good as not called.
                    assert checkpoints.place.endswith(" in BlockingRuntime.run")
                    assert checkpoints.is_entry
                    coroutine.close()
            else:
                assert not checkpoints.place, f"swallowed at {checkpoints.place}"
                break
            assert not unraisable, (checkpoints.place, unraisable)
            if budget.free_bytes < LIMIT:
                # Raised before the first step of `give_back`, which then was as good as not called.
                assert checkpoints.place.endswith(" in ByteBudget.give_back")
                assert checkpoints.is_entry
                budget.forget_holders()
            assert not any(engine.active for engine in blocking._idle_engines), checkpoints.place
            BLOCKING.run(scene(fault_server.endpoint, budget))
    gc.collect()
    assert not unraisable
    assert wanted > 10


def _grave_into(unraisable: list[object]) -> Callable[["sys.UnraisableHookArgs"], None]:
    def note(problem: "sys.UnraisableHookArgs") -> None:
        # CPython does not look for signals between the making of a coroutine and its first turn.
        if "was never awaited" not in str(problem.exc_value):
            unraisable.append((problem.exc_value, problem.object))

    return note

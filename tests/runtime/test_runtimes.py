"""What every runtime does the same: the same test bodies on asyncio, uvloop and plain threads."""

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import uvloop

from coatcheck.runtime.aio import ASYNCIO
from coatcheck.runtime.blocking import BLOCKING, iterate
from coatcheck.runtime.port import Job, Runtime
from coatcheck.runtime.run import Cancelled

STOPPED = (asyncio.CancelledError, Cancelled)


@dataclass(frozen=True)
class Kind:
    name: str
    runtime: Runtime
    run: Callable[[Coroutine[Any, Any, Any]], Any]


KINDS = [
    Kind("asyncio", ASYNCIO, asyncio.run),
    Kind("uvloop", ASYNCIO, uvloop.run),
    Kind("blocking", BLOCKING, BLOCKING.run),
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


class Failed(Exception):
    pass


class Grave(BaseException):
    """Like KeyboardInterrupt, but pytest does not mind."""


async def value(runtime: Runtime, number: int, seconds: float) -> int:
    await runtime.sleep(seconds)
    return number


async def fail(error: BaseException) -> None:
    raise error


@kinds
@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_gather_returns_the_results_in_the_order_given(kind: Kind, count: int) -> None:
    jobs = [partial(value, kind.runtime, n, 0.001 * (count - n)) for n in range(count)]
    assert kind.run(kind.runtime.gather(jobs, limit=4)) == list(range(count))


@kinds
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_gather_keeps_its_limit_and_starts_in_order(kind: Kind, limit: int) -> None:
    under_way = 0
    most = 0
    started: list[int] = []

    async def job(number: int) -> None:
        nonlocal under_way, most
        started.append(number)
        under_way += 1
        most = max(most, under_way)
        await kind.runtime.sleep(0.001)
        under_way -= 1

    kind.run(kind.runtime.gather([partial(job, n) for n in range(8)], limit=limit))
    assert (most, started) == (min(limit, 8), list(range(8)))


@kinds
def test_jobs_run_side_by_side(kind: Kind) -> None:
    started = time.monotonic()
    kind.run(kind.runtime.gather([lambda: kind.runtime.sleep(0.1)] * 10, limit=10))
    assert 0.1 <= time.monotonic() - started < 0.5


@kinds
def test_the_first_failure_cancels_the_rest_waits_for_them_and_is_raised(kind: Kind) -> None:
    ended: list[str] = []

    async def patient(name: str) -> None:
        try:
            await kind.runtime.sleep(20)
        except STOPPED:
            await kind.runtime.sleep(0.02)
            ended.append(name)
            raise

    async def impatient() -> None:
        await kind.runtime.sleep(0.01)
        raise Failed("first")

    async def unstarted() -> None:
        raise AssertionError

    async def go() -> None:
        jobs: list[Job[None]] = [partial(patient, "a"), impatient, partial(patient, "b"), unstarted]
        await kind.runtime.gather(jobs, limit=3)

    with pytest.raises(Failed, match="first"):
        kind.run(go())
    assert sorted(ended) == ["a", "b"]


def test_what_is_no_exception_does_the_same_on_threads() -> None:
    """asyncio takes it to the caller of its loop, past everybody."""
    ended: list[str] = []

    async def patient() -> None:
        try:
            await BLOCKING.sleep(20)
        finally:
            ended.append("patient")

    async def grave() -> None:
        await BLOCKING.sleep(0.01)
        raise Grave

    async def untidy() -> None:
        try:
            await BLOCKING.sleep(20)
        finally:
            raise Grave("in the clean-up of another's failure")

    async def go(*jobs: Job[None]) -> None:
        await BLOCKING.gather(jobs, limit=3)

    with pytest.raises(Grave):
        BLOCKING.run(go(patient, grave, patient))
    assert ended == ["patient", "patient"]
    with pytest.raises(Grave, match="another's failure"):
        BLOCKING.run(go(patient, untidy, lambda: fail(Failed())))


@kinds
def test_a_failure_before_the_first_pause_is_not_missed(kind: Kind) -> None:
    async def quick() -> None:
        return None

    async def failing() -> None:
        raise Failed

    orders: list[list[Job[None]]] = [[failing, quick], [quick, failing]]
    for jobs in orders:
        with pytest.raises(Failed):
            kind.run(kind.runtime.gather(jobs, limit=2))


@kinds
def test_a_failure_in_the_clean_up_of_a_cancelled_job_does_not_hide_the_first(kind: Kind) -> None:
    async def untidy() -> None:
        try:
            await kind.runtime.sleep(20)
        finally:
            raise OSError("in the clean-up")

    async def go() -> None:
        await kind.runtime.gather([untidy, lambda: fail(Failed("first"))], limit=2)

    with pytest.raises(Failed, match="first"):
        kind.run(go())


@kinds
def test_a_nested_gather_is_cancelled_to_the_bottom(kind: Kind) -> None:
    runtime = kind.runtime
    ended: list[int] = []

    async def leaf(number: int) -> None:
        try:
            await runtime.sleep(20)
        finally:
            ended.append(number)

    async def branch(first: int) -> None:
        await runtime.gather([partial(leaf, first), partial(leaf, first + 1)], limit=2)

    async def late() -> None:
        await runtime.sleep(0.01)
        raise Failed

    async def go() -> None:
        jobs: list[Job[None]] = [partial(branch, 0), partial(branch, 2), late]
        await runtime.gather(jobs, limit=3)

    with pytest.raises(Failed):
        kind.run(go())
    assert sorted(ended) == [0, 1, 2, 3]


@kinds
def test_what_a_job_catches_does_not_cancel_the_rest(kind: Kind) -> None:
    async def careful() -> str:
        try:
            await kind.runtime.gather([lambda: fail(Failed())] * 2, limit=2)
        except Failed:
            return "caught"
        return "missed"

    async def other() -> str:
        await kind.runtime.sleep(0.02)
        return "whole"

    assert kind.run(kind.runtime.gather([careful, other], limit=2)) == ["caught", "whole"]


@kinds
def test_finish_returns_when_the_job_is_done_and_raises_what_it_raises(kind: Kind) -> None:
    done: list[int] = []

    async def job() -> None:
        await kind.runtime.sleep(0.01)
        done.append(1)

    kind.run(kind.runtime.finish(job, seconds=0))
    assert done == [1]
    with pytest.raises(Failed):
        kind.run(kind.runtime.finish(lambda: fail(Failed()), seconds=0))


async def cancel_after(runtime: Runtime, seconds: float, job: Callable[[], Any]) -> None:
    """Run `job` and have it cancelled after `seconds`, as a failing sibling does."""

    async def late() -> None:
        await runtime.sleep(seconds)
        raise Failed

    with pytest.raises(Failed):
        await runtime.gather([job, late], limit=2)


@kinds
def test_finish_completes_the_job_though_the_caller_is_cancelled(kind: Kind) -> None:
    runtime = kind.runtime
    told: list[object] = []

    async def job() -> None:
        await runtime.sleep(0.05)
        told.append("done")

    async def caller() -> None:
        try:
            await runtime.finish(job, seconds=5)
        except STOPPED as stopped:
            told.append(type(stopped))
            raise

    kind.run(cancel_after(runtime, 0.01, caller))
    assert told[0] == "done"
    assert told[1] in STOPPED


@kinds
def test_the_cancellation_wins_over_a_failure_of_the_job(kind: Kind) -> None:
    runtime = kind.runtime
    told: list[object] = []

    async def job() -> None:
        await runtime.sleep(0.05)
        raise OSError

    async def caller() -> None:
        try:
            await runtime.finish(job, seconds=5)
        except BaseException as stopped:
            told.append(type(stopped))
            raise

    kind.run(cancel_after(runtime, 0.01, caller))
    assert told[0] in STOPPED


@kinds
def test_finish_gives_up_after_its_time(kind: Kind) -> None:
    runtime = kind.runtime
    told: list[str] = []

    async def job() -> None:
        try:
            await runtime.sleep(20)
        finally:
            told.append("stopped")

    async def caller() -> None:
        await runtime.finish(job, seconds=0.05)

    started = time.monotonic()
    kind.run(cancel_after(runtime, 0.01, caller))
    assert 0.05 <= time.monotonic() - started < 0.5
    assert told == ["stopped"]


@kinds
def test_sleep_takes_at_least_its_time(kind: Kind) -> None:
    for seconds in 0.0, 0.03:
        started = kind.runtime.monotonic()
        kind.run(kind.runtime.sleep(seconds))
        # uvloop counts in milliseconds, from the beginning of the loop's turn.
        assert seconds - 0.002 <= kind.runtime.monotonic() - started < seconds + 0.3


@kinds
def test_offload_returns_what_the_work_does_or_raises_it(kind: Kind) -> None:
    async def go() -> tuple[int, str]:
        try:
            await kind.runtime.offload(lambda: 1 // 0)
        except ZeroDivisionError:
            return await kind.runtime.offload(lambda: 3), "raised"
        raise AssertionError

    assert kind.run(go()) == (3, "raised")


@kinds
def test_scope_names_what_coroutines_share_to_wait_for_each_other(kind: Kind) -> None:
    async def scope() -> object:
        return kind.runtime.scope()

    async def go() -> set[object]:
        return {await scope(), *await kind.runtime.gather([scope, scope], limit=2)}

    first, second = kind.run(go()), kind.run(go())
    assert (len(first), len(second)) == (1, 1)
    assert len({hash(each) for each in first}) == 1
    assert first != second


@kinds
def test_clocks_and_chance(kind: Kind) -> None:
    assert abs(kind.runtime.wall_clock() - time.time()) < 1
    assert len({kind.runtime.random() for _ in range(10)}) > 1
    assert 0 <= kind.runtime.random() < 1


@kinds
@pytest.mark.parametrize("order", ["wake first", "wait first", "another thread"])
def test_a_waiter_returns_when_it_is_woken(kind: Kind, order: str) -> None:
    runtime = kind.runtime

    async def go() -> None:
        waiter = runtime.waiter()
        if order == "wake first":
            waiter.wake()
            waiter.wake()
            await waiter.wait()
        elif order == "wait first":

            async def wake() -> None:
                await runtime.sleep(0.01)
                waiter.wake()

            await runtime.gather([waiter.wait, wake], limit=2)
        else:
            thread = threading.Timer(0.05, waiter.wake)
            thread.start()
            await waiter.wait()
            thread.join()
        waiter.wake()

    started = time.monotonic()
    kind.run(go())
    assert time.monotonic() - started < 0.5


@kinds
def test_a_waiter_may_be_woken_when_nobody_is_there_any_more(kind: Kind) -> None:
    async def go() -> object:
        return kind.runtime.waiter()

    kind.run(go()).wake()


@kinds
def test_a_waiter_that_is_cancelled_may_be_woken(kind: Kind) -> None:
    async def go() -> None:
        waiter = kind.runtime.waiter()
        await cancel_after(kind.runtime, 0.01, waiter.wait)
        waiter.wake()
        await kind.runtime.sleep(0)

    kind.run(go())


@kinds
def test_failures_are_no_cycles(kind: Kind) -> None:
    """An error that holds its frames, and they it, keeps the bodies until the collector comes."""
    runtime = kind.runtime

    async def patient() -> None:
        await runtime.sleep(20)

    async def late() -> None:
        await runtime.sleep(0.001)
        raise Failed

    async def go() -> None:
        for job in (
            lambda: runtime.gather([patient, late], limit=2),
            lambda: runtime.finish(late, seconds=1),
            lambda: cancel_after(runtime, 0.001, lambda: runtime.finish(patient, seconds=0)),
            lambda: cancel_after(runtime, 0.001, runtime.waiter().wait),
        ):
            with contextlib.suppress(Failed):
                await job()

    kind.run(go())
    gc.collect()
    gc.disable()
    try:
        kind.run(go())
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = [thing for thing in gc.garbage if isinstance(thing, BaseException)]
        assert found == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_a_second_cancellation_on_asyncio_ends_finish_at_once_and_is_passed_on() -> None:
    told: list[str] = []

    async def job() -> None:
        try:
            await asyncio.sleep(20)
        finally:
            await asyncio.sleep(0.02)
            told.append("stopped")

    async def go() -> None:
        caller = asyncio.create_task(ASYNCIO.finish(job, seconds=20))
        for _ in range(2):
            await asyncio.sleep(0.01)
            caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        told.append("raised")

    started = time.monotonic()
    asyncio.run(go())
    assert time.monotonic() - started < 1
    assert told == ["stopped", "raised"]


def test_gather_on_asyncio_waits_for_its_jobs_though_it_is_cancelled_again_and_again() -> None:
    told: list[str] = []

    async def job() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                continue
        told.append("stopped")

    async def go() -> None:
        caller = asyncio.create_task(ASYNCIO.gather([job, job], limit=2))
        for _ in range(3):
            await asyncio.sleep(0.01)
            assert told == []
            caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        told.append("raised")

    asyncio.run(go())
    assert told == ["stopped", "stopped", "raised"]


def test_a_timeout_around_gather_on_asyncio_is_a_timeout() -> None:
    async def go() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await ASYNCIO.gather([lambda: asyncio.sleep(20)] * 3, limit=2)

    asyncio.run(go())


def test_a_blocking_call_within_a_blocking_call() -> None:
    async def inner() -> object:
        await BLOCKING.sleep(0.001)
        return BLOCKING.scope()

    async def outer() -> tuple[object, object, object]:
        before = BLOCKING.scope()
        return before, BLOCKING.run(inner()), BLOCKING.scope()

    before, within, after = BLOCKING.run(outer())
    assert before is after
    assert before is not within


def test_what_belongs_to_an_event_loop_cannot_be_awaited_in_a_blocking_call() -> None:
    async def go() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="a blocking call cannot await"):
        BLOCKING.run(go())


def test_the_context_of_an_error_is_what_was_being_handled() -> None:
    async def go() -> None:
        try:
            raise Failed("first")
        except Failed:
            await BLOCKING.gather([lambda: fail(OSError("second"))] * 2, limit=2)

    with pytest.raises(OSError, match="second") as caught:
        BLOCKING.run(go())
    assert isinstance(caught.value.__context__, Failed)


def test_iterate_runs_the_clean_up_of_what_it_leaves() -> None:
    told: list[str] = []

    async def numbers() -> Any:
        try:
            for number in range(5):
                await BLOCKING.sleep(0)
                yield number
        finally:
            await BLOCKING.sleep(0.001)
            told.append("closed")

    assert list(iterate(numbers())) == [0, 1, 2, 3, 4]
    for number in iterate(numbers()):
        if number == 2:
            break
    gc.collect()
    assert told == ["closed", "closed"]


def test_a_wait_for_another_thread_costs_no_cpu() -> None:
    async def go() -> None:
        waiter = BLOCKING.waiter()
        threading.Timer(0.5, waiter.wake).start()
        await waiter.wait()

    used = time.thread_time()
    BLOCKING.run(go())
    assert time.thread_time() - used < 0.1

"""The byte budget: first come, first served, on any mix of threads and loops; all is given back."""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.errors import ConfigError
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.runtime.budget import PROCESS_BUDGET, ByteBudget
from coatcheck.runtime.port import Runtime
from tests.runtime.test_runtimes import KINDS, Failed, Kind, cancel_after, kinds


@kinds
def test_what_is_free_is_had_at_once_and_the_rest_in_turn(kind: Kind) -> None:
    budget = ByteBudget(100)
    order: list[str] = []

    async def job(name: str, size: int) -> None:
        taken = await budget.take(size, kind.runtime)
        order.append(name)
        await kind.runtime.sleep(0.001)
        budget.give_back(taken)

    jobs = [partial(job, *each) for each in [("a", 60), ("b", 60), ("c", 1), ("d", 100), ("e", 1)]]
    kind.run(kind.runtime.gather(jobs, limit=5))
    # "c" and "e" would fit beside "a", but come after who came first.
    assert order == ["a", "b", "c", "d", "e"]
    assert budget.free_bytes == 100


@kinds
def test_a_request_for_more_than_everything_is_served_alone(kind: Kind) -> None:
    budget = ByteBudget(100)

    async def go() -> None:
        small = await budget.take(1, kind.runtime)
        assert budget.free_bytes == 99

        async def large() -> int:
            return await budget.take(1000, kind.runtime)

        async def give_back() -> int:
            await kind.runtime.sleep(0.01)
            budget.give_back(small)
            return 0

        taken, _ = await kind.runtime.gather([large, give_back], limit=2)
        assert taken == 100
        assert budget.free_bytes == 0
        budget.give_back(taken)

    kind.run(go())
    assert budget.free_bytes == 100


@kinds
def test_who_is_cancelled_while_waiting_takes_nothing_and_lets_the_next_one_in(
    kind: Kind,
) -> None:
    budget = ByteBudget(100)

    async def go() -> None:
        held = await budget.take(50, kind.runtime)
        small: list[int] = []

        async def large() -> None:
            await budget.take(100, kind.runtime)
            raise AssertionError("never")

        async def behind() -> None:
            small.append(await budget.take(10, kind.runtime))

        async def cancelling() -> None:
            await cancel_after(kind.runtime, 0.01, large)

        await kind.runtime.gather([cancelling, behind], limit=2)
        # Served at once though nothing was given back: it fits, and nobody stands before it.
        assert (small, budget.free_bytes) == ([10], 40)
        budget.give_back(held)
        budget.give_back(10)

    kind.run(go())
    assert budget.free_bytes == 100


def test_who_is_cancelled_just_after_being_served_gives_it_back_on_threads() -> None:
    budget = ByteBudget(100)

    async def go() -> None:
        held = await budget.take(100, BLOCKING)

        async def second() -> None:
            await budget.take(100, BLOCKING)
            raise AssertionError("never")

        async def late() -> None:
            await BLOCKING.sleep(0.01)
            budget.give_back(held)  # serves the other...
            assert budget.free_bytes == 0
            raise Failed  # ...who is cancelled before its turn has come

        with pytest.raises(Failed):
            await BLOCKING.gather([second, late], limit=2)

    BLOCKING.run(go())
    assert budget.free_bytes == 100


def test_who_is_cancelled_just_after_being_served_gives_it_back_on_asyncio() -> None:
    budget = ByteBudget(100)

    async def go() -> None:
        held = await budget.take(100, ASYNCIO)
        second = asyncio.create_task(budget.take(100, ASYNCIO))
        await asyncio.sleep(0.01)
        budget.give_back(held)
        assert budget.free_bytes == 0
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(go())
    assert budget.free_bytes == 100


@kinds
def test_a_smaller_limit_serves_those_who_asked_for_more_than_it(kind: Kind) -> None:
    budget = ByteBudget(100)

    async def go() -> int:
        held = await budget.take(100, kind.runtime)

        async def waiting() -> int:
            return await budget.take(90, kind.runtime)

        async def shrink() -> int:
            await kind.runtime.sleep(0.01)
            budget.resize(40)
            assert budget.free_bytes == 0
            budget.give_back(held)
            return 0

        taken, _ = await kind.runtime.gather([waiting, shrink], limit=2)
        return taken

    taken = kind.run(go())
    assert (taken, budget.free_bytes) == (40, 0)
    budget.give_back(taken)
    assert budget.free_bytes == 40


@kinds
def test_a_larger_limit_serves_those_who_wait(kind: Kind) -> None:
    budget = ByteBudget(10)

    async def go() -> None:
        await budget.take(10, kind.runtime)

        async def waiting() -> None:
            await budget.take(10, kind.runtime)

        async def grow() -> None:
            await kind.runtime.sleep(0.01)
            budget.resize(25)

        await kind.runtime.gather([waiting, grow], limit=2)

    kind.run(go())
    assert budget.free_bytes == 5


def test_a_limit_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="0 bytes"):
        ByteBudget(1).resize(0)


class Usage:
    """Takes and gives back at random, and knows how much is held."""

    def __init__(self, budget: ByteBudget, seed: int) -> None:
        self.budget = budget
        self.chance = random.Random(seed)
        self.held = 0
        self.most = 0
        self._lock = threading.Lock()

    async def once(self, runtime: Runtime) -> None:
        taken = await self.budget.take(self.chance.randrange(60), runtime)
        with self._lock:
            self.held += taken
            self.most = max(self.most, self.held)
        try:
            await runtime.sleep(self.chance.choice([0, 0, 0.0005]))
        finally:
            with self._lock:
                self.held -= taken
            self.budget.give_back(taken)

    async def cancelled(self, runtime: Runtime) -> None:
        seconds = self.chance.choice([0, 0.0002, 0.0005])
        await cancel_after(runtime, seconds, partial(self.once, runtime))

    async def some(self, runtime: Runtime) -> None:
        kinds = [self.once, self.once, self.cancelled]
        jobs = [partial(self.chance.choice(kinds), runtime) for _ in range(12)]
        await runtime.gather(jobs, limit=8)


@given(seed=st.integers(0, 10_000), limit=st.integers(1, 70))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2]], ids=lambda kind: kind.name)
def test_never_more_is_held_than_there_is_and_all_is_given_back(
    kind: Kind, seed: int, limit: int
) -> None:
    budget = ByteBudget(limit)
    usage = Usage(budget, seed)
    kind.run(usage.some(kind.runtime))
    assert usage.most <= limit
    assert (budget.free_bytes, usage.held, len(budget._queue)) == (limit, 0, 0)


def test_threads_and_loops_share_one_budget() -> None:
    budget = ByteBudget(100)
    usage = Usage(budget, 7)

    async def many(runtime: Runtime) -> None:
        for _ in range(8):
            await usage.some(runtime)

    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(kind.run, many(kind.runtime)) for kind in KINDS * 2]
        for call in calls:
            call.result(timeout=60)
    assert usage.most <= 100
    assert (budget.free_bytes, usage.held, len(budget._queue)) == (100, 0, 0)


def test_a_thread_that_gives_back_wakes_a_loop_and_the_other_way_round() -> None:
    budget = ByteBudget(10)
    told: list[str] = []

    async def hold(runtime: Runtime, name: str) -> None:
        taken = await budget.take(10, runtime)
        told.append(name)
        await runtime.sleep(0.02)
        budget.give_back(taken)

    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(kind.run, hold(kind.runtime, kind.name)) for kind in KINDS * 2]
        for call in calls:
            call.result(timeout=10)
    assert (len(told), budget.free_bytes) == (6, 10)
    assert time.monotonic() - started < 2


def test_a_finalizer_may_give_back_in_the_midst_of_it_all() -> None:
    """The collector may run it while the very same thread is inside the budget."""
    budget = ByteBudget(10)

    async def go() -> None:
        taken = await budget.take(10, BLOCKING)
        with budget._lock:
            budget.give_back(taken)
        assert budget.free_bytes == 10

    BLOCKING.run(go())


FORKED = """
import asyncio, json, os, signal, sys, threading, time, warnings
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.runtime.budget import ByteBudget, PROCESS_BUDGET

warnings.filterwarnings("ignore", category=DeprecationWarning)
budgets = [PROCESS_BUDGET, ByteBudget(100)]
codes = []

async def use(budget, runtime):
    taken = await budget.take(10**12, runtime)
    assert budget.free_bytes == 0
    budget.give_back(taken)

def child():
    signal.alarm(10)
    for budget in budgets:
        BLOCKING.run(use(budget, BLOCKING))
        asyncio.run(use(budget, ASYNCIO))
    os._exit(0)

def fork():
    pid = os.fork()
    if pid == 0:
        child()
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

async def hold(budget, inside):
    taken = await budget.take(10**12, BLOCKING)
    inside()
    budget.give_back(taken)

for budget in budgets:
    # Another thread is inside the lock.
    entered, leave = threading.Event(), threading.Event()
    def enter():
        with budget._lock:
            entered.set()
            leave.wait()
    thread = threading.Thread(target=enter)
    thread.start()
    entered.wait()
    fork()
    leave.set()
    thread.join()
    # Another thread holds everything, and one more waits for it.
    entered, leave = threading.Event(), threading.Event()
    holder = threading.Thread(target=BLOCKING.run,
        args=(hold(budget, lambda: (entered.set(), leave.wait())),))
    holder.start()
    entered.wait()
    waiting = threading.Thread(target=BLOCKING.run, args=(hold(budget, lambda: None),))
    waiting.start()
    while not budget._queue:
        time.sleep(0.001)
    fork()
    leave.set()
    holder.join()
    waiting.join()
    # The thread that forks holds everything itself.
    BLOCKING.run(hold(budget, fork))
print(json.dumps({"codes": codes, "free": budgets[1].free_bytes}))
"""


def test_a_forked_child_begins_with_the_whole_budget() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == {"codes": [0] * 6, "free": 100}


def test_the_process_has_one_budget_of_128_mib() -> None:
    assert PROCESS_BUDGET.free_bytes == 128 * 1024 * 1024

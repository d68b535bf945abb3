"""The core on plain threads: each call runs its coroutine to the end on the calling thread.

A `Run` is a small scheduler that lives for one call. Coroutines yield *traps* to it ("wake me in
a second", "wake me when this reply is here"); while all of them wait, it waits too, in slices
short enough that a signal handler (Ctrl-C, Celery's soft time limit) runs within
`SLICE_SECONDS`. There is no hidden thread and no loop that outlives the call, so it can be
forked, interrupted and called from any thread.
"""

import heapq
import random
import threading
import time
from collections import deque
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Hashable,
    Iterable,
    Iterator,
)
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from coatcheck.runtime.port import Job, T

SLICE_SECONDS = 0.2
WAKE_SLICE_SECONDS = 0.005


class Cancelled(BaseException):
    """Thrown into a coroutine whose sibling failed; like asyncio's, it is not an Exception."""


class Trap(Protocol):
    """What a coroutine yields to its run when it waits."""

    def arm(self, run: "Run", task: "Task[Any]") -> None:
        """Arrange for `run.resume(task, ...)`, now or later."""
        ...

    def disarm(self) -> None:
        """Forget it: the task is not waiting for this any more."""
        ...


class Poller(Protocol):
    """A source of events that a run waits on: libcurl, for one."""

    def busy(self) -> bool:
        """Whether anything is under way."""
        ...

    def poll(self, seconds: float) -> None:
        """Wait for events for at most `seconds` and resume the tasks they concern."""
        ...

    def release(self) -> None:
        """The run is over: put away what can serve another."""
        ...


P = TypeVar("P", bound=Poller)


class Task(Generic[T]):
    """A coroutine under way in a run."""

    __slots__ = ("coroutine", "done", "error", "result", "trap", "watcher")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.coroutine = coroutine
        self.trap: Trap | None = None
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.watcher: Callable[[Task[T]], None] | None = None


_active = threading.local()


class Run:
    """The scheduler of one blocking call."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Task[Any], object, BaseException | None]] = deque()
        self._timers: list[tuple[float, int, Task[Any], Trap]] = []
        self._sequence = count()
        self._pollers: list[Poller] = []
        self._waiting: set[BlockingWaiter] = set()
        self.woken = threading.Event()

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> Task[T]:
        """Start `coroutine` beside the others, at the next turn."""
        task = Task(coroutine)
        self._ready.append((task, None, None))
        return task

    def resume(
        self, task: Task[Any], value: object = None, error: BaseException | None = None
    ) -> None:
        """Let `task` go on with `value`, or with `error` raised where it waits."""
        task.trap = None
        self._ready.append((task, value, error))

    def interrupt(self, task: Task[Any], error: BaseException) -> None:
        """Raise `error` in `task` where it waits, or at its next turn."""
        if task.done:
            return
        if task.trap is not None:
            task.trap.disarm()
        # A signal handler may have raised between any two steps of this class: whatever was to
        # happen to the task next, it is this instead.
        self._ready = deque(entry for entry in self._ready if entry[0] is not task)
        self.resume(task, None, error)

    def at(self, when: float, task: Task[Any], trap: Trap) -> None:
        """Resume `task` at monotonic time `when`, if it still waits in `trap`."""
        heapq.heappush(self._timers, (when, next(self._sequence), task, trap))

    def poller(self, kind: type[P]) -> P:
        """Return this run's poller of that kind, made without arguments when first asked for."""
        for found in self._pollers:
            if isinstance(found, kind):
                return found
        made = kind()
        self._pollers.append(made)
        return made

    def expect_wake(self, waiter: "BlockingWaiter") -> None:
        """Look at `waiter` from now on whenever the run is idle."""
        self._waiting.add(waiter)

    def forget_wake(self, waiter: "BlockingWaiter") -> None:
        """Look at it no more."""
        self._waiting.discard(waiter)

    def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` to its end and return its result or raise its error.

        An exception raised by a signal handler while the run waits is raised inside the
        coroutine, so that its clean-up runs.
        """
        root: Task[T] = Task(coroutine)
        outer = getattr(_active, "run", None)
        _active.run = self
        try:
            self._step(root, None, None)
            while not root.done:
                try:
                    self._turn()
                except BaseException as interruption:
                    self.interrupt(root, interruption)
        finally:
            _active.run = outer
            for poller in self._pollers:
                poller.release()
        if root.error is not None:
            try:
                raise root.error
            finally:
                del root
        return root.result  # type: ignore[return-value] # done without error: it is a T

    def _turn(self) -> None:
        if not self._ready:
            self._idle()
        while self._ready:
            task, value, error = self._ready.popleft()
            self._step(task, value, error)

    def _step(self, task: Task[Any], value: object, error: BaseException | None) -> None:
        try:
            if error is None:
                trap = task.coroutine.send(value)
            else:
                trap = task.coroutine.throw(error)
        except StopIteration as stop:
            task.done, task.result = True, stop.value
        except BaseException as failure:
            task.done, task.error = True, failure
        else:
            task.trap = trap
            trap.arm(self, task)
            return
        if task.watcher is not None:
            task.watcher(task)

    def _idle(self) -> None:
        seconds = SLICE_SECONDS
        if self._timers:
            seconds = min(seconds, max(0.0, self._timers[0][0] - time.monotonic()))
        busy = [poller for poller in self._pollers if poller.busy()]
        if busy:
            if self._waiting:
                seconds = min(seconds, WAKE_SLICE_SECONDS)
            for poller in busy:
                poller.poll(seconds / len(busy))
        elif self._waiting:
            self.woken.wait(seconds)
            self.woken.clear()
        elif self._timers:
            time.sleep(seconds)
        else:
            raise RuntimeError("the coroutine waits for something that a blocking run cannot give")
        self._resume_due()

    def _resume_due(self) -> None:
        for waiter in [waiter for waiter in self._waiting if waiter.is_woken]:
            waiter.resume()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, task, trap = heapq.heappop(self._timers)
            if task.trap is trap:
                self.resume(task)


class _Sleep:
    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[Trap, None, None]:
        yield self

    def arm(self, run: Run, task: Task[Any]) -> None:
        run.at(time.monotonic() + self.seconds, task, self)

    def disarm(self) -> None:
        """The timer finds the task waiting elsewhere."""


class _Spawn(Generic[T]):
    """Start jobs beside the caller, who goes on at once with their tasks."""

    __slots__ = ("coroutines",)

    def __init__(self, coroutines: list[Coroutine[Any, Any, T]]) -> None:
        self.coroutines = coroutines

    def __await__(
        self,
    ) -> Generator[Trap, "tuple[Run, list[Task[T]]]", "tuple[Run, list[Task[T]]]"]:
        return (yield self)

    def arm(self, run: Run, task: Task[Any]) -> None:
        run.resume(task, (run, [run.spawn(coroutine) for coroutine in self.coroutines]))

    def disarm(self) -> None:
        """Spawning does not wait."""


class _Join:
    """Wait until all of `tasks` are done, or, with `seconds`, until the time is up."""

    __slots__ = ("_first_failure", "_open", "_run", "_seconds", "_task", "_tasks")

    def __init__(
        self, tasks: Iterable[Task[Any]], *, first_failure: bool, seconds: float | None = None
    ) -> None:
        self._tasks = list(tasks)
        self._open: set[Task[Any]] = set()
        self._first_failure = first_failure
        self._seconds = seconds
        self._run: Run | None = None
        self._task: Task[Any] | None = None

    def __await__(self) -> Generator[Trap, None, None]:
        self._open = {task for task in self._tasks if not task.done}
        if self._first_failure:
            for task in self._tasks:
                if task.error is not None:
                    raise task.error
        if self._open:
            yield self

    def arm(self, run: Run, task: Task[Any]) -> None:
        self._run, self._task = run, task
        for watched in self._open:
            watched.watcher = self._ended
        if self._seconds is not None:
            run.at(time.monotonic() + self._seconds, task, self)

    def disarm(self) -> None:
        self._task = None

    def _ended(self, ended: Task[Any]) -> None:
        self._open.discard(ended)
        failed = self._first_failure and ended.error is not None
        if self._run is None or self._task is None or (self._open and not failed):
            return
        task, self._task = self._task, None
        if task.trap is self:
            self._run.resume(task, None, ended.error if failed else None)


class BlockingWaiter:
    """Waits in one run; any thread may wake it."""

    __slots__ = ("_run", "_task", "is_woken")

    def __init__(self) -> None:
        self.is_woken = False
        self._run: Run | None = None
        self._task: Task[Any] | None = None

    def wake(self) -> None:
        """Let `wait` return."""
        self.is_woken = True
        run = self._run
        if run is not None:
            run.woken.set()

    async def wait(self) -> None:
        """Suspend until `wake`."""
        await _Wake(self)

    def arm(self, run: Run, task: Task[Any]) -> None:
        """Be looked at by `run`."""
        self._run, self._task = run, task
        run.expect_wake(self)
        if self.is_woken:
            self.resume()

    def disarm(self) -> None:
        """Be looked at no more."""
        if self._run is not None:
            self._run.forget_wake(self)

    def resume(self) -> None:
        """Let the waiting task go on."""
        if self._run is not None and self._task is not None:
            self._run.forget_wake(self)
            self._run.resume(self._task)


class _Wake:
    __slots__ = ("waiter",)

    def __init__(self, waiter: BlockingWaiter) -> None:
        self.waiter = waiter

    def __await__(self) -> Generator[Trap, None, None]:
        yield self.waiter


class BlockingRuntime:
    """Runs the core on the calling thread. Holds no state: share it freely."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` to its end on this thread and return its result."""
        return Run().drive(coroutine)

    def scope(self) -> Hashable:
        """The run under way: only coroutines of one call may wait for each other."""
        run: Run = _active.run
        return run

    def monotonic(self) -> float:
        """Seconds on the system's monotonic clock."""
        return time.monotonic()

    def wall_clock(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def random(self) -> float:
        """A number in [0, 1)."""
        return random.random()

    async def sleep(self, seconds: float) -> None:
        """Suspend for at least `seconds`."""
        await _Sleep(seconds)

    async def gather(self, jobs: Iterable[Job[T]], *, limit: int) -> list[T]:
        """Run `jobs` side by side in this run, at most `limit` at once; results in order."""
        queue = list(jobs)
        if len(queue) == 1:
            return [await queue[0]()]
        results: dict[int, T] = {}
        upcoming = iter(enumerate(queue))

        async def work_off() -> None:
            for index, job in upcoming:
                results[index] = await job()

        run, workers = await _Spawn([work_off() for _ in range(min(limit, len(queue)))])
        try:
            await _Join(workers, first_failure=True)
        except BaseException:
            for worker in workers:
                run.interrupt(worker, Cancelled())
            await _Join(workers, first_failure=False)
            raise
        return [results[index] for index in range(len(queue))]

    async def offload(self, work: Callable[[], T]) -> T:
        """Do `work` here and now: the calling thread is blocked anyway."""
        return work()

    async def finish(self, job: Job[object], *, seconds: float) -> None:
        """Run `job` beside the caller; a second interruption ends it at once."""
        run, tasks = await _Spawn([job()])
        try:
            await _Join(tasks, first_failure=True)
        except BaseException:
            try:
                await _Join(tasks, first_failure=False, seconds=seconds)
            finally:
                run.interrupt(tasks[0], Cancelled())
                await _Join(tasks, first_failure=False)
            raise

    def waiter(self) -> BlockingWaiter:
        """Make a waiter for a coroutine of this run."""
        return BlockingWaiter()


BLOCKING = BlockingRuntime()


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """Yield what `items` does, running it on the calling thread one item at a time."""
    end = object()

    async def step() -> T | object:
        return await anext(items, end)

    while (item := BLOCKING.run(step())) is not end:
        yield item  # type: ignore[misc] # not the end: it is a T

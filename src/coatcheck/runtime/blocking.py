"""The core on plain threads: each call runs its coroutine to the end on the calling thread."""

import random
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from typing import Any

from coatcheck.runtime.port import Job, T
from coatcheck.runtime.run import Cancelled, Failure, Run, Task, Trap, raise_grave

# Not the generator that programs seed: equal seeds must not make equal write ids, nor forks.
_RANDOM = random.SystemRandom()


class BlockingRuntime:
    """Runs the core on the calling thread. Holds no state: share it freely."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` to its end on this thread and return its result.

        What a signal handler raises meanwhile comes out within 0.25 s, after the clean-up.
        """
        try:
            return Run().drive(coroutine)
        finally:
            # Interrupted before its first turn, it has nothing to clean up, and is no oversight.
            coroutine.close()

    def scope(self) -> Hashable:
        """The run under way: only coroutines of one call may wait for each other."""
        return Run.current()

    def monotonic(self) -> float:
        """Seconds on the system's monotonic clock."""
        return time.monotonic()

    def wall_clock(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def random(self) -> float:
        """A number in [0, 1)."""
        return _RANDOM.random()

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

        workers: list[Task[None]] = []
        try:
            await _Spawn([work_off] * min(limit, len(queue)), workers)
            await _JoinOrFail(workers)
        except BaseException:
            await _Reap(workers)
            raise_grave(workers)
            raise
        finally:
            _forget(workers)
        return [results[index] for index in range(len(queue))]

    async def offload(self, work: Callable[[], T]) -> T:
        """Do `work` here and now: the calling thread is blocked anyway."""
        return work()

    async def finish(self, job: Job[object], *, seconds: float) -> None:
        """Run `job` beside the caller; a second interruption ends it at once."""
        tasks: list[Task[object]] = []
        try:
            await _Spawn([job], tasks)
            await _JoinOrFail(tasks)
        except BaseException:
            try:
                await _Join(tasks, seconds)
            finally:
                await _Reap(tasks)
            raise_grave(tasks)
            raise
        finally:
            _forget(tasks)

    def waiter(self) -> "BlockingWaiter":
        """Make a waiter for a coroutine of this run."""
        return BlockingWaiter()


def _forget(tasks: list[Task[Any]]) -> None:
    for task in tasks:
        task.forget()
    tasks.clear()


class _Sleep(Trap):
    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def arm(self, run: Run, task: Task[Any]) -> None:
        run.at(time.monotonic() + self._seconds, task, self)


class _Spawn(Trap):
    """Start `jobs` beside the caller, who goes on at once; their tasks are added to `tasks`."""

    __slots__ = ("_jobs", "_tasks")

    def __init__(self, jobs: Sequence[Job[Any]], tasks: list[Task[Any]]) -> None:
        self._jobs = jobs
        self._tasks = tasks

    def arm(self, run: Run, task: Task[Any]) -> None:
        # The caller first, so that it watches them before they can end.
        run.resume(task, self)
        for job in self._jobs:
            self._tasks.append(Task(job))
            run.start(self._tasks[-1])


class _Join(Trap):
    """Wait until all of `tasks` are done, or for `seconds`."""

    __slots__ = ("_open", "_run", "_seconds", "_task", "_tasks")

    def __init__(self, tasks: list[Task[Any]], seconds: float | None = None) -> None:
        self._tasks = tasks
        self._seconds = seconds
        self._open: set[Task[Any]] = set()
        self._run: Run | None = None
        self._task: Task[Any] | None = None

    def __await__(self) -> Generator[Trap, object, Any]:
        if not all(task.done for task in self._tasks):
            yield from super().__await__()

    def arm(self, run: Run, task: Task[Any]) -> None:
        self._run, self._task = run, task
        self._open.update(watched for watched in self._tasks if not watched.done)
        for watched in self._open:
            watched.watcher = self._ended
            # What interrupted the spawning may have left one out.
            run.start(watched)
        if self._seconds is not None:
            run.at(time.monotonic() + self._seconds, task, self)

    def disarm(self) -> None:
        for watched in self._open:
            watched.watcher = None
        self._open.clear()
        self._run = self._task = None

    def _ended(self, ended: Task[Any]) -> None:
        self._open.discard(ended)
        if not self._open:
            self._go_on(None)

    def _go_on(self, error: BaseException | None) -> None:
        run, task = self._run, self._task
        self.disarm()
        if run is not None and task is not None:
            run.resume(task, self, None if error is None else Failure(error))


class _JoinOrFail(_Join):
    """Wait until all of `tasks` are done, or raise the first failure as soon as it is there."""

    __slots__ = ()

    def _ended(self, ended: Task[Any]) -> None:
        if ended.error is not None:
            self._go_on(ended.error)
        else:
            super()._ended(ended)


class _Reap(_Join):
    """Cancel all of `tasks`, and wait until they are done."""

    __slots__ = ()

    def arm(self, run: Run, task: Task[Any]) -> None:
        for unwanted in self._tasks:
            run.interrupt(unwanted, Cancelled())
        super().arm(run, task)


class BlockingWaiter:
    """Waits in one run; any thread may wake it."""

    __slots__ = ("is_woken", "run")

    def __init__(self) -> None:
        self.is_woken = False
        self.run: Run | None = None

    def wake(self) -> None:
        """Let `wait` return."""
        # In this order: who looks at `is_woken` after it has set `run` cannot miss it.
        self.is_woken = True
        run = self.run
        if run is not None:
            run.notice_wake()

    async def wait(self) -> None:
        """Suspend until `wake`."""
        await _Wake(self)


class _Wake(Trap):
    """Wait until the waiter is woken."""

    __slots__ = ("_run", "_task", "_waiter")

    def __init__(self, waiter: BlockingWaiter) -> None:
        self._waiter = waiter
        self._run: Run | None = None
        self._task: Task[Any] | None = None

    @property
    def is_woken(self) -> bool:
        return self._waiter.is_woken

    def arm(self, run: Run, task: Task[Any]) -> None:
        self._run, self._task, self._waiter.run = run, task, run
        run.expect_wake(self)

    def disarm(self) -> None:
        if self._run is not None:
            self._run.forget_wake(self)
        self._run = self._task = self._waiter.run = None

    def resume(self) -> None:
        run, task = self._run, self._task
        self.disarm()
        if run is not None and task is not None:
            run.resume(task, self)


BLOCKING = BlockingRuntime()


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """Yield what `items` does, running it on the calling thread one item at a time.

    Left before its end, it runs the clean-up of `items`.
    """
    end = object()

    async def step() -> T | object:
        return await anext(items, end)

    try:
        while (item := BLOCKING.run(step())) is not end:
            yield item  # type: ignore[misc] # not the end: it is a T
    finally:
        if isinstance(items, AsyncGenerator):
            BLOCKING.run(_close(items))


async def _close(items: AsyncGenerator[Any, Any]) -> None:
    await items.aclose()

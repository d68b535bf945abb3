"""The core on asyncio or uvloop: the running loop waits, its default executor does heavy work."""

import asyncio
import random
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic

from coatcheck.runtime.port import Job, T

# Not the generator that programs seed: equal seeds must not make equal write ids, nor forks.
_RANDOM = random.SystemRandom()


class AsyncioRuntime:
    """Runs the core on whatever event loop is running. Holds no state: share it freely."""

    def scope(self) -> Hashable:
        """The running loop."""
        return asyncio.get_running_loop()

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
        await asyncio.sleep(seconds)

    async def gather(self, jobs: Iterable[Job[T]], *, limit: int) -> list[T]:
        """Run `jobs` as tasks, at most `limit` at once; results in the order given."""
        queue = list(jobs)
        if len(queue) < 2:
            return [await job() for job in queue]
        results: dict[int, T] = {}
        upcoming = iter(enumerate(queue))

        async def work_off() -> None:
            for index, job in upcoming:
                results[index] = await job()

        workers = [asyncio.ensure_future(work_off()) for _ in range(min(limit, len(queue)))]
        try:
            # Not asyncio.gather: cancelled, it returns with the first of its tasks that has ended,
            # and those that still clean up would then be cancelled for a second time.
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for position in range(len(workers)):
                if workers[position].done():
                    workers[position].result()
        except BaseException:
            await _reap(workers)
            raise
        finally:
            # This frame is in the traceback of what the workers raise: hold them, and it is a
            # cycle that keeps every body alive until the garbage collector comes by.
            workers.clear()
        return [results[index] for index in range(len(queue))]

    async def offload(self, work: Callable[[], T]) -> T:
        """Run `work` on the loop's default executor."""
        return await asyncio.get_running_loop().run_in_executor(None, work)

    async def finish(self, job: Job[object], *, seconds: float) -> None:
        """Run `job` as a task of its own; a second cancellation ends it at once."""
        tasks = [asyncio.ensure_future(job())]
        try:
            await asyncio.wait(tasks)
            tasks[0].result()
        except asyncio.CancelledError:
            try:
                await asyncio.wait(tasks, timeout=seconds)
            finally:
                await _reap(tasks)
            raise
        finally:
            tasks.clear()

    def waiter(self) -> "AsyncioWaiter":
        """Make a waiter for a coroutine of the running loop."""
        return AsyncioWaiter(asyncio.get_running_loop())

    def begin(self, job: Job[T]) -> "BegunTask[T]":
        """Start `job` as a task of the running loop."""
        return BegunTask(job)


async def _reap(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancel `tasks` and wait until they are done.

    A cancellation meanwhile is passed on to them, and raised in the end.
    """
    cancelled = False
    for task in tasks:
        task.cancel()
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            cancelled = True
            for task in tasks:
                task.cancel()
    for task in tasks:
        # Looked at, or asyncio logs it as an error that nobody has looked at.
        if not task.cancelled():
            task.exception()
    if cancelled:
        raise asyncio.CancelledError


class BegunTask(Generic[T]):
    """A job under way as a task."""

    __slots__ = ("_task",)

    def __init__(self, job: Job[T]) -> None:
        self._task = asyncio.ensure_future(job())

    async def result(self) -> T:
        """Wait for the task and return its result."""
        await asyncio.wait([self._task])
        return self._task.result()

    async def cancel(self) -> None:
        """End the task and wait until it has ended."""
        await _reap([self._task])


class AsyncioWaiter:
    """Waits on one loop; any thread may wake it."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        """Let `wait` return; does nothing where the loop has closed, since nobody waits there."""
        if not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._resolve)
            except RuntimeError:
                # Closed between the question and the call: the waiting coroutine went with it.
                return

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        """Suspend until `wake`."""
        await self._future


ASYNCIO = AsyncioRuntime()

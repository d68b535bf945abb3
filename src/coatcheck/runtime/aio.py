"""The core on asyncio (or uvloop): the running loop waits, its default executor takes heavy work."""

import asyncio
import random
import time
from collections.abc import Callable, Hashable, Iterable

from coatcheck.runtime.port import Job, T


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
        return random.random()

    async def sleep(self, seconds: float) -> None:
        """Suspend for at least `seconds`."""
        await asyncio.sleep(seconds)

    async def gather(self, jobs: Iterable[Job[T]], *, limit: int) -> list[T]:
        """Run `jobs` as tasks, at most `limit` at once; results in the order given."""
        queue = list(jobs)
        if len(queue) == 1:
            return [await queue[0]()]
        results: dict[int, T] = {}
        upcoming = iter(enumerate(queue))

        async def work_off() -> None:
            for index, job in upcoming:
                results[index] = await job()

        workers = [asyncio.ensure_future(work_off()) for _ in range(min(limit, len(queue)))]
        try:
            await asyncio.gather(*workers)
        except BaseException:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            raise
        return [results[index] for index in range(len(queue))]

    async def offload(self, work: Callable[[], T]) -> T:
        """Run `work` on the loop's default executor."""
        return await asyncio.get_running_loop().run_in_executor(None, work)

    async def finish(self, job: Job[object], *, seconds: float) -> None:
        """Run `job` as a task of its own; a second cancellation ends it at once."""
        task = asyncio.ensure_future(job())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise

    def waiter(self) -> "AsyncioWaiter":
        """Make a waiter for a coroutine of the running loop."""
        return AsyncioWaiter(asyncio.get_running_loop())


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

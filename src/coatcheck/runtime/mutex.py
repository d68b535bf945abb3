"""One at a time, in the order in which they came."""

from collections import deque
from types import TracebackType

from coatcheck.runtime.port import Runtime, Waiter


class _Turn:
    __slots__ = ("has_come", "waiter")

    def __init__(self, waiter: Waiter) -> None:
        self.waiter = waiter
        self.has_come = False


class Mutex:
    """Held by one coroutine of an event loop, or of a blocking call, at a time.

    First come, first served: who waits is handed the mutex by who lets go of it, so nobody comes
    in between. `async with` takes it and lets go of it; `acquire` and `release` are for those who
    hold one until they have the next.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._is_held = False
        self._queue: deque[_Turn] = deque()

    async def acquire(self) -> None:
        """Take the mutex, waiting for it if need be. Cancelled, it is not taken."""
        if not self._is_held:
            self._is_held = True
            return
        turn = _Turn(self._runtime.waiter())
        self._queue.append(turn)
        try:
            await turn.waiter.wait()
        except BaseException:
            if turn.has_come:
                self.release()
            else:
                self._queue.remove(turn)
            raise

    def release(self) -> None:
        """Hand the mutex to who has waited longest."""
        if self._queue:
            turn = self._queue.popleft()
            turn.has_come = True
            turn.waiter.wake()
        else:
            self._is_held = False

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

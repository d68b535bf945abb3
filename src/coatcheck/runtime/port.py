"""What the core asks of whatever runs it: waiting, doing things side by side, telling time.

The core awaits only these methods, a wire and a store; so the same coroutines run on asyncio,
on plain threads (`coatcheck.runtime.blocking`) and on a simulated clock.
"""

from collections.abc import Callable, Coroutine, Hashable, Iterable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

Job = Callable[[], Coroutine[Any, Any, T]]
"""A coroutine not yet started: what never starts needs no closing."""


class Waiter(Protocol):
    """One coroutine waits, anyone may wake it: from another task, loop or thread."""

    def wake(self) -> None:
        """Let `wait` return, now or when it is called. Any thread may call it, any number of
        times, also after the waiter's loop has closed."""
        ...

    async def wait(self) -> None:
        """Suspend until `wake`."""
        ...


class Runtime(Protocol):
    """How the core waits."""

    def scope(self) -> Hashable:
        """Name what coroutines must share to wait for each other: an event loop, a blocking run."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; its zero means nothing."""
        ...

    def wall_clock(self) -> float:
        """Seconds since 1970, UTC."""
        ...

    def random(self) -> float:
        """A number in [0, 1), for jitter."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend for at least `seconds`."""
        ...

    async def gather(self, jobs: Iterable[Job[T]], *, limit: int) -> list[T]:
        """Run `jobs` side by side, at most `limit` at once, started in order.

        Returns their results in the order given. The first failure cancels the rest, waits for
        them to end, and is raised. Being cancelled does the same.
        """
        ...

    async def offload(self, work: Callable[[], T]) -> T:
        """Run blocking or heavy `work` where it does not hold up others, and return its result.

        Cancelled, it stops waiting; `work` itself, once begun, runs to its end.
        """
        ...

    async def finish(self, job: Job[object], *, seconds: float) -> None:
        """Run `job` to its end even if the caller is cancelled, but then for `seconds` at most.

        The cancellation is raised afterwards, and wins over a failure of the job.
        """
        ...

    def waiter(self) -> Waiter:
        """Make a waiter for the calling coroutine."""
        ...

"""Results in order, some of them made before they are asked for."""

from collections import deque
from collections.abc import AsyncGenerator, Iterable
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

from coatcheck.runtime.port import Job, Runtime, T

T_co = TypeVar("T_co", covariant=True)


class Begun(Protocol[T_co]):
    """A job under way."""

    async def result(self) -> T_co:
        """Wait for the job and return its result. Cancelled, the job goes on."""
        ...

    async def cancel(self) -> None:
        """End the job and wait until it has ended. No error if it had, whatever way."""
        ...


@runtime_checkable
class Background(Protocol):
    """A runtime on which work goes on while its caller is elsewhere: an event loop."""

    def begin(self, job: Job[T]) -> Begun[T]:
        """Start `job` beside the caller, who sees to it that it ends."""
        ...


async def in_order(
    jobs: Iterable[Job[T]], runtime: Runtime, *, ahead: int
) -> AsyncGenerator[T, None]:
    """Yield the results of `jobs` in order, up to `ahead` of them under way or waiting at once.

    On an event loop the jobs go on while the caller is busy with a result. In blocking calls
    nothing goes on between two of them: there, `ahead` jobs run side by side when the first of
    their results is asked for. The first failure is raised when its turn comes. Closed, it
    cancels what is under way.
    """
    upcoming = iter(jobs)
    if not isinstance(runtime, Background):
        while batch := list(islice(upcoming, ahead)):
            results = deque(await runtime.gather(batch, limit=ahead))
            del batch
            while results:
                yield results.popleft()
        return
    window: deque[Begun[T]] = deque()
    try:
        while True:
            window.extend(runtime.begin(job) for job in islice(upcoming, ahead - len(window)))
            if not window:
                return
            yield await window[0].result()
            window.popleft()
    finally:
        for begun in window:
            await begun.cancel()

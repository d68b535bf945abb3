"""The same work asked for twice at the same time is done once."""

from collections.abc import Hashable
from typing import Generic, TypeVar

from coatcheck.runtime.port import Job, Runtime, Waiter

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("followers", "landed", "result")

    def __init__(self) -> None:
        self.followers: list[Waiter] = []
        self.landed = False
        self.result: T | None = None


class Flights(Generic[T]):
    """Work under way by name. Whoever asks for what is under way waits for it and shares it.

    Only within one event loop, or one blocking call: nobody waits for work that another loop may
    take with it when it closes.
    """

    def __init__(self) -> None:
        self._flights: dict[tuple[Hashable, str], _Flight[T]] = {}

    async def share(self, name: str, job: Job[T], runtime: Runtime) -> T:
        """Return what `job` returns, or what the same work under way does.

        If that fails or is cancelled, one of those who waited does the work itself.
        """
        token = (runtime.scope(), name)
        while (flight := self._flights.get(token)) is not None:
            waiter = runtime.waiter()
            flight.followers.append(waiter)
            await waiter.wait()
            if flight.landed:
                return flight.result  # type: ignore[return-value] # landed: it is a T
        flight = self._flights[token] = _Flight()
        try:
            flight.result = result = await job()
            flight.landed = True
            return result
        finally:
            del self._flights[token]
            for waiter in flight.followers:
                waiter.wake()

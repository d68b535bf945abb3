"""Times a storage driver's calls from outside, as Temporal makes them."""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)


class Stopwatch(StorageDriver):
    """Hands every call on to `driver` and takes the time until its answer.

    Times are kept by object key, in the order of the calls. The demo's calls carry one payload
    each; of a call with several, each payload gets the time of the whole call.
    """

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver
        self.stores: defaultdict[str, deque[float]] = defaultdict(deque)
        self.retrievals: defaultdict[str, deque[float]] = defaultdict(deque)

    def name(self) -> str:
        return self._driver.name()

    def type(self) -> str:
        return self._driver.type()

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        started = time.perf_counter()
        claims = await self._driver.store(context, payloads)
        _note(self.stores, claims, time.perf_counter() - started)
        return claims

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        started = time.perf_counter()
        payloads = await self._driver.retrieve(context, claims)
        _note(self.retrievals, claims, time.perf_counter() - started)
        return payloads


def _note(
    times: defaultdict[str, deque[float]], claims: Iterable[StorageDriverClaim], seconds: float
) -> None:
    for claim in claims:
        times[claim.claim_data["key"]].append(seconds)

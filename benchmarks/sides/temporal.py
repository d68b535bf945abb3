"""A Temporal storage driver, called as Temporal calls it: with a target, payload by payload."""

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)

from benchmarks.sides.port import Claim

MAX_PAYLOAD_BYTES = 128 * 1024 * 1024
"""Over the drivers' default of 50 MiB, so that the largest of our payloads passes."""


class TemporalSide:
    """The side of any driver."""

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver
        target = StorageDriverWorkflowInfo(
            namespace="default", id="order-1234567", run_id="0199aabb-ccdd", type="ProcessOrder"
        )
        self._store_context = StorageDriverStoreContext(target=target)
        self._retrieve_context = StorageDriverRetrieveContext()

    def parcel(self, content: bytes) -> Payload:
        return Payload(metadata={"encoding": b"binary/plain"}, data=content)

    def content(self, parcel: Payload) -> bytes:
        return parcel.data

    async def store(self, parcel: Payload) -> Claim:
        claims = await self._driver.store(self._store_context, [parcel])
        return claims[0].claim_data

    async def retrieve(self, claim: Claim) -> Payload:
        payloads = await self._driver.retrieve(self._retrieve_context, [StorageDriverClaim(claim)])
        return payloads[0]

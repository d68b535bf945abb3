"""Our payload store, without Temporal: what the core itself takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import coatcheck
from benchmarks.sides.port import Claim, Place


class StoreSide:
    """The side of a payload store: its parcels are bytes."""

    def __init__(self, store: coatcheck.PayloadStore) -> None:
        self._store = store

    def parcel(self, content: bytes) -> bytes:
        return content

    def content(self, parcel: bytes) -> bytes:
        return parcel

    async def store(self, parcel: bytes) -> Claim:
        return {"claim": str(await self._store.put(parcel))}

    async def retrieve(self, claim: Claim) -> bytes:
        return await self._store.get(claim["claim"])


@asynccontextmanager
async def open_side(place: Place) -> AsyncIterator[StoreSide]:
    yield StoreSide(
        coatcheck.open_store(
            f"s3://{place.bucket}/store",
            endpoint_url=place.endpoint,
            region=place.region,
            access_key_id=place.access_key_id,
            secret_access_key=place.secret_access_key,
        )
    )

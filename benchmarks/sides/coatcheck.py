"""Our driver with our client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.sides.port import Place
from benchmarks.sides.temporal import MAX_PAYLOAD_BYTES, TemporalSide
from coatcheck.integrations.temporal import S3StorageDriver, new_client


@asynccontextmanager
async def open_side(place: Place) -> AsyncIterator[TemporalSide]:
    client = new_client(
        endpoint_url=place.endpoint,
        region=place.region,
        access_key_id=place.access_key_id,
        secret_access_key=place.secret_access_key,
    )
    yield TemporalSide(S3StorageDriver(client, place.bucket, max_payload_size=MAX_PAYLOAD_BYTES))

"""The SDK's own driver with its own client, as its README sets it up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioboto3
from aiobotocore.config import AioConfig
from temporalio.contrib.aws.s3driver import S3StorageDriver
from temporalio.contrib.aws.s3driver.aioboto3 import new_aioboto3_client

from benchmarks.sides.port import Place
from benchmarks.sides.temporal import MAX_PAYLOAD_BYTES, TemporalSide


@asynccontextmanager
async def open_side(place: Place) -> AsyncIterator[TemporalSide]:
    session = aioboto3.Session(
        aws_access_key_id=place.access_key_id,
        aws_secret_access_key=place.secret_access_key,
        region_name=place.region,
    )
    # Its default of ten connections would hold sixteen payloads in flight up.
    config = AioConfig(max_pool_connections=64)
    async with session.client("s3", endpoint_url=place.endpoint, config=config) as client:
        yield TemporalSide(
            S3StorageDriver(
                new_aioboto3_client(client), place.bucket, max_payload_size=MAX_PAYLOAD_BYTES
            )
        )

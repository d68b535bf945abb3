"""The drivers under test: both drivers, each with every kind of client, on the same server."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import aioboto3
from temporalio.api.common.v1 import Payload
from temporalio.contrib.aws.s3driver import S3StorageDriver as OfficialDriver
from temporalio.contrib.aws.s3driver import S3StorageDriverClient
from temporalio.contrib.aws.s3driver.aioboto3 import new_aioboto3_client
from temporalio.converter import (
    StorageDriver,
    StorageDriverActivityInfo,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)

from coatcheck.integrations.temporal import S3StorageDriver, new_client
from coatcheck.testing import S3Server

NO_TARGET = StorageDriverStoreContext()
RETRIEVING = StorageDriverRetrieveContext()

OpenClient = Callable[[S3Server], AbstractAsyncContextManager[S3StorageDriverClient]]


def payload(data: bytes = b"hello") -> Payload:
    return Payload(metadata={"encoding": b"binary/plain"}, data=data)


def payloads(count: int) -> list[Payload]:
    return [payload(b"payload %d" % number) for number in range(count)]


def workflow(**known: str | None) -> StorageDriverStoreContext:
    return StorageDriverStoreContext(
        StorageDriverWorkflowInfo(**{"namespace": "ns1", "id": "wf1", **known})  # type: ignore[arg-type] # namespace is always given
    )


def activity(**known: str | None) -> StorageDriverStoreContext:
    return StorageDriverStoreContext(
        StorageDriverActivityInfo(**{"namespace": "ns1", "id": "act1", **known})  # type: ignore[arg-type] # namespace is always given
    )


async def store(
    driver: StorageDriver,
    *what: Payload,
    context: StorageDriverStoreContext = NO_TARGET,
) -> list[StorageDriverClaim]:
    return await driver.store(context, what)


async def retrieve(driver: StorageDriver, claims: Sequence[StorageDriverClaim]) -> list[Payload]:
    return await driver.retrieve(RETRIEVING, claims)


@asynccontextmanager
async def our_client(server: S3Server) -> AsyncIterator[S3StorageDriverClient]:
    yield coatcheck_client(server)


def coatcheck_client(server: S3Server, endpoint: str | None = None) -> S3StorageDriverClient:
    return new_client(
        region=server.region,
        endpoint_url=endpoint or server.endpoint,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )


@asynccontextmanager
async def aioboto3_client(server: S3Server) -> AsyncIterator[S3StorageDriverClient]:
    async with aioboto3.Session().client(
        "s3",
        region_name=server.region,
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
    ) as client:
        yield new_aioboto3_client(client)


@dataclass
class MemoryClient(S3StorageDriverClient):
    """A client that somebody else wrote: no S3 at all, errors of its own."""

    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        self.calls.append("put")
        self._check(bucket)
        self.objects[bucket, key] = data

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        self.calls.append("exists")
        return (bucket, key) in self.objects

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        self.calls.append("get")
        self._check(bucket)
        return self.objects[bucket, key]

    def _check(self, bucket: str) -> None:
        if bucket == "does-not-exist":
            raise LookupError("no such bucket here")


@asynccontextmanager
async def memory_client(server: S3Server) -> AsyncIterator[S3StorageDriverClient]:
    yield MemoryClient()


@dataclass(frozen=True)
class Subject:
    """A driver and the client that it speaks through."""

    name: str
    driver: type[OfficialDriver] | type[S3StorageDriver]
    client: OpenClient

    def __str__(self) -> str:
        return self.name


OFFICIAL = Subject("official-aioboto3", OfficialDriver, aioboto3_client)
OFFICIAL_ON_OUR_CLIENT = Subject("official-coatcheck", OfficialDriver, our_client)
OURS = Subject("coatcheck-coatcheck", S3StorageDriver, our_client)
OURS_ON_AIOBOTO3 = Subject("coatcheck-aioboto3", S3StorageDriver, aioboto3_client)
OURS_ON_MEMORY = Subject("coatcheck-memory", S3StorageDriver, memory_client)

ON_A_SERVER = [OFFICIAL, OFFICIAL_ON_OUR_CLIENT, OURS, OURS_ON_AIOBOTO3]
ALL = [*ON_A_SERVER, OURS_ON_MEMORY]
OF_OURS = [OURS, OURS_ON_AIOBOTO3, OURS_ON_MEMORY]


def stored_keys(server: S3Server, bucket: str) -> list[str]:
    """Return the keys that an independent client sees."""
    witness = server.witness()
    try:
        pages = witness.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]
    finally:
        witness.close()

"""The client that a driver speaks through: ours, and whatever else the SDK takes for one."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol, Unpack

from temporalio.contrib.aws.s3driver import S3StorageDriverClient

from coatcheck.errors import Corrupt, Forbidden, NotFound, TooLarge
from coatcheck.integrations.temporal.keys import digest_in
from coatcheck.objects.buckets import Buckets
from coatcheck.opening import open_buckets
from coatcheck.payloads.flights import Flights
from coatcheck.payloads.transfer import Transfer, digest_of
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.settings import S3Arguments
from coatcheck.types import Digest

BUCKETS_REMEMBERED = 256
MAX_MESSAGE_BYTES = 2 * 1024**3
"""The most that a protobuf message can have (https://protobuf.dev/programming-guides/encoding)."""


def new_client(**settings: Unpack[S3Arguments]) -> "DriverClient":
    """Make a client for `S3StorageDriver`, ours or the official one. No I/O.

    `settings` are those of `coatcheck.settings.S3Settings`: region, endpoint_url, access_key_id
    and so on; without them the AWS_* variables, the profile and the AWS chain say where to go
    and who asks. One client serves any number of drivers, buckets, threads and event loops; it
    has no life cycle, so there is nothing to close. Raises ConfigError.
    """
    return DriverClient(open_buckets(**settings))


class PayloadMover(Protocol):
    """What the driver asks of a client: payloads known by their digest, to and from a bucket."""

    async def store(self, bucket: str, key: str, body: bytes, digest: Digest) -> None:
        """Make sure that `body` lies under `key`, which is made of `digest`."""
        ...

    async def fetch(self, bucket: str, key: str, digest: Digest, limit_bytes: int) -> bytes:
        """Return the bytes under `key`, verified. Raises NotFound, Corrupt, TooLarge."""
        ...


class DriverClient(S3StorageDriverClient):
    """S3 for Temporal's drivers. Made by `new_client`.

    Our driver stores with one PUT and fetches with one GET. Inside the official driver, which
    asks before it stores, it is two requests and one; there a role that may only write works too.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        # A transfer keeps no more than the work under way, so a forgotten one is made again.
        self._transfer = lru_cache(BUCKETS_REMEMBERED)(self._new_transfer)

    def check_bucket(self, bucket: str) -> None:
        """Raise ConfigError if there can be no such bucket. No I/O."""
        self._transfer(bucket)

    async def store(self, bucket: str, key: str, body: bytes, digest: Digest) -> None:
        """Make sure that `body` lies under `key`; see `coatcheck.payloads.transfer`."""
        await self._transfer(bucket).store(key, body, digest)

    async def fetch(self, bucket: str, key: str, digest: Digest, limit_bytes: int) -> bytes:
        """Return the bytes under `key`, verified; see `coatcheck.payloads.transfer`."""
        return await self._transfer(bucket).fetch(key, digest, limit_bytes=limit_bytes)

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        """Store `data` under `key`: a payload if the key is made of its digest, else in one PUT."""
        digest = await digest_of(data, ASYNCIO)
        if digest == digest_in(key):
            await self.store(bucket, key, data, digest)
        else:
            await self._buckets.objects(bucket).put(key, data, digest=digest)

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        """Whether there is an object under `key`: one HEAD.

        False too where the credentials may not look: the PUT that follows does no harm, and tells.
        """
        try:
            await self._buckets.objects(bucket).head(key)
        except (NotFound, Forbidden):
            return False
        return True

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        """Return the bytes under `key`, up to 2 GiB.

        Where the key is made of a digest they are verified: Corrupt is raised for others.
        """
        digest = digest_in(key)
        if digest is not None:
            return await self.fetch(bucket, key, digest, MAX_MESSAGE_BYTES)
        fetched = await self._buckets.objects(bucket).get(key, limit_bytes=MAX_MESSAGE_BYTES)
        return fetched.body

    def describe(self) -> Mapping[str, str]:
        """Return the region for the driver's error messages, where it is known."""
        region = self._buckets.region
        return {"client_region": region} if region else {}

    def _new_transfer(self, bucket: str) -> Transfer:
        return Transfer(self._buckets.objects(bucket))


class ForeignClient:
    """Moves payloads through somebody else's client: one question and one upload, or one download.

    Equal payloads that are under way are stored once. What the client raises comes through.
    """

    def __init__(self, client: S3StorageDriverClient) -> None:
        self._client = client
        self._stores: Flights[None] = Flights()

    async def store(self, bucket: str, key: str, body: bytes, digest: Digest) -> None:
        """Upload `body`, unless there is an object under `key`, which is made of `digest`."""

        async def upload() -> None:
            if not await self._client.object_exists(bucket=bucket, key=key):
                await self._client.put_object(bucket=bucket, key=key, data=body)

        await self._stores.share(f"{bucket}/{key}", upload, ASYNCIO)

    async def fetch(self, bucket: str, key: str, digest: Digest, limit_bytes: int) -> bytes:
        """Download the bytes under `key` and verify them. The client may hold more than the limit,
        but they are not returned."""
        body = await self._client.get_object(bucket=bucket, key=key)
        if len(body) > limit_bytes:
            raise TooLarge(f"the payload has {len(body)} bytes, over the limit of {limit_bytes}")
        if await digest_of(body, ASYNCIO) != digest:
            raise Corrupt("the object does not match its digest")
        return body

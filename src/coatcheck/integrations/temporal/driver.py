"""The driver: what Temporal calls to put payloads away and to get them back."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.aws.s3driver import S3StorageDriverClient
from temporalio.converter import (
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

from coatcheck.errors import ConfigError, Corrupt
from coatcheck.integrations.temporal.claims import PayloadClaim, read_claim
from coatcheck.integrations.temporal.client import DriverClient, ForeignClient, PayloadMover
from coatcheck.integrations.temporal.errors import over_cap, retrieve_failure, store_failure
from coatcheck.integrations.temporal.keys import key_prefix
from coatcheck.payloads.transfer import digest_of
from coatcheck.runtime.aio import ASYNCIO

DRIVER_TYPE = "aws.s3driver"
DEFAULT_MAX_PAYLOAD_SIZE = 50 * 1024 * 1024
PAYLOADS_SIDE_BY_SIDE = 64

BucketChooser = Callable[[StorageDriverStoreContext, Payload], str]

_log = logging.getLogger("coatcheck.integrations.temporal")


class S3StorageDriver(StorageDriver):
    """Keeps Temporal's large payloads in S3, in place of `temporalio.contrib.aws.s3driver`'s.

    client: what `new_client` makes, or any of the SDK's `S3StorageDriverClient`s.
    bucket: a bucket's name or an access point's ARN; or a function that chooses one, called once
        for each payload with Temporal's own context. What it raises comes through as it is.
    driver_name: how histories refer to this driver. Default "aws.s3driver".
    max_payload_size: the largest serialised payload in bytes, out and in. Default 50 MiB.
    allowed_buckets: buckets that claims may name beside the configured one. A function's choices
        are known from when it has made them in this process; for the claims of earlier processes
        and other workers, list every bucket that it may choose.

    Share a driver between workers, clients and event loops; it survives a fork. Making one does
    no I/O. Raises ConfigError, a ValueError.
    """

    def __init__(
        self,
        client: S3StorageDriverClient,
        bucket: str | BucketChooser,
        driver_name: str = DRIVER_TYPE,
        max_payload_size: int = DEFAULT_MAX_PAYLOAD_SIZE,
        *,
        allowed_buckets: Iterable[str] = (),
    ) -> None:
        if max_payload_size <= 0:
            raise ConfigError("max_payload_size must be greater than zero")
        if isinstance(allowed_buckets, str):
            raise ConfigError(
                f"allowed_buckets is the text {allowed_buckets!r}", remedy="Give a list of names"
            )
        self._client = client
        self._bucket = bucket
        self._driver_name = driver_name or DRIVER_TYPE
        self._max_payload_size = max_payload_size
        self._buckets = {*allowed_buckets}
        if isinstance(bucket, str):
            self._buckets.add(bucket)
        elif not self._buckets:
            _log.warning(
                "%s chooses its buckets by a function and has no allowed_buckets: claims for "
                "buckets that it has not chosen in this process will be refused",
                self._driver_name,
            )
        self._mover: PayloadMover
        if isinstance(client, DriverClient):
            for name in self._buckets:
                client.check_bucket(name)
            self._mover = client
        else:
            self._mover = ForeignClient(client)

    def name(self) -> str:
        """Return what histories call this driver."""
        return self._driver_name

    def type(self) -> str:
        """Return "aws.s3driver", as the official driver does."""
        return DRIVER_TYPE

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        """Store the payloads, at most 64 side by side; return their claims, in the same order.

        All are measured before any is sent. Up to 8 MiB: one request for each, and one more if it
        was there already; payloads that are equal or under way are stored once. The first failure
        cancels the rest, as being cancelled does; what was stored by then stays.

        Raises PayloadTooLarge; RuntimeError, from its cause, for anything that trying again may
        mend; and what the bucket function raises.
        """
        prefix = key_prefix(context.target)
        parcels = [self._measured(context, payload) for payload in payloads]
        stored: set[PayloadClaim] = set()

        async def store(bucket: str, body: bytes) -> StorageDriverClaim:
            digest = await digest_of(body, ASYNCIO)
            claim = PayloadClaim(bucket, prefix + digest.hex, digest)
            if claim not in stored:
                await self._store(claim, body)
                stored.add(claim)
            return claim.written()

        jobs = [partial(store, bucket, body) for bucket, body in parcels]
        return await ASYNCIO.gather(jobs, limit=PAYLOADS_SIDE_BY_SIDE)

    async def retrieve(
        self,
        context: StorageDriverRetrieveContext,
        claims: Sequence[StorageDriverClaim],
    ) -> list[Payload]:
        """Fetch the payloads, at most 64 side by side; return them in the order of their claims.

        All claims are checked before any request. Up to 8 MiB: one request for each payload.
        Nothing is returned whose digest was not verified. Cancellation and failure as in `store`.

        Raises ClaimRefused, PayloadLost, PayloadCorrupt, PayloadTooLarge; and RuntimeError, from
        its cause, for anything that trying again may mend.
        """
        checked = [read_claim(claim.claim_data, self._buckets) for claim in claims]
        jobs = [partial(self._retrieve, claim) for claim in checked]
        return await ASYNCIO.gather(jobs, limit=PAYLOADS_SIDE_BY_SIDE)

    def _measured(self, context: StorageDriverStoreContext, payload: Payload) -> tuple[str, bytes]:
        bucket = self._bucket if isinstance(self._bucket, str) else self._bucket(context, payload)
        self._buckets.add(bucket)
        # Not ByteSize(): it serialises too, and throws the bytes away.
        body = payload.SerializeToString()
        if len(body) > self._max_payload_size:
            raise over_cap(len(body), self._max_payload_size)
        return bucket, body

    async def _store(self, claim: PayloadClaim, body: bytes) -> None:
        try:
            await self._mover.store(claim.bucket, claim.key, body, claim.digest)
        except Exception as error:
            raise store_failure(claim.bucket, claim.key, self._client) from error

    async def _retrieve(self, claim: PayloadClaim) -> Payload:
        try:
            body = await self._mover.fetch(
                claim.bucket, claim.key, claim.digest, self._max_payload_size
            )
            return _parsed(body)
        except Exception as error:
            raise retrieve_failure(claim, self._client, self._max_payload_size, error) from error


def _parsed(body: bytes) -> Payload:
    try:
        return Payload.FromString(body)
    except DecodeError as error:
        raise Corrupt("the object is not a Temporal payload") from error

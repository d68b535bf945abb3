"""The floor: hash, sign, exchange, look at the status. No retries, no claims, no verification."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from urllib.parse import urlsplit

from benchmarks.sides.port import Claim, Place
from coatcheck.s3.sign import EMPTY_SHA256, Credentials, sign
from coatcheck.wire.aio import AsyncioWire
from coatcheck.wire.port import Request

TIMEOUT_SECONDS = 120.0
REPLY_LIMIT_BYTES = 128 * 1024 * 1024


class BareSide:
    """One request for each call, and nothing else."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._host = urlsplit(place.endpoint).netloc
        self._credentials = Credentials(place.access_key_id, place.secret_access_key)
        self._wire = AsyncioWire()

    def parcel(self, content: bytes) -> bytes:
        return content

    def content(self, parcel: bytes) -> bytes:
        return parcel

    async def store(self, parcel: bytes) -> Claim:
        digest = sha256(parcel).hexdigest()
        await self._exchange("PUT", digest, digest, parcel)
        return {"key": digest}

    async def retrieve(self, claim: Claim) -> bytes:
        return await self._exchange("GET", claim["key"], EMPTY_SHA256, None)

    async def _exchange(
        self, method: str, key: str, payload_hash: str, body: bytes | None
    ) -> bytes:
        path = f"/{self._place.bucket}/bare/{key}"
        headers = sign(
            method,
            self._host,
            path,
            "",
            {},
            payload_hash=payload_hash,
            credentials=self._credentials,
            region=self._place.region,
            now=time.time(),
        )
        request = Request(
            method,
            f"{self._place.endpoint}{path}",
            headers,
            TIMEOUT_SECONDS,
            REPLY_LIMIT_BYTES,
            body,
        )
        response = await self._wire.exchange(request)
        if response.status != 200:
            raise RuntimeError(f"{method} {path} was answered with status {response.status}")
        return response.body


@asynccontextmanager
async def open_side(place: Place) -> AsyncIterator[BareSide]:
    yield BareSide(place)

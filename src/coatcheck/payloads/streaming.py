"""Streams come down: parts in order, some fetched ahead, each checked before it is given."""

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from functools import partial
from hashlib import sha256
from io import BytesIO
from typing import Protocol

from coatcheck.errors import Corrupt, Diagnostics
from coatcheck.payloads.parts import Part
from coatcheck.payloads.transfer import FETCH_TRIES
from coatcheck.runtime.ahead import in_order
from coatcheck.runtime.budget import PROCESS_BUDGET, ByteBudget
from coatcheck.runtime.hashing import sha256_hex
from coatcheck.runtime.port import Job, Runtime
from coatcheck.types import ByteRange, Digest, Fetched

PARTS_AHEAD = 4

_log = logging.getLogger("coatcheck.payloads")


class PartIndex(Protocol):
    """Where a payload's parts are, and what they hash to."""

    @property
    def part_bytes(self) -> int:
        """The size of a part, the last one apart."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    async def part(self, number: int) -> Part:
        """Return part `number`, from 0."""
        ...


class RangeReader(Protocol):
    """As much of an object store as a download needs; see `coatcheck.ObjectStore`."""

    @property
    def location(self) -> str:
        """Where the objects are."""
        ...

    @property
    def runtime(self) -> Runtime:
        """What the store waits on."""
        ...

    async def get(
        self,
        key: str,
        span: ByteRange | None = None,
        *,
        limit_bytes: int,
        if_match: str | None = None,
    ) -> Fetched:
        """Return the object, or those bytes of `span` that it has."""
        ...

    async def get_into(
        self, key: str, start: int, buffer: memoryview, *, if_match: str | None = None
    ) -> None:
        """Fill `buffer` with the object's bytes from offset `start`."""
        ...


class Download:
    """An object of a known size on its way down, `part_bytes` at a time.

    Bytes in flight are taken from `budget`, by default the process's; those that were fetched
    ahead wait outside of it, PARTS_AHEAD parts at most.
    """

    def __init__(
        self,
        objects: RangeReader,
        key: str,
        size_bytes: int,
        *,
        budget: ByteBudget = PROCESS_BUDGET,
    ) -> None:
        self._objects = objects
        self._runtime = objects.runtime
        self._key = key
        self._size_bytes = size_bytes
        self._budget = budget
        self._is_size_known = False

    async def fetch(self, span: ByteRange) -> bytes:
        """Return these bytes as they are stored, unverified. One request.

        Raises Corrupt if the object has another size.
        """
        taken = await self._budget.take(span.length, self._runtime)
        try:
            if self._is_size_known:
                return await self._fetch_into_place(span)
            fetched = await self._objects.get(self._key, span, limit_bytes=span.length)
        finally:
            self._budget.give_back(taken)
        if fetched.size_bytes != self._size_bytes:
            raise self._corrupt(
                f"the object has {fetched.size_bytes} bytes, the claim says {self._size_bytes}"
            )
        if len(fetched.body) != span.length:
            raise self._corrupt(f"the object's bytes from {span.start} on came incomplete")
        self._is_size_known = True
        return fetched.body

    async def _fetch_into_place(self, span: ByteRange) -> bytes:
        # BytesIO hands out its buffer as bytes without a copy, so the part is held once.
        part = BytesIO()
        part.seek(span.length - 1)
        part.write(b"\0")
        with part.getbuffer() as view:
            await self._objects.get_into(self._key, span.start, view)
        return part.getvalue()

    async def fetch_verified(self, index: PartIndex, number: int) -> bytes:
        """Return part `number`, from 0, once its bytes match the digest that `index` has.

        Bytes that do not match are fetched once more, in case they were damaged on their way.
        Raises Corrupt.
        """
        part = await index.part(number)
        for _ in range(FETCH_TRIES):
            body = await self.fetch(part.span)
            if await sha256_hex(body, self._runtime) == part.digest.hex:
                return body
            message = f"the part at offset {part.span.start} does not match its digest"
            _log.warning("%s in %s: %s", self._key, self._objects.location, message)
        raise self._corrupt(f"{message}; it was not returned")

    async def stream_verified(
        self, index: PartIndex, first: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yield the parts from `first` on, each verified."""
        jobs: Iterator[Job[bytes]] = (
            partial(self.fetch_verified, index, number) for number in range(first, index.count)
        )
        async with aclosing(in_order(jobs, self._runtime, ahead=PARTS_AHEAD)) as parts:
            async for part in parts:
                yield part

    async def stream_raw(self, part_bytes: int) -> AsyncGenerator[bytes, None]:
        """Yield the object's bytes, `part_bytes` at a time, as they are stored: unverified."""
        jobs: Iterator[Job[bytes]] = (
            partial(self.fetch, ByteRange(start, min(part_bytes, self._size_bytes - start)))
            for start in range(0, self._size_bytes, part_bytes)
        )
        async with aclosing(in_order(jobs, self._runtime, ahead=PARTS_AHEAD)) as parts:
            async for part in parts:
                yield part

    async def stream_checked_at_end(
        self, digest: Digest, part_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield the object's bytes; the last of them only when all together match `digest`.

        Raises Corrupt in their place if they do not: whoever has got all bytes has the right ones.
        """
        whole, done_bytes = sha256(), 0
        if not self._size_bytes and whole.hexdigest() != digest.hex:
            raise self._corrupt("the object is empty, which does not match its digest")
        async with aclosing(self.stream_raw(part_bytes)) as parts:
            async for part in parts:
                await self._runtime.offload(partial(whole.update, part))
                done_bytes += len(part)
                if done_bytes == self._size_bytes and whole.hexdigest() != digest.hex:
                    raise self._corrupt("the object does not match its digest; its end is withheld")
                yield part

    def _corrupt(self, message: str) -> Corrupt:
        return Corrupt(
            message,
            remedy="Store the payload again, and find out who else writes to this place",
            diagnostics=Diagnostics(
                operation="stream", bucket=self._objects.location, key=self._key
            ),
        )

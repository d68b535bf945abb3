"""The payload store: hand over bytes, keep a claim; hand over the claim, get the bytes."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from coatcheck.errors import ClaimRejected, ConfigError, NotFound, TooLarge
from coatcheck.objects.port import ObjectStore
from coatcheck.objects.sources import Source
from coatcheck.payloads.claim import Claim, check_store_name
from coatcheck.payloads.keys import PAYLOADS_PREFIX, key_of, parts_key_of
from coatcheck.payloads.reader import PayloadReader
from coatcheck.payloads.streams import Streams
from coatcheck.payloads.transfer import DEFAULT_PART_BYTES, MIN_PART_BYTES, Transfer, digest_of
from coatcheck.runtime.port import Runtime
from coatcheck.types import Buffer, Digest, ObjectInfo

DEFAULT_MAX_PAYLOAD_BYTES = 1024**3
PAYLOADS_SIDE_BY_SIDE = 64


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """A payload that lies in a store: its claim, its object's key, when it was written there."""

    claim: Claim
    key: str
    last_modified: datetime | None


class PayloadStore:
    """A configured place for payloads, each stored once under its digest.

    name: what its claims say; a reader opens a store of the same name. Default "default".
    part_size_bytes: the most that goes in one request; 5 MiB at least, 8 MiB by default.
    max_payload_bytes: the largest payload that is handed over or returned in one piece; 1 GiB by
    default. Streams are not bounded by it, since they are never held in memory.

    Share a store freely between tasks and event loops. Making one does no I/O.
    """

    def __init__(
        self,
        objects: ObjectStore,
        *,
        name: str = "default",
        part_size_bytes: int = DEFAULT_PART_BYTES,
        max_payload_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES,
    ) -> None:
        if part_size_bytes < MIN_PART_BYTES:
            raise ConfigError(
                f"part_size_bytes is {part_size_bytes}", remedy=f"S3 wants {MIN_PART_BYTES} or more"
            )
        if max_payload_bytes < 1:
            raise ConfigError(
                f"max_payload_bytes is {max_payload_bytes}", remedy="Give a number above 0"
            )
        self._name = check_store_name(name)
        self._objects = objects
        self._max_payload_bytes = max_payload_bytes
        self._transfer = Transfer(objects, part_size_bytes=part_size_bytes)
        self._streams = Streams(
            objects, self._transfer, name=self._name, part_size_bytes=part_size_bytes
        )

    @property
    def name(self) -> str:
        """The name that the claims of this store carry."""
        return self._name

    @property
    def location(self) -> str:
        """Where the payloads are, as a URL without secrets."""
        return self._objects.location

    @property
    def runtime(self) -> Runtime:
        """What the store waits on."""
        return self._objects.runtime

    async def put(self, data: Buffer) -> Claim:
        """Store `data` and return its claim, once it is durably stored.

        Anything but bytes is copied first, so that changing it meanwhile does no harm. Up to one
        part: one request, and one more if the payload was there already. Beyond: one request,
        and if it was not there one for each part and two around them. Cancelled, it leaves
        nothing but, at most, the whole payload. Raises TooLarge before any request.
        """
        body = data if isinstance(data, bytes) else bytes(memoryview(data))
        if len(body) > self._max_payload_bytes:
            raise TooLarge(
                f"the payload has {len(body)} bytes, over the limit of {self._max_payload_bytes}",
                remedy="Raise max_payload_bytes if that is meant to be",
            )
        digest = await digest_of(body, self.runtime)
        await self._transfer.store(key_of(digest), body, digest)
        return Claim(digest, len(body), self._name)

    async def get(self, claim: Claim | str) -> bytes:
        """Return the payload that `claim`, or its JSON, stands for, verified.

        One request for each part. Raises ClaimRejected and TooLarge before any request, NotFound,
        Corrupt, and Conflict if the object is being replaced all the time.
        """
        claim = self._checked(claim)
        self._check_size(claim)
        return await self._transfer.fetch(
            key_of(claim.digest),
            claim.digest,
            limit_bytes=self._max_payload_bytes,
            size_bytes=claim.size_bytes,
        )

    async def put_stream(self, source: Source, *, size_bytes: int | None = None) -> Claim:
        """Store what `source` gives, of any size, and return its claim, once it is durably stored.

        `source`: an async or ordinary iterable of bytes, or a binary file, with or without await.
        size_bytes: what it will give, if that is known; ConfigError if it gives anything else.

        Up to one part it is hashed and stored as `put` does. Beyond, parts go up side by side to
        a draft under `staging/` while they are hashed; then the server copies the draft to the
        payload's key, unless the payload is there already, and the draft is removed. The digests
        of its parts are stored beside it, for `stream` and `open` to verify it part by part. A
        request for each part and about six around them. In memory are at most 6 parts, or as
        many as the process's budget of bytes in flight lets pass. A slow source or server holds
        up the other; the source is never timed out.

        On every way out but success, cancellation included, the draft is removed: nothing is
        left but, at most, the whole payload. The source's own errors come out as they are.
        """
        return await self._streams.put(source, size_bytes)

    async def stream(self, claim: Claim | str) -> AsyncGenerator[bytes, None]:
        """Yield the payload's bytes in order, a part at a time, each verified before it is given.

        A claim that `put_stream` gave has the digests of the payload's parts. Of other payloads
        of more than one part only the digest of the whole is known: their last part is given
        when all parts together match it, and Corrupt raised in its place if they do not.

        One request for each part, and one for the digests. Up to four parts are fetched side by
        side and ahead of the caller, who may be as slow as it likes. Left before its end, it ends
        what is under way: at once with `aclosing`, else when Python closes the generator. Raises
        ClaimRejected before any request, NotFound and Corrupt.
        """
        async with aclosing(self._streams.stream(self._checked(claim))) as parts:
            async for part in parts:
                yield part

    def open(self, claim: Claim | str) -> PayloadReader:
        """Return the payload to be read like a file, in an `async with` block: seek, tell, read.

        Reads are ranges of whole parts, each verified before a byte of it is given. With a claim
        that `put_stream` gave, entering the block takes one request. Of other payloads of more
        than one part only the digest of the whole is known: entering the block reads all of it
        once, in fixed memory, to verify it and learn the digests of its parts. Raises
        ClaimRejected here; NotFound and Corrupt in the block.
        """
        return self._streams.open(self._checked(claim))

    async def put_many(self, payloads: Iterable[Buffer]) -> list[Claim]:
        """Store payloads side by side; claims in the same order. The first failure ends the rest;
        what was stored by then stays."""
        jobs = [partial(self.put, data) for data in payloads]
        return await self.runtime.gather(jobs, limit=PAYLOADS_SIDE_BY_SIDE)

    async def get_many(self, claims: Iterable[Claim | str]) -> list[bytes]:
        """Return payloads in the order of their claims, fetched side by side. The first failure
        ends the rest."""
        checked = [self._checked(claim) for claim in claims]
        for claim in checked:
            self._check_size(claim)
        jobs = [partial(self.get, claim) for claim in checked]
        return await self.runtime.gather(jobs, limit=PAYLOADS_SIDE_BY_SIDE)

    async def exists(self, claim: Claim | str) -> bool:
        """Whether the payload is there, with the size that its claim says. One request."""
        claim = self._checked(claim)
        try:
            info = await self._objects.head(key_of(claim.digest))
        except NotFound:
            return False
        return info.size_bytes == claim.size_bytes

    async def stat(self, claim: Claim | str) -> ObjectInfo:
        """Return what the store says about the payload's object. One request. Raises NotFound."""
        return await self._objects.head(key_of(self._checked(claim).digest))

    async def delete(self, claim: Claim | str) -> None:
        """Remove the payload, for all who hold a claim of it; no error if there is none.

        One request, and one more for the digests of a stream's parts. Equal payloads are one
        object: delete only what nobody else can have stored.
        """
        claim = self._checked(claim)
        await self._objects.delete(key_of(claim.digest))
        if claim.parts is not None:
            await self._objects.delete(parts_key_of(claim.parts))

    async def list(self) -> AsyncIterator[StoredPayload]:
        """Yield all payloads, in order of their digests. One request per 1,000.

        Objects that are not payloads of this store's format are passed over.
        """
        async for info in self._objects.list(PAYLOADS_PREFIX):
            hexadecimal = info.key.rpartition("/")[2]
            try:
                digest = Digest(hexadecimal)
            except ClaimRejected:
                continue
            if key_of(digest) == info.key:
                claim = Claim(digest, info.size_bytes, self._name)
                yield StoredPayload(claim, info.key, info.last_modified)

    def _checked(self, claim: Claim | str) -> Claim:
        if not isinstance(claim, Claim):
            claim = Claim.parse(claim)
        if claim.store != self._name:
            raise ClaimRejected(
                f"the claim names the store {claim.store!r}, this is {self._name!r}",
                remedy="Open the store that it names, with name=...",
            )
        return claim

    def _check_size(self, claim: Claim) -> None:
        if claim.size_bytes > self._max_payload_bytes:
            raise TooLarge(
                f"the claim stands for {claim.size_bytes} bytes,"
                f" over the limit of {self._max_payload_bytes}",
                remedy="Read it with stream or open, or raise max_payload_bytes if that is meant"
                " to be",
            )

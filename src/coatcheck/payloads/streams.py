"""The payload store's streams: what `PayloadStore.put_stream`, `stream` and `open` do."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from hashlib import sha256

from coatcheck.errors import Corrupt
from coatcheck.objects.port import ObjectStore
from coatcheck.objects.sources import Pieces, Source
from coatcheck.payloads.claim import Claim
from coatcheck.payloads.keys import key_of, parts_key_of
from coatcheck.payloads.parts import MAX_PAGE_BYTES, Page, Part, PartDigests, PartTree
from coatcheck.payloads.reader import PayloadReader, VerifiedParts
from coatcheck.payloads.streaming import Download, PartIndex
from coatcheck.payloads.transfer import PARTS_SIDE_BY_SIDE, Transfer, digest_of
from coatcheck.payloads.uploading import (
    Hashes,
    PartSender,
    drafted,
    staging_key,
    stream_part_size,
)
from coatcheck.types import ByteRange, Digest


class Streams:
    """Stores and reads payloads part by part, under the keys of one object store."""

    def __init__(
        self, objects: ObjectStore, transfer: Transfer, *, name: str, part_size_bytes: int
    ) -> None:
        self._objects = objects
        self._runtime = objects.runtime
        self._transfer = transfer
        self._name = name
        self._part_bytes = stream_part_size(part_size_bytes)

    async def put(self, source: Source, size_bytes: int | None) -> Claim:
        """Store what `source` gives; see `PayloadStore.put_stream`."""
        pieces = Pieces(source, self._runtime, size_bytes=size_bytes)
        try:
            small = await pieces.whole(self._part_bytes)
            if small is None:
                return await self._put_parts(pieces)
            digest = await digest_of(small, self._runtime)
            await self._transfer.store(key_of(digest), small, digest)
            return Claim(digest, len(small), self._name)
        finally:
            await pieces.close()

    async def _put_parts(self, pieces: Pieces) -> Claim:
        part_bytes, runtime = self._part_bytes, self._runtime
        hashes = Hashes(runtime, part_bytes)
        sender = PartSender(runtime, part_bytes=part_bytes)
        async with drafted(self._objects, staging_key(runtime), part_bytes=part_bytes) as draft:
            await sender.send(draft, pieces, hashes)
            digest, size_bytes = hashes.digest, hashes.size_bytes
            if not await self._transfer.has(key_of(digest), size_bytes):
                await draft.publish(key_of(digest))
        root = await self._store_pages(hashes.parts.pages(size_bytes))
        return Claim(digest, size_bytes, self._name, root)

    async def _store_pages(self, pages: list[bytes]) -> Digest:
        digests = [Digest.of(page) for page in pages]
        jobs = [
            partial(self._transfer.store, parts_key_of(digest), page, digest)
            for digest, page in zip(digests, pages, strict=True)
        ]
        await self._runtime.gather(jobs, limit=PARTS_SIDE_BY_SIDE)
        return digests[-1]

    async def stream(self, claim: Claim) -> AsyncGenerator[bytes, None]:
        """Yield the payload's bytes in order; see `PayloadStore.stream`."""
        if claim.parts is None and claim.size_bytes <= self._part_bytes:
            if payload := await self._fetch_small(claim):
                yield payload
            return
        download = self._download(claim)
        if claim.parts is not None:
            parts = download.stream_verified(await self._tree(claim, claim.parts))
        else:
            parts = download.stream_checked_at_end(claim.digest, self._part_bytes)
        async with aclosing(parts):
            async for part in parts:
                yield part

    def open(self, claim: Claim) -> PayloadReader:
        """Make a reader of the payload; see `PayloadStore.open`."""
        return PayloadReader(claim.size_bytes, partial(self._prepare, claim))

    async def _prepare(self, claim: Claim) -> VerifiedParts:
        if claim.parts is not None:
            return _RemoteParts(self._download(claim), await self._tree(claim, claim.parts))
        if claim.size_bytes <= self._part_bytes:
            return _OnePart(await self._fetch_small(claim))
        return _RemoteParts(self._download(claim), await self._hash_parts(claim))

    async def _hash_parts(self, claim: Claim) -> PartIndex:
        """Read the whole payload once, to learn the digests of its parts."""
        digests, number = PartDigests(self._part_bytes), 0
        stream = self._download(claim).stream_checked_at_end(claim.digest, self._part_bytes)
        async with aclosing(stream):
            async for part in stream:
                digests.add(number, await self._runtime.offload(partial(_sha256, part)))
                number += 1
        return _KnownParts(digests, claim.size_bytes, self._part_bytes)

    async def _tree(self, claim: Claim, root: Digest) -> PartTree:
        page = Page.decode(await self._fetch_page(root))
        if page.size_bytes != claim.size_bytes:
            raise Corrupt(
                f"the part digests are of {page.size_bytes} bytes, the claim of {claim.size_bytes}",
                remedy="Hand over the claim as it was given out",
            )
        return PartTree(page, self._fetch_page)

    async def _fetch_page(self, digest: Digest) -> bytes:
        return await self._transfer.fetch(parts_key_of(digest), digest, limit_bytes=MAX_PAGE_BYTES)

    async def _fetch_small(self, claim: Claim) -> bytes:
        return await self._transfer.fetch(
            key_of(claim.digest),
            claim.digest,
            limit_bytes=self._part_bytes,
            size_bytes=claim.size_bytes,
        )

    def _download(self, claim: Claim) -> Download:
        return Download(self._objects, key_of(claim.digest), claim.size_bytes)


def _sha256(part: bytes) -> bytes:
    return sha256(part).digest()


class _RemoteParts:
    """Parts that are fetched when they are asked for."""

    def __init__(self, download: Download, index: PartIndex) -> None:
        self._download = download
        self._index = index

    @property
    def part_bytes(self) -> int:
        return self._index.part_bytes

    async def fetch(self, number: int) -> bytes:
        return await self._download.fetch_verified(self._index, number)

    def stream(self, first: int) -> AsyncGenerator[bytes, None]:
        return self._download.stream_verified(self._index, first)


class _OnePart:
    """A payload that is at hand, whole and verified."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self.part_bytes = max(1, len(payload))

    async def fetch(self, number: int) -> bytes:
        return self._payload

    async def stream(self, first: int) -> AsyncGenerator[bytes, None]:
        yield self._payload


class _KnownParts:
    """An index of digests that are all in memory."""

    def __init__(self, digests: PartDigests, size_bytes: int, part_bytes: int) -> None:
        self._digests = digests
        self._size_bytes = size_bytes
        self.part_bytes = part_bytes
        self.count = -(-size_bytes // part_bytes)

    async def part(self, number: int) -> Part:
        start = number * self.part_bytes
        length = min(self.part_bytes, self._size_bytes - start)
        return Part(ByteRange(start, length), self._digests.at(number))

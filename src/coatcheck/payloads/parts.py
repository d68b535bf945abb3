"""The digests of a payload's parts, as a tree of pages. Format: docs/spec/parts.md, version 1."""

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

from coatcheck.errors import Corrupt
from coatcheck.types import ByteRange, Digest

MAGIC = b"ccparts\x01"
FANOUT = 4096
"""How many digests a page holds at most: a page has up to 128 KiB."""
MAX_LEVEL = 2
DIGEST_BYTES = 32
MIN_PART_BYTES = 1
MAX_PART_BYTES = 64 * 1024**2
"""What a reader must be able to hold in memory to check it."""

_HEADER = struct.Struct(">8sBxxxIQ")
MAX_PAGE_BYTES = _HEADER.size + FANOUT * DIGEST_BYTES

Fetch = Callable[[Digest], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Page:
    """Digests of consecutive spans: of a payload's parts (level 0), or of the pages below.

    part_bytes: the size of the payload's parts, the last one apart. size_bytes: how many of the
    payload's bytes the page stands for.
    """

    level: int
    part_bytes: int
    size_bytes: int
    digests: bytes

    @property
    def span_bytes(self) -> int:
        """How many bytes each of the digests stands for, the last one apart."""
        return self.part_bytes * int(FANOUT**self.level)

    def encode(self) -> bytes:
        """Return the page as it is stored."""
        header = _HEADER.pack(MAGIC, self.level, self.part_bytes, self.size_bytes)
        return header + self.digests

    @classmethod
    def decode(cls, body: bytes) -> "Page":
        """Read a stored page. Raises Corrupt for anything but what `encode` gives."""
        if len(body) < _HEADER.size:
            raise _corrupt("is too short")
        magic, level, part_bytes, size_bytes = _HEADER.unpack_from(body)
        page = cls(level, part_bytes, size_bytes, body[_HEADER.size :])
        if magic != MAGIC:
            raise _corrupt("is none, or of a later version")
        if level > MAX_LEVEL or not MIN_PART_BYTES <= part_bytes <= MAX_PART_BYTES:
            raise _corrupt(f"has level {level} and parts of {part_bytes} bytes")
        count = -(-size_bytes // page.span_bytes)
        if not 1 <= count <= FANOUT or len(page.digests) != count * DIGEST_BYTES:
            raise _corrupt(f"does not fit its size of {size_bytes} bytes")
        if page.encode() != body:
            raise _corrupt("has bytes where there must be none")
        return page

    def digest(self, index: int) -> Digest:
        """Return the digest of the span at `index`, from 0."""
        start = index * DIGEST_BYTES
        return Digest(self.digests[start : start + DIGEST_BYTES].hex())


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a payload: its place, and what its bytes hash to."""

    span: ByteRange
    digest: Digest


class PartDigests:
    """The digests of a payload's parts while they come in, in any order. 32 bytes each."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._digests = bytearray()

    def add(self, index: int, digest: bytes) -> None:
        """Note the digest of the part at `index`, from 0."""
        start = index * DIGEST_BYTES
        if len(self._digests) < start + DIGEST_BYTES:
            self._digests.extend(bytes(start + DIGEST_BYTES - len(self._digests)))
        self._digests[start : start + DIGEST_BYTES] = digest

    def at(self, index: int) -> Digest:
        """Return the digest of the part at `index`, from 0, which was added."""
        start = index * DIGEST_BYTES
        return Digest(self._digests[start : start + DIGEST_BYTES].hex())

    def pages(self, size_bytes: int) -> list[bytes]:
        """Return the tree's pages as they are stored, the root last, of a payload of this size."""
        stored: list[bytes] = []
        level, digests = 0, bytes(self._digests)
        while True:
            row = _row(level, self._part_bytes, size_bytes, digests)
            stored += row
            if len(row) == 1:
                return stored
            level, digests = level + 1, b"".join(sha256(page).digest() for page in row)


def _row(level: int, part_bytes: int, size_bytes: int, digests: bytes) -> list[bytes]:
    page_bytes = part_bytes * FANOUT ** (level + 1)
    row: list[bytes] = []
    for index, start in enumerate(range(0, len(digests), FANOUT * DIGEST_BYTES)):
        covered = min(page_bytes, size_bytes - index * page_bytes)
        below = digests[start : start + FANOUT * DIGEST_BYTES]
        row.append(Page(level, part_bytes, covered, below).encode())
    return row


class PartTree:
    """Finds the parts of a payload, from the root of their tree down.

    `fetch` returns the page with that digest, verified. One page of each level is kept.
    """

    def __init__(self, root: Page, fetch: Fetch) -> None:
        self.size_bytes = root.size_bytes
        self.part_bytes = root.part_bytes
        self._fetch = fetch
        self._path: list[tuple[int, Page]] = [(0, root)]

    @property
    def count(self) -> int:
        """How many parts the payload has."""
        return -(-self.size_bytes // self.part_bytes)

    async def part(self, number: int) -> Part:
        """Return part `number`, from 0. At most one request for each level below the root.

        Raises Corrupt for pages that do not fit together.
        """
        start = number * self.part_bytes
        depth = 0
        while True:
            base, page = self._path[depth]
            place = (start - base) // page.span_bytes
            if page.level == 0:
                length = min(self.part_bytes, self.size_bytes - start)
                return Part(ByteRange(start, length), page.digest(place))
            depth += 1
            below = base + place * page.span_bytes
            if len(self._path) <= depth or self._path[depth][0] != below:
                child = Page.decode(await self._fetch(page.digest(place)))
                covered = min(page.span_bytes, base + page.size_bytes - below)
                if (child.level, child.part_bytes, child.size_bytes) != (
                    page.level - 1,
                    page.part_bytes,
                    covered,
                ):
                    raise _corrupt("does not fit the one above it")
                self._path[depth:] = [(below, child)]


def _corrupt(fault: str) -> Corrupt:
    return Corrupt(
        f"a page of part digests {fault}; nothing was returned",
        remedy="Read the payload by a claim without part digests, or store it again",
    )

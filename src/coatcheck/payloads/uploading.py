"""Streams go up: parts side by side into a draft, hashed on their way."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Protocol
from uuid import uuid4

from coatcheck.errors import CoatcheckError, Unsupported
from coatcheck.objects.port import Draft, DraftStore, ObjectStore
from coatcheck.objects.sources import Pieces
from coatcheck.payloads.parts import MAX_PART_BYTES, PartDigests
from coatcheck.payloads.transfer import CLEAN_UP_SECONDS
from coatcheck.runtime.budget import PROCESS_BUDGET, ByteBudget
from coatcheck.runtime.hashing import sha256_hex
from coatcheck.runtime.mutex import Mutex
from coatcheck.runtime.port import Runtime
from coatcheck.types import NO_ATTRIBUTES, Attributes, Digest

STAGING_PREFIX = "staging/"
PARTS_SIDE_BY_SIDE = 6

_log = logging.getLogger("coatcheck.payloads")


class Ledger(Protocol):
    """Takes note of the parts of a stream as they pass."""

    async def add(self, body: bytes) -> None:
        """Note the next part. Called for one part at a time, in their order."""
        ...

    async def part_digest(self, number: int, body: bytes) -> Digest | None:
        """Return the digest of part `number`, from 1, if it is of use. Called side by side."""
        ...


class Sizes:
    """A ledger that counts bytes."""

    def __init__(self) -> None:
        self.size_bytes = 0

    async def add(self, body: bytes) -> None:
        """Count the part."""
        self.size_bytes += len(body)

    async def part_digest(self, number: int, body: bytes) -> Digest | None:
        """Return None: whoever sends the part hashes it, where it must be."""
        return None


class Hashes:
    """A ledger of digests: the whole stream's, and each part's."""

    def __init__(self, runtime: Runtime, part_bytes: int) -> None:
        self._runtime = runtime
        self._whole = sha256()
        self.size_bytes = 0
        self.parts = PartDigests(part_bytes)

    @property
    def digest(self) -> Digest:
        """The digest of all that was noted so far."""
        return Digest(self._whole.hexdigest())

    async def add(self, body: bytes) -> None:
        """Hash the part on, away from the event loop."""
        await self._runtime.offload(partial(self._whole.update, body))
        self.size_bytes += len(body)

    async def part_digest(self, number: int, body: bytes) -> Digest | None:
        """Hash the part by itself, and keep its digest."""
        hexadecimal = await sha256_hex(body, self._runtime)
        self.parts.add(number - 1, bytes.fromhex(hexadecimal))
        return Digest(hexadecimal)


@dataclass(slots=True)
class _Reading:
    """Where the workers of one upload stand in its source."""

    number: int = 0
    is_over: bool = False


class PartSender:
    """Sends what is left of a source into a draft, in parts of `part_bytes`.

    The parts are read and noted one after the other, and sent side by side, so sending holds up
    reading when the server is slow, and the other way round. Bytes in flight are taken from
    `budget`, by default the process's; one part of each stream waits for them outside of it.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        part_bytes: int,
        budget: ByteBudget = PROCESS_BUDGET,
    ) -> None:
        self._runtime = runtime
        self._part_bytes = part_bytes
        self._budget = budget

    async def send(self, draft: Draft, pieces: Pieces, ledger: Ledger) -> None:
        """Send all of `pieces`, and note it in `ledger`."""
        runtime = self._runtime
        reading, noting, state = Mutex(runtime), Mutex(runtime), _Reading()

        async def work() -> None:
            while (part := await self._next(state, pieces, reading, noting, ledger)) is not None:
                number, body, taken = part
                try:
                    digest = await ledger.part_digest(number, body)
                    await draft.send_part(number, body, digest=digest)
                finally:
                    self._budget.give_back(taken)
                    # Or it would be held while the next one is read.
                    del part, body

        await runtime.gather([work] * PARTS_SIDE_BY_SIDE, limit=PARTS_SIDE_BY_SIDE)

    async def _next(
        self, state: _Reading, pieces: Pieces, reading: Mutex, noting: Mutex, ledger: Ledger
    ) -> tuple[int, bytes, int] | None:
        """Read the next part and note it; its number, its bytes, and what it took of the budget.

        The turn at the ledger is taken before the source is let go of: that keeps the parts in
        their order while one is hashed and the next is read.
        """
        async with reading:
            if state.is_over:
                return None
            body = await pieces.take(self._part_bytes)
            if not body:
                state.is_over = True
                return None
            state.number += 1
            number = state.number
            taken = await self._budget.take(len(body), self._runtime)
            try:
                await noting.acquire()
            except BaseException:
                self._budget.give_back(taken)
                raise
        try:
            await ledger.add(body)
        except BaseException:
            self._budget.give_back(taken)
            raise
        finally:
            noting.release()
        return number, body, taken


@asynccontextmanager
async def drafted(
    objects: ObjectStore, key: str, *, part_bytes: int, attributes: Attributes = NO_ATTRIBUTES
) -> AsyncIterator[Draft]:
    """Begin a draft, and discard it at the end of the block, whatever way that is left.

    Raises Unsupported where the store takes none.
    """
    if not isinstance(objects, DraftStore):
        raise Unsupported(
            "the store takes streams of one part at most",
            remedy="Raise part_size_bytes, or use a store that has begin_draft",
        )
    draft = objects.begin_draft(key, part_bytes=part_bytes, attributes=attributes)
    try:
        yield draft
    finally:
        await objects.runtime.finish(partial(_discard, draft, key), seconds=CLEAN_UP_SECONDS)


def staging_key(runtime: Runtime) -> str:
    """Return a new key for a draft. Its day makes it easy to see how old it is."""
    day = datetime.fromtimestamp(runtime.wall_clock(), UTC)
    return f"{STAGING_PREFIX}{day:%Y%m%d}/{uuid4().hex}"


def stream_part_size(part_size_bytes: int) -> int:
    """Return the size of a stream's parts: what is asked for, up to what a reader can check."""
    return min(part_size_bytes, MAX_PART_BYTES)


async def _discard(draft: Draft, key: str) -> None:
    try:
        await draft.discard()
    except CoatcheckError as error:
        # What was stored is stored, and a first failure is the one to report; the sweeper finds
        # what is left here.
        _log.warning("the draft %s could not be removed: %s", key, error)

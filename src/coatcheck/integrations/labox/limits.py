"""How many requests of a kind may be under way at once: labox's `max_writers`, `max_readers`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coatcheck.objects.port import Draft
from coatcheck.objects.s3 import S3Objects
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.runtime.budget import ByteBudget
from coatcheck.runtime.port import Runtime
from coatcheck.types import ByteRange, Condition, Digest, Fetched, ObjectInfo


class Places:
    """`count` places, or any number for None; who finds none free waits, first come first served.

    One set serves all event loops and threads of the process.
    """

    def __init__(self, count: int | None) -> None:
        self._budget = ByteBudget(count) if count else None

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a place for the length of the block."""
        if self._budget is None:
            yield
            return
        taken = await self._budget.take(1, ASYNCIO)
        try:
            yield
        finally:
            self._budget.give_back(taken)


class LimitedReader:
    """The ranges of a bucket's objects, each fetched in a place of its own. A RangeReader."""

    def __init__(self, objects: S3Objects, places: Places) -> None:
        self._objects = objects
        self._places = places

    @property
    def location(self) -> str:
        """The bucket's."""
        return self._objects.location

    @property
    def runtime(self) -> Runtime:
        """The bucket's."""
        return self._objects.runtime

    async def get(
        self,
        key: str,
        span: ByteRange | None = None,
        *,
        limit_bytes: int,
        if_match: str | None = None,
    ) -> Fetched:
        """Return the object, or those bytes of `span` that it has."""
        async with self._places.one():
            return await self._objects.get(key, span, limit_bytes=limit_bytes, if_match=if_match)

    async def get_into(
        self, key: str, start: int, buffer: memoryview, *, if_match: str | None = None
    ) -> None:
        """Fill `buffer` with the object's bytes from offset `start`."""
        async with self._places.one():
            await self._objects.get_into(key, start, buffer, if_match=if_match)


class LimitedDraft:
    """A draft whose parts are each sent in a place of their own."""

    def __init__(self, draft: Draft, places: Places) -> None:
        self._draft = draft
        self._places = places

    async def send_part(self, number: int, body: bytes, *, digest: Digest | None = None) -> None:
        """Store part `number`."""
        async with self._places.one():
            await self._draft.send_part(number, body, digest=digest)

    async def publish(self, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Make the object."""
        async with self._places.one():
            return await self._draft.publish(key, condition=condition)

    async def discard(self) -> None:
        """Forget the parts."""
        await self._draft.discard()

"""A file of a volume: what it is, and its bytes, whole, in ranges or as a stream."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from functools import partial
from io import SEEK_END, BytesIO

from coatcheck.errors import Corrupt, Diagnostics, TooLarge
from coatcheck.objects.port import ObjectStore
from coatcheck.runtime.ahead import in_order
from coatcheck.runtime.budget import PROCESS_BUDGET
from coatcheck.runtime.port import Job
from coatcheck.types import ByteRange, Fetched, ObjectInfo
from coatcheck.volumes.parts import PART_BYTES

DEFAULT_READ_BYTES = 1024**3
PARTS_AHEAD = 4
PARTS_SIDE_BY_SIDE = 8


class VolumeFile:
    """A file of a volume, whether it is there or not: reading finds out.

    Large files come in ranges of 8 MiB, side by side. All of them are of one version of the file:
    Conflict if it is replaced meanwhile. Share it freely between tasks.
    """

    def __init__(
        self, objects: ObjectStore, key: str, path: str, info: ObjectInfo | None = None
    ) -> None:
        self._objects = objects
        self._runtime = objects.runtime
        self._key = key
        self._path = path
        self._info = info

    @property
    def path(self) -> str:
        """The file's path in its volume."""
        return self._path

    async def info(self) -> ObjectInfo:
        """Return what the store says about the file, with its path as the key.

        One request, and none for a file that a walk has found: then it is as it was found.
        Raises NotFound.
        """
        info = self._info if self._info is not None else await self._objects.head(self._key)
        return ObjectInfo(self._path, info.size_bytes, info.etag, info.last_modified)

    async def size(self) -> int:
        """Return the file's size in bytes. Requests and errors as in `info`."""
        return (await self.info()).size_bytes

    async def read(
        self, span: ByteRange | None = None, *, limit_bytes: int = DEFAULT_READ_BYTES
    ) -> bytes:
        """Return the file's bytes, or those of `span` that it has.

        One request up to 8 MiB, then one for each 8 MiB. Raises NotFound, TooLarge for more than
        `limit_bytes` (1 GiB by default), Conflict, and Corrupt if bytes are missing.
        """
        start = span.start if span is not None else 0
        wanted_bytes = limit_bytes if span is None else span.length
        first = await self._first(start, min(wanted_bytes, limit_bytes, PART_BYTES))
        left_bytes = max(0, first.size_bytes - start)
        total_bytes = left_bytes if span is None else min(left_bytes, wanted_bytes)
        if total_bytes > limit_bytes:
            raise TooLarge(
                f"the read would give {total_bytes} bytes, over the limit of {limit_bytes}",
                remedy="Stream the file, or raise limit_bytes if that is meant to be",
                diagnostics=self._diagnostics(),
            )
        if total_bytes == len(first.body):
            return first.body
        etag, assembled = first.etag, BytesIO(first.body)
        del first  # or its bytes would be held twice until the end
        await self._read_rest(assembled, start, total_bytes, etag)
        return assembled.getvalue()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the file's bytes in order, 8 MiB at a time, four of which are fetched ahead.

        Requests and errors as in `read`, without its limit. Left early, it cancels what is under
        way.
        """
        first = await self._first(0, PART_BYTES)
        size_bytes, etag, done_bytes = first.size_bytes, first.etag, len(first.body)
        if first.body:
            yield first.body
        del first
        jobs: Iterator[Job[bytes]] = (
            partial(self._fetch, ByteRange(start, min(PART_BYTES, size_bytes - start)), etag)
            for start in range(done_bytes, size_bytes, PART_BYTES)
        )
        async with aclosing(in_order(jobs, self._runtime, ahead=PARTS_AHEAD)) as parts:
            async for part in parts:
                yield part

    async def _first(self, start: int, length: int) -> Fetched:
        """Fetch the first bytes, and with them size and ETag of the file."""
        # Nothing is no range, and S3 refuses any range of an empty object.
        is_empty = self._info is not None and self._info.size_bytes == 0
        span = None if is_empty or not length else ByteRange(start, length)
        taken = await PROCESS_BUDGET.take(length, self._runtime)
        try:
            fetched = await self._objects.get(self._key, span, limit_bytes=length)
        finally:
            PROCESS_BUDGET.give_back(taken)
        if len(fetched.body) != min(length, max(0, fetched.size_bytes - start)):
            raise self._incomplete(start)
        return fetched

    async def _fetch(self, span: ByteRange, etag: str | None) -> bytes:
        taken = await PROCESS_BUDGET.take(span.length, self._runtime)
        try:
            fetched = await self._objects.get(
                self._key, span, limit_bytes=span.length, if_match=etag
            )
        finally:
            PROCESS_BUDGET.give_back(taken)
        if len(fetched.body) != span.length:
            raise self._incomplete(span.start)
        return fetched.body

    async def _read_rest(
        self, assembled: BytesIO, start: int, total_bytes: int, etag: str | None
    ) -> None:
        """Fetch the ranges after the first, each straight into its place in the result.

        BytesIO hands out its buffer as bytes without a copy, so the file is held once.
        """
        done_bytes = assembled.seek(0, SEEK_END)
        assembled.seek(total_bytes - 1)
        assembled.write(b"\0")

        async def fetch(place: int) -> None:
            end = min(place + PART_BYTES, total_bytes)
            taken = await PROCESS_BUDGET.take(end - place, self._runtime)
            try:
                with view[place:end] as part:
                    await self._objects.get_into(self._key, start + place, part, if_match=etag)
            finally:
                PROCESS_BUDGET.give_back(taken)

        with assembled.getbuffer() as view:
            jobs = [partial(fetch, place) for place in range(done_bytes, total_bytes, PART_BYTES)]
            await self._runtime.gather(jobs, limit=PARTS_SIDE_BY_SIDE)

    def _incomplete(self, start: int) -> Corrupt:
        return Corrupt(
            f"the file's bytes from {start} on came incomplete; they were withheld",
            remedy="Read the file again, and find out who else writes to this place",
            diagnostics=self._diagnostics(),
        )

    def _diagnostics(self) -> Diagnostics:
        return Diagnostics(operation="read", bucket=self._objects.location, key=self._key)

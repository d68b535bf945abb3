"""Files go up: one request up to one part, else parts side by side, in fixed memory."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from inspect import iscoroutinefunction
from io import SEEK_END
from typing import Protocol, runtime_checkable

from coatcheck.errors import CoatcheckError, Unsupported
from coatcheck.objects.port import DraftStore, MultipartStore, ObjectStore, Upload
from coatcheck.objects.sources import Pieces, Source
from coatcheck.runtime.budget import PROCESS_BUDGET
from coatcheck.runtime.mutex import Mutex
from coatcheck.runtime.port import Runtime
from coatcheck.types import NO_ATTRIBUTES, Attributes, ObjectInfo
from coatcheck.volumes.parts import PART_BYTES, part_size

PARTS_SIDE_BY_SIDE = 8
CLEAN_UP_SECONDS = 5.0


@runtime_checkable
class _Seekable(Protocol):
    """A binary file, whether or not it is one of Python's own."""

    closed: bool

    def seekable(self) -> bool: ...

    def tell(self) -> int: ...

    def seek(self, offset: int, whence: int = ..., /) -> int: ...


_SendPart = Callable[[int, bytes], Awaitable[None]]
_log = logging.getLogger("coatcheck.volumes")


async def upload(
    objects: ObjectStore,
    key: str,
    source: Source,
    *,
    size_bytes: int | None = None,
    attributes: Attributes = NO_ATTRIBUTES,
) -> ObjectInfo:
    """Make the bytes of `source` the object under `key`, in place of what was there.

    A file is read from its position on, stays open, and is put back to that position if it can
    be. Up to one part: one request. Beyond: one for each part and two around them. Readers see
    the old object until the new one is complete; whatever goes wrong before leaves nothing.
    `size_bytes`, if given, is what the source must give: another size is a ConfigError.
    """
    runtime = objects.runtime
    async with _kept_in_place(source) as measured_bytes:
        pieces = Pieces(source, runtime, size_bytes=size_bytes)
        try:
            whole = await pieces.whole(PART_BYTES)
            if whole is not None:
                return await _put(objects, key, whole, attributes)
            expected_bytes = size_bytes if size_bytes is not None else measured_bytes
            if isinstance(objects, MultipartStore):
                return await _upload(objects, runtime, key, pieces, expected_bytes, attributes)
            if isinstance(objects, DraftStore):
                return await _draft(objects, runtime, key, pieces, attributes)
        finally:
            await pieces.close()
    raise Unsupported(
        f"the store at {objects.location} takes files of {PART_BYTES} bytes at most",
        remedy="Use a store that has begin_upload or begin_draft",
    )


async def _put(objects: ObjectStore, key: str, body: bytes, attributes: Attributes) -> ObjectInfo:
    taken = await PROCESS_BUDGET.take(len(body), objects.runtime)
    try:
        return await objects.put(key, body, attributes=attributes)
    finally:
        PROCESS_BUDGET.give_back(taken)


async def _upload(
    objects: MultipartStore,
    runtime: Runtime,
    key: str,
    pieces: Pieces,
    size_bytes: int | None,
    attributes: Attributes,
) -> ObjectInfo:
    begun: list[Upload] = []

    async def begin() -> None:
        begun.append(await objects.begin_upload(key, attributes=attributes))

    try:
        # Cancelled now, the server may have begun an upload whose id nobody knows: wait for it.
        await runtime.finish(begin, seconds=CLEAN_UP_SECONDS)
        await _send(runtime, pieces, partial(part_size, size_bytes=size_bytes), begun[0].send_part)
        return await begun[0].complete()
    except BaseException:
        for unfinished in begun:
            job = partial(_let_go, unfinished.abort, key)
            await runtime.finish(job, seconds=CLEAN_UP_SECONDS)
        raise


async def _draft(
    objects: DraftStore, runtime: Runtime, key: str, pieces: Pieces, attributes: Attributes
) -> ObjectInfo:
    draft = objects.begin_draft(key, part_bytes=PART_BYTES, attributes=attributes)
    try:
        await _send(runtime, pieces, lambda number: PART_BYTES, draft.send_part)
        return await draft.publish(key)
    finally:
        await runtime.finish(partial(_let_go, draft.discard, key), seconds=CLEAN_UP_SECONDS)


async def _send(
    runtime: Runtime, pieces: Pieces, size_of: Callable[[int], int], send_part: _SendPart
) -> None:
    """Send all of `pieces`: read one after the other, sent side by side.

    The budget is taken after a part is read: what it is read from may need the budget itself.
    """
    reading = Mutex(runtime)
    numbers = 0
    is_over = False

    async def work() -> None:
        nonlocal numbers, is_over
        while True:
            async with reading:
                body = b"" if is_over else await pieces.take(size_of(numbers + 1))
                if not body:
                    is_over = True
                    return
                numbers += 1
                number = numbers
                taken = await PROCESS_BUDGET.take(len(body), runtime)
            try:
                await send_part(number, body)
            finally:
                PROCESS_BUDGET.give_back(taken)
            del body  # or it would be held beside the next one, while that is waited for

    await runtime.gather([work] * PARTS_SIDE_BY_SIDE, limit=PARTS_SIDE_BY_SIDE)


async def _let_go(clean_up: Callable[[], Awaitable[None]], key: str) -> None:
    try:
        await clean_up()
    except CoatcheckError as error:
        # The first failure is the one to report; the parts left are the sweeper's.
        _log.warning("the parts of %s could not be removed: %s", key, error)


@asynccontextmanager
async def _kept_in_place(source: Source) -> AsyncIterator[int | None]:
    """Yield the bytes that `source` has left, if it tells; put a file back where it was."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield memoryview(source).nbytes
        return
    # What has these methods with await (a file of an async library) is read from where it is.
    if (
        not isinstance(source, _Seekable)
        or iscoroutinefunction(source.seekable)
        or not source.seekable()
    ):
        yield None
        return
    position = source.tell()
    end = source.seek(0, SEEK_END)
    source.seek(position)
    try:
        yield max(0, end - position)
    finally:
        if not source.closed:
            source.seek(position)

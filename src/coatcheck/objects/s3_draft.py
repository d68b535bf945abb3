"""A draft in S3: segments under staging keys, put together by the server.

S3 cannot rename. So a draft lies under a key of its own, and is copied to its final one when that
is known. A multipart upload has 10,000 parts at most, and a copy 5 GiB: a draft of any size is a
sequence of segments of up to 5 GiB, each a multipart upload of its own under its own key, and the
object is made of them by UploadPartCopy. Its parts stay as small as they were at its beginning.
"""

import logging
from functools import partial
from typing import TYPE_CHECKING

from coatcheck.errors import CoatcheckError, Unsupported
from coatcheck.objects.port import Upload
from coatcheck.objects.s3_upload import Piece, S3Upload
from coatcheck.runtime.mutex import Mutex
from coatcheck.types import Attributes, ByteRange, Condition, Digest, ObjectInfo

if TYPE_CHECKING:
    from coatcheck.objects.s3 import S3Objects

MIB = 1024 * 1024
MAX_PARTS = 10_000
SEGMENT_BYTES = 5 * 1024 * MIB
"""The most that one request can copy."""
COPY_BYTES = 512 * MIB
"""What one request copies where others can copy the rest beside it: seconds, not minutes, and a
server that copies says nothing meanwhile."""
COPIES_SIDE_BY_SIDE = 4
CLEAN_UP_SECONDS = 5.0

_log = logging.getLogger("coatcheck.objects")


class _Segment:
    __slots__ = ("is_complete", "key", "sent", "upload")

    def __init__(self, key: str, upload: Upload) -> None:
        self.key = key
        self.upload = upload
        self.sent: dict[int, int] = {}
        self.is_complete = False

    @property
    def size_bytes(self) -> int:
        return sum(self.sent.values())


class S3Draft:
    """A draft under `key` of `home`, and under `key.1`, `key.2` ... beyond 5 GiB.

    Implements Draft. Objects that are copies keep the content type, encoding and tags of the
    draft, which are `attributes`.
    """

    def __init__(
        self, home: "S3Objects", key: str, part_bytes: int, attributes: Attributes
    ) -> None:
        self._home = home
        self._key = key
        self._attributes = attributes
        self._segment_parts = min(MAX_PARTS, max(1, SEGMENT_BYTES // part_bytes))
        self._segments: dict[int, _Segment] = {}
        self._beginning = Mutex(home.runtime)

    async def send_part(self, number: int, body: bytes, *, digest: Digest | None = None) -> None:
        """Store part `number`: one UploadPart. A segment's first and last part cost one more."""
        index, local = divmod(number - 1, self._segment_parts)
        segment = await self._segment(index)
        await segment.upload.send_part(local + 1, body, digest=digest)
        segment.sent[local] = len(body)
        if len(segment.sent) == self._segment_parts:
            await self._complete(segment)

    async def publish(
        self, key: str, *, condition: Condition | None = None, into: "S3Objects | None" = None
    ) -> ObjectInfo:
        """Copy the draft to `key`, in another bucket with `into`, which the same client reaches.

        One CompleteMultipartUpload if it was not sent yet; then one CopyObject up to 512 MiB,
        beyond it one UploadPartCopy for each 512 MiB and two requests around them. A server that
        does not know UploadPartCopy gets one CopyObject up to 5 GiB.
        """
        target = into if into is not None else self._home
        segments = [segment for _, segment in sorted(self._segments.items())]
        jobs = [partial(self._complete, segment) for segment in segments]
        await self._home.runtime.gather(jobs, limit=COPIES_SIDE_BY_SIDE)
        total_bytes = sum(segment.size_bytes for segment in segments)
        if len(segments) > 1 or total_bytes > COPY_BYTES:
            try:
                return await self._compose(target, segments, key, condition)
            except Unsupported:
                if len(segments) > 1:
                    raise
        etag = await target.copy_from(
            self._home, segments[0].key, key, condition=condition, attributes=self._attributes
        )
        return ObjectInfo(key, total_bytes, etag)

    async def discard(self) -> None:
        """Abort what is not complete, remove what is."""
        segments = list(self._segments.values())
        opened = [segment for segment in segments if not segment.is_complete]
        jobs = [segment.upload.abort for segment in opened]
        await self._home.runtime.gather(jobs, limit=COPIES_SIDE_BY_SIDE)
        # An upload whose completion was cut off may have become an object all the same.
        begun = [segment.key for segment in segments if segment.sent]
        if len(begun) == 1:
            await self._home.delete(begun[0])
        elif begun:
            await self._home.delete_many(begun)
        self._segments.clear()

    async def _segment(self, index: int) -> _Segment:
        async with self._beginning:
            if index not in self._segments:
                key = f"{self._key}.{index}" if index else self._key
                # Cancelled now, the server may have begun an upload whose id nobody knows.
                await self._home.runtime.finish(
                    partial(self._begin, index, key), seconds=CLEAN_UP_SECONDS
                )
            return self._segments[index]

    async def _begin(self, index: int, key: str) -> None:
        upload = await self._home.begin_upload(key, attributes=self._attributes)
        self._segments[index] = _Segment(key, upload)

    async def _complete(self, segment: _Segment) -> None:
        if not segment.is_complete:
            await segment.upload.complete()
            segment.is_complete = True

    async def _compose(
        self, target: "S3Objects", segments: list[_Segment], key: str, condition: Condition | None
    ) -> ObjectInfo:
        runtime, begun = self._home.runtime, list[S3Upload]()

        async def begin() -> None:
            begun.append(await target.begin_upload(key, attributes=self._attributes))

        try:
            await runtime.finish(begin, seconds=CLEAN_UP_SECONDS)
            jobs = [
                partial(begun[0].copy_part, number, piece)
                for number, piece in enumerate(self._pieces(segments), 1)
            ]
            # The first alone: a server that cannot do it says so before others are sent.
            await jobs[0]()
            await runtime.gather(jobs[1:], limit=COPIES_SIDE_BY_SIDE)
            return await begun[0].complete(condition=condition)
        except BaseException:
            for upload in begun:
                await runtime.finish(partial(_abort, upload, key), seconds=CLEAN_UP_SECONDS)
            raise

    def _pieces(self, segments: list[_Segment]) -> list[Piece]:
        """Cut the segments into what one request copies each, 10,000 at most."""
        total_bytes = sum(segment.size_bytes for segment in segments)
        most_bytes = min(max(COPY_BYTES, -(-total_bytes // (MAX_PARTS // 2))), SEGMENT_BYTES)
        pieces: list[Piece] = []
        for segment in segments:
            source_key = self._home.full_key(segment.key)
            # Evenly, so that no piece but the object's last is under the 5 MiB that a part needs.
            count = -(-segment.size_bytes // most_bytes)
            piece_bytes = -(-segment.size_bytes // count)
            for start in range(0, segment.size_bytes, piece_bytes):
                length = min(piece_bytes, segment.size_bytes - start)
                span = ByteRange(start, length) if count > 1 else None
                pieces.append(Piece(self._home.bucket, source_key, span, length))
        return pieces


async def _abort(upload: S3Upload, key: str) -> None:
    try:
        await upload.abort()
    except CoatcheckError as error:
        # The first failure is the one to report; the parts left are the sweeper's.
        _log.warning("a multipart upload of %s could not be aborted: %s", key, error)

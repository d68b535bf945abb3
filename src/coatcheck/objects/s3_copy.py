"""Copies from one S3 bucket to another of the same server, of objects of any size."""

import logging
from functools import partial
from typing import TYPE_CHECKING

from coatcheck.errors import CoatcheckError, Conflict, Unsupported
from coatcheck.objects.s3_upload import Piece, S3Upload
from coatcheck.types import ByteRange, ObjectInfo

if TYPE_CHECKING:
    from coatcheck.objects.s3 import S3Objects

MIB = 1024 * 1024
SINGLE_COPY_BYTES = 512 * MIB
"""The most that one request copies: seconds, for a server that copies says nothing meanwhile."""
MAX_PARTS = 10_000
COPIES_SIDE_BY_SIDE = 4
CLEAN_UP_SECONDS = 5.0

_log = logging.getLogger("coatcheck.objects")


async def copy_any_size(
    home: "S3Objects", source: ObjectInfo, target: "S3Objects", key: str
) -> ObjectInfo:
    """Copy the object `source` of `home` to `key` of `target`.

    One CopyObject up to 512 MiB; beyond it one UploadPartCopy for each 512 MiB and three requests
    around them, or where the server does not know those, CopyObject again. Raises Conflict if the
    source was replaced while it was copied piece by piece.
    """
    if source.size_bytes > SINGLE_COPY_BYTES:
        try:
            return await _copy_pieces(home, source, target, key)
        except Unsupported as error:
            _log.warning("%s is copied in one request: %s", source.key, error)
    etag = await target.copy_from(home, source.key, key)
    return ObjectInfo(key, source.size_bytes, etag)


async def _copy_pieces(
    home: "S3Objects", source: ObjectInfo, target: "S3Objects", key: str
) -> ObjectInfo:
    runtime, begun = target.runtime, list[S3Upload]()

    async def begin() -> None:
        begun.append(await target.begin_upload(key))

    try:
        # Cancelled now, the server may have begun an upload whose id nobody knows: wait for it.
        await runtime.finish(begin, seconds=CLEAN_UP_SECONDS)
        jobs = [
            partial(begun[0].copy_part, number, piece)
            for number, piece in enumerate(_pieces(home, source), 1)
        ]
        # The first alone: a server that cannot do it says so before others are sent.
        await jobs[0]()
        await runtime.gather(jobs[1:], limit=COPIES_SIDE_BY_SIDE)
        if (await home.head(source.key)).etag != source.etag:
            raise Conflict(
                "the object was replaced while it was copied; nothing was stored",
                remedy="Copy it again",
            )
        return await begun[0].complete()
    except BaseException:
        for upload in begun:
            await runtime.finish(partial(_abort, upload, key), seconds=CLEAN_UP_SECONDS)
        raise


def _pieces(home: "S3Objects", source: ObjectInfo) -> list[Piece]:
    """Cut the object evenly, so that no piece is under the 5 MiB that a part needs."""
    count = -(-source.size_bytes // max(SINGLE_COPY_BYTES, -(-source.size_bytes // MAX_PARTS)))
    piece_bytes = -(-source.size_bytes // count)
    key = home.full_key(source.key)
    return [
        Piece(home.bucket, key, ByteRange(start, length), length)
        for start in range(0, source.size_bytes, piece_bytes)
        for length in [min(piece_bytes, source.size_bytes - start)]
    ]


async def _abort(upload: S3Upload, key: str) -> None:
    try:
        await upload.abort()
    except CoatcheckError as error:
        # The first failure is the one to report; the parts left are the sweeper's.
        _log.warning("a multipart upload of %s could not be aborted: %s", key, error)

"""The storage: what labox calls to write and read values and streams."""

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import AbstractContextManager, aclosing
from functools import lru_cache
from typing import IO, TYPE_CHECKING

from labox.core.storage import Storage

from coatcheck.integrations.labox.content import Content
from coatcheck.integrations.labox.errors import reported
from coatcheck.integrations.labox.limits import LimitedDraft, LimitedReader, Places
from coatcheck.integrations.labox.routers import S3Pointer, S3Router, SimpleRouter
from coatcheck.integrations.labox.writing import Writer
from coatcheck.objects.buckets import Buckets
from coatcheck.objects.sources import Pieces
from coatcheck.opening import open_buckets_of
from coatcheck.payloads.streaming import Download
from coatcheck.payloads.transfer import DEFAULT_PART_BYTES, Transfer
from coatcheck.payloads.uploading import PartSender, Sizes, drafted
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.types import ByteRange, Digest

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from labox.common.types import TagMap
    from labox.core.storage import Digest as ContentDigest
    from labox.core.storage import GetStreamDigest

MIB = 1024 * 1024
MIN_PART_BYTES = 5 * MIB
MAX_PART_BYTES = 5 * 1024 * MIB
LARGEST_VALUE_BYTES = 50 * 1024**4
BUCKETS_REMEMBERED = 256


class S3Storage(Storage[S3Pointer]):
    """S3 for labox, on asyncio: a drop-in for `labox.extra.aws.S3Storage`, with the same keywords.

    s3_client: made by `new_client`, or a boto3 client, whose endpoint, region and credentials are
        used; requests are coatcheck's own.
    s3_router: where content goes; None for a storage that only reads.
    max_writers, max_readers: how many values, and parts of streams, may be written and read at
        once. Default: as many as the process's budget of bytes in flight allows.
    stream_writer_min_part_size: 5 MiB to 5 GiB; streams are sent in parts of this size, and of
        8 MiB at least, up to six of them side by side.
    stream_writer_buffer_type: taken and not used: parts are kept in memory.
    stream_reader_max_part_size: the largest chunk of a stream that is read. Default 5 MiB.

    Keys that hold the content's SHA-256 are written once: equal content is not sent again. Under
    any other key only the same content is accepted, else KeyTaken. With our `simple_s3_router`
    what is read is verified. Raises ValueError for part sizes that S3 does not take.
    """

    name = "labox.aws.s3@v1"

    # labox compares components by name, and two storages may be two buckets.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        *,
        s3_client: "Buckets | BaseClient",
        s3_router: S3Router | None,
        max_writers: int | None = None,
        max_readers: int | None = None,
        stream_writer_min_part_size: int = MIN_PART_BYTES,
        stream_writer_buffer_type: Callable[[], AbstractContextManager[IO[bytes]]] | None = None,
        stream_reader_max_part_size: int = MIN_PART_BYTES,
    ) -> None:
        if not MIN_PART_BYTES <= stream_writer_min_part_size <= MAX_PART_BYTES:
            raise ValueError(
                f"stream_writer_min_part_size is {stream_writer_min_part_size}: S3 takes parts of"
                " 5 MiB to 5 GiB (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)"
            )
        if stream_reader_max_part_size < 1:
            raise ValueError(
                f"stream_reader_max_part_size is {stream_reader_max_part_size}: give 1 or more"
            )
        self._buckets = s3_client if isinstance(s3_client, Buckets) else open_buckets_of(s3_client)
        self._router = s3_router
        self._writers, self._readers = Places(max_writers), Places(max_readers)
        self._write_part_bytes = max(stream_writer_min_part_size, DEFAULT_PART_BYTES)
        self._read_part_bytes = stream_reader_max_part_size
        # They keep no more than the work under way, so a forgotten one is made again.
        self._transfer = lru_cache(BUCKETS_REMEMBERED)(self._new_transfer)
        self._writer = lru_cache(BUCKETS_REMEMBERED)(self._new_writer)

    async def write_data(
        self, data: bytes, digest: "ContentDigest", tags: "TagMap", /
    ) -> S3Pointer:
        """Store a value and return its pointer.

        Under a key that holds its hash: one request, and one more if it was there already. Under
        another key two, and if there is content of the same size it is read to be compared.
        """
        pointer = self._route(digest, tags, temp=False)
        content = Content.of(digest, tags)
        with reported(pointer):
            async with self._writers.one():
                await self._writer(pointer["bucket"]).write(pointer["key"], data, content)
        return pointer

    async def read_data(self, config: S3Pointer, /) -> bytes:
        """Return the value at the pointer. One request for each 8 MiB.

        Raises NoStorageData, NoStorageBucket if it is the bucket that is missing, and Corrupt.
        """
        digest, transfer = self._digest_in(config), self._transfer(config["bucket"])
        with reported(config):
            async with self._readers.one():
                if digest is None:
                    return await transfer.fetch_unverified(
                        config["key"], limit_bytes=LARGEST_VALUE_BYTES
                    )
                return await transfer.fetch(config["key"], digest, limit_bytes=LARGEST_VALUE_BYTES)

    async def write_data_stream(
        self, data_stream: AsyncIterable[bytes], get_digest: "GetStreamDigest", tags: "TagMap", /
    ) -> S3Pointer:
        """Store a stream of any size and return its pointer.

        Up to one part it is stored as a value is. Beyond, its parts go to the router's temporary
        key; then the server copies them to the final key, unless the content is there already,
        and the temporary object is removed. On every way out but success nothing is left.
        """
        self._refuse_if_read_only()
        pieces = Pieces(data_stream, ASYNCIO)
        try:
            value = await pieces.whole(self._write_part_bytes)
            if value is not None:
                return await self.write_data(value, get_digest(), tags)
            return await self._write_parts(pieces, get_digest, tags)
        finally:
            await pieces.close()

    async def _write_parts(
        self, pieces: Pieces, get_digest: "GetStreamDigest", tags: "TagMap"
    ) -> S3Pointer:
        begun = get_digest(allow_incomplete=True)
        staging = self._route(begun, tags, temp=True)
        home = self._buckets.objects(staging["bucket"])
        attributes, part_bytes = Content.of(begun, tags).attributes, self._write_part_bytes
        with reported(staging):
            async with drafted(
                home, staging["key"], part_bytes=part_bytes, attributes=attributes
            ) as draft:
                sender = PartSender(ASYNCIO, part_bytes=part_bytes)
                await sender.send(LimitedDraft(draft, self._writers), pieces, Sizes())
                digest = get_digest()
                pointer = self._route(digest, tags, temp=False)
                with reported(pointer):
                    await self._writer(pointer["bucket"]).publish(
                        draft, pointer["key"], Content.of(digest, tags)
                    )
        return pointer

    async def read_data_stream(self, config: S3Pointer, /) -> AsyncGenerator[bytes, None]:
        """Yield the content at the pointer, a part at a time; up to four are fetched ahead.

        One request for the size, and one for each part. Where the content's hash is known, the
        last part is given when all together match it, and Corrupt raised in its place if they do
        not. Raises NoStorageData, and NoStorageBucket if it is the bucket that is missing.
        """
        with reported(config):
            objects = self._buckets.objects(config["bucket"])
            # Not a HEAD, whose answer cannot tell whether it is the bucket that is missing.
            first = await objects.get(config["key"], ByteRange(0, 1), limit_bytes=1)
            download = Download(
                LimitedReader(objects, self._readers), config["key"], first.size_bytes
            )
            digest = self._digest_in(config)
            if digest is None:
                parts = download.stream_raw(self._read_part_bytes)
            else:
                parts = download.stream_checked_at_end(digest, self._read_part_bytes)
            async with aclosing(parts):
                async for part in parts:
                    yield part

    def _route(self, digest: "ContentDigest", tags: "TagMap", *, temp: bool) -> S3Pointer:
        return self._refuse_if_read_only()(digest, tags, temp=temp)

    def _refuse_if_read_only(self) -> S3Router:
        if self._router is None:
            raise NotImplementedError(f"{self} is read-only and cannot write data.")
        return self._router

    def _digest_in(self, pointer: S3Pointer) -> Digest | None:
        return self._router.digest_in(pointer) if isinstance(self._router, SimpleRouter) else None

    def _new_writer(self, bucket: str) -> Writer:
        return Writer(self._buckets.objects(bucket), self._transfer(bucket))

    def _new_transfer(self, bucket: str) -> Transfer:
        return Transfer(self._buckets.objects(bucket))

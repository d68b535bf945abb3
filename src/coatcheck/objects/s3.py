"""Objects in an S3 bucket, under a prefix."""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from urllib.parse import urlencode

from coatcheck.errors import BucketNotFound, Forbidden, NotFound, TooLarge, Unsupported
from coatcheck.objects.keys import check_s3_key
from coatcheck.runtime.port import Runtime
from coatcheck.s3 import operations, xml
from coatcheck.s3.client import S3Client
from coatcheck.s3.operations import ConditionalWrite
from coatcheck.settings import S3Settings
from coatcheck.types import (
    NO_ATTRIBUTES,
    Attributes,
    ByteRange,
    Condition,
    DeleteFailure,
    Digest,
    Fetched,
    IfMatch,
    ObjectInfo,
)

DELETES_SIDE_BY_SIDE = 8


class S3Objects:
    """The objects of one bucket whose keys start with `prefix/`, under the rest of their keys.

    Implements ObjectStore and MultipartStore. Share it freely between tasks, threads and loops.
    """

    def __init__(self, client: S3Client, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._read_headers = _read_headers(client.settings)
        self._write_headers = _write_headers(client.settings)
        self._copy_headers = _copy_headers(client.settings)

    @property
    def location(self) -> str:
        """s3://bucket/prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def runtime(self) -> Runtime:
        """The client's."""
        return self._client.runtime

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        digest: Digest | None = None,
        condition: Condition | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> ObjectInfo:
        """Store `body` under `key`: one PutObject.

        A server that keeps S3's rules refuses a body that does not match `digest`. After a lost
        reply to a conditional put, one HeadObject finds out whether it was done.
        """
        operation = operations.put_object(
            self._full(key),
            body,
            payload_hash=digest.hex if digest is not None else None,
            headers=self._headers_for(attributes),
            write=self._mark(condition) if condition is not None else None,
        )
        return self._relative(await self._client.send(self._bucket, operation))

    async def get(
        self,
        key: str,
        span: ByteRange | None = None,
        *,
        limit_bytes: int,
        if_match: str | None = None,
    ) -> Fetched:
        """Return the object, or those bytes of `span` that it has: one GetObject.

        A span beyond the end costs one HeadObject more, to learn the object's size.
        """
        operation = operations.get_object(
            self._full(key), span, limit_bytes=limit_bytes, headers=self._reading(if_match)
        )
        try:
            fetched = await self._client.send(self._bucket, operation)
        except TooLarge as error:
            if span is not None and span.length <= limit_bytes:
                raise operations.ranges_ignored(error.diagnostics) from error
            raise
        if fetched is not None:
            return fetched
        info = await self.head(key)
        return Fetched(b"", info.size_bytes, info.etag)

    async def get_into(
        self, key: str, start: int, buffer: memoryview, *, if_match: str | None = None
    ) -> None:
        """Fill `buffer` with the object's bytes from offset `start`: one GetObject."""
        operation = operations.get_object_into(
            self._full(key), start, buffer, headers=self._reading(if_match)
        )
        try:
            await self._client.send(self._bucket, operation)
        except TooLarge as error:
            raise operations.ranges_ignored(error.diagnostics) from error

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known about the object: one HeadObject."""
        operation = operations.head_object(self._full(key), headers=self._read_headers)
        return self._relative(await self._client.send(self._bucket, operation))

    async def delete(self, key: str) -> None:
        """Remove the object: one DeleteObject."""
        operation = operations.delete_object(self._full(key), headers=self._read_headers)
        await _unless_gone(self._client.send(self._bucket, operation))

    async def delete_if(self, key: str, condition: IfMatch) -> None:
        """Remove the object if its ETag is still this one: one DeleteObject.

        AWS compares, rclone and Ceph do not: they remove what is there.
        """
        operation = operations.delete_object(
            self._full(key), headers={**self._read_headers, "if-match": condition.etag}
        )
        await _unless_gone(self._client.send(self._bucket, operation))

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Remove the objects: one DeleteObjects per 1,000, eight side by side.

        Keys that XML cannot hold (control characters) take one DeleteObject each.
        """
        plain = [key for key in keys if xml.can_hold(self._full(key))]
        others = [key for key in keys if not xml.can_hold(self._full(key))]
        size = operations.MAX_DELETE_KEYS
        chunks = [plain[start : start + size] for start in range(0, len(plain), size)]
        jobs = [partial(self._delete_chunk, chunk) for chunk in chunks]
        jobs += [partial(self._delete_alone, key) for key in others]
        failures = await self.runtime.gather(jobs, limit=DELETES_SIDE_BY_SIDE)
        return [failure for job in failures for failure in job]

    async def _delete_chunk(self, keys: list[str]) -> list[DeleteFailure]:
        operation = operations.delete_objects(
            [self._full(key) for key in keys], headers=self._read_headers
        )
        failures = await self._client.send(self._bucket, operation)
        return [
            DeleteFailure(failure.key.removeprefix(self._prefix), failure.code, failure.message)
            for failure in failures
        ]

    async def _delete_alone(self, key: str) -> list[DeleteFailure]:
        try:
            await self.delete(key)
        except Forbidden as error:
            code = error.diagnostics.server_code or error.code
            return [DeleteFailure(key, code, error.message)]
        return []

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield the objects in order of their keys: one ListObjectsV2 per 1,000."""
        start_after = self._prefix + after if after else ""
        token = ""
        while True:
            page = await self._client.send(
                self._bucket,
                operations.list_objects(
                    self._prefix + prefix,
                    after=start_after,
                    token=token,
                    headers=self._read_headers,
                ),
            )
            for info in page.objects:
                yield self._relative(info)
            if not page.next_token:
                return
            if page.next_token == token:
                raise Unsupported("the server's listing does not go on, nor end")
            token = page.next_token

    async def copy(self, source_key: str, key: str) -> ObjectInfo:
        """Copy an object of up to 5 GiB on the server: one CopyObject, one HeadObject."""
        operation = operations.copy_object(
            self._bucket, self._full(source_key), self._full(key), headers=self._copy_headers
        )
        await self._client.send(self._bucket, operation)
        return await self.head(key)

    async def begin_upload(self, key: str, *, attributes: Attributes = NO_ATTRIBUTES) -> "S3Upload":
        """Begin a multipart upload: one CreateMultipartUpload."""
        full_key, write = self._full(key), self._mark(None)
        headers = {**self._headers_for(attributes), operations.WRITE_ID_HEADER: write.write_id}
        upload_id = await self._client.send(
            self._bucket, operations.create_multipart_upload(full_key, headers=headers)
        )
        return S3Upload(self._client, self._bucket, full_key, upload_id, write)

    def _mark(self, condition: Condition | None) -> ConditionalWrite:
        write_id = f"{int(self.runtime.random() * 2**53):014x}"
        return ConditionalWrite(condition, write_id, self._read_headers)

    def _full(self, key: str) -> str:
        return check_s3_key(self._prefix + key) if key else check_s3_key(key)

    def _relative(self, info: ObjectInfo) -> ObjectInfo:
        if not self._prefix:
            return info
        key = info.key.removeprefix(self._prefix)
        return ObjectInfo(key, info.size_bytes, info.etag, info.last_modified)

    def _reading(self, if_match: str | None) -> Mapping[str, str]:
        if if_match is None:
            return self._read_headers
        return {**self._read_headers, "if-match": if_match}

    def _headers_for(self, attributes: Attributes) -> Mapping[str, str]:
        if attributes is NO_ATTRIBUTES:
            return self._write_headers
        headers = dict(self._write_headers)
        if attributes.content_type is not None:
            headers["content-type"] = attributes.content_type
        if attributes.content_encoding is not None:
            headers["content-encoding"] = attributes.content_encoding
        if attributes.tags:
            headers["x-amz-tagging"] = urlencode({**self._client.settings.tags, **attributes.tags})
        return headers


class S3Upload:
    """A multipart upload under way. Its parts cost money until it is completed or aborted."""

    def __init__(
        self, client: S3Client, bucket: str, key: str, upload_id: str, write: ConditionalWrite
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._upload_id = upload_id
        self._write = write
        self._etags: dict[int, str] = {}
        self._sizes: dict[int, int] = {}
        self._read_headers = _read_headers(client.settings)

    async def send_part(self, number: int, body: bytes, *, digest: Digest | None = None) -> None:
        """Store part `number`, 1 to 10,000: one UploadPart."""
        operation = operations.upload_part(
            self._key,
            self._upload_id,
            number,
            body,
            payload_hash=digest.hex if digest is not None else None,
            headers=self._read_headers,
        )
        self._etags[number] = await self._client.send(self._bucket, operation)
        self._sizes[number] = len(body)

    async def complete(self, *, condition: Condition | None = None) -> ObjectInfo:
        """Make the object: one CompleteMultipartUpload, and one HeadObject after a lost reply."""
        operation = operations.complete_multipart_upload(
            self._key,
            self._upload_id,
            self._etags,
            size_bytes=sum(self._sizes.values()),
            write=ConditionalWrite(condition, self._write.write_id, self._write.read_headers),
            headers=self._read_headers,
        )
        return await self._client.send(self._bucket, operation)

    async def abort(self) -> None:
        """Forget the parts: one AbortMultipartUpload."""
        operation = operations.abort_multipart_upload(
            self._key, self._upload_id, headers=self._read_headers
        )
        await _unless_gone(self._client.send(self._bucket, operation))


async def _unless_gone(removal: Awaitable[None]) -> None:
    """Await `removal`; that there was nothing to remove is no error, whatever the server says."""
    try:
        await removal
    except BucketNotFound:
        raise
    except NotFound:
        return


def _read_headers(settings: S3Settings) -> Mapping[str, str]:
    headers = dict(settings.extra_headers)
    if settings.expected_bucket_owner is not None:
        headers["x-amz-expected-bucket-owner"] = settings.expected_bucket_owner
    return MappingProxyType(headers)


def _write_headers(settings: S3Settings) -> Mapping[str, str]:
    headers = dict(_read_headers(settings))
    if settings.server_side_encryption is not None:
        headers["x-amz-server-side-encryption"] = settings.server_side_encryption
    if settings.kms_key_id is not None:
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = settings.kms_key_id
    if settings.storage_class is not None:
        headers["x-amz-storage-class"] = settings.storage_class
    if settings.tags:
        headers["x-amz-tagging"] = urlencode(settings.tags)
    return MappingProxyType(headers)


def _copy_headers(settings: S3Settings) -> Mapping[str, str]:
    headers = dict(_write_headers(settings))
    if settings.tags:
        # Without this, S3 keeps the source's tags and passes over those of the request.
        headers["x-amz-tagging-directive"] = "REPLACE"
    if settings.expected_bucket_owner is not None:
        headers["x-amz-source-expected-bucket-owner"] = settings.expected_bucket_owner
    return MappingProxyType(headers)

"""Objects in an S3 bucket, under a prefix."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from coatcheck.errors import (
    BucketNotFound,
    Conflict,
    Forbidden,
    NotFound,
    TooLarge,
    Unsupported,
)
from coatcheck.objects.keys import check_s3_key
from coatcheck.objects.port import Leftover, ObjectStore
from coatcheck.objects.s3_copy import copy_any_size
from coatcheck.objects.s3_draft import S3Draft
from coatcheck.objects.s3_headers import (
    attribute_headers,
    copy_headers,
    read_headers,
    write_headers,
)
from coatcheck.objects.s3_upload import S3Upload, unless_gone
from coatcheck.runtime.port import Runtime
from coatcheck.s3 import multipart, operations, xml
from coatcheck.s3.client import S3Client
from coatcheck.s3.operations import ConditionalWrite
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

    Implements ObjectStore, MultipartStore, DraftStore and CopiesBeside. Share it freely between
    tasks, threads and loops.
    """

    def __init__(self, client: S3Client, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._read_headers = read_headers(client.settings)
        self._write_headers = write_headers(client.settings)
        self._copy_headers = copy_headers(client.settings)

    @property
    def location(self) -> str:
        """s3://bucket/prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        return self._bucket

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
            self.full_key(key),
            body,
            payload_hash=digest.hex if digest is not None else None,
            headers=self._headers_for(attributes),
            write=self._mark(condition) if condition is not None else None,
        )
        try:
            return self._relative(await self._client.send(self._bucket, operation))
        except BucketNotFound:
            raise
        except NotFound as error:
            # What AWS answers to If-Match where there is no object.
            raise Conflict(
                "the condition on the request did not hold: there is no such object",
                diagnostics=error.diagnostics,
            ) from error

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
            self.full_key(key), span, limit_bytes=limit_bytes, headers=self._reading(if_match)
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
            self.full_key(key), start, buffer, headers=self._reading(if_match)
        )
        try:
            await self._client.send(self._bucket, operation)
        except TooLarge as error:
            raise operations.ranges_ignored(error.diagnostics) from error

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known about the object: one HeadObject."""
        operation = operations.head_object(self.full_key(key), headers=self._read_headers)
        return self._relative(await self._client.send(self._bucket, operation))

    async def delete(self, key: str) -> None:
        """Remove the object: one DeleteObject."""
        operation = operations.delete_object(self.full_key(key), headers=self._read_headers)
        await unless_gone(self._client.send(self._bucket, operation))

    async def delete_if(self, key: str, condition: IfMatch) -> None:
        """Remove the object if its ETag is still this one: one DeleteObject.

        AWS compares, rclone and Ceph do not: they remove what is there.
        """
        operation = operations.delete_object(
            self.full_key(key), headers={**self._read_headers, "if-match": condition.etag}
        )
        await unless_gone(self._client.send(self._bucket, operation))

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Remove the objects: one DeleteObjects per 1,000, eight side by side.

        Keys that XML cannot hold (control characters) take one DeleteObject each.
        """
        plain = [key for key in keys if xml.can_hold(self.full_key(key))]
        others = [key for key in keys if not xml.can_hold(self.full_key(key))]
        size = operations.MAX_DELETE_KEYS
        chunks = [plain[start : start + size] for start in range(0, len(plain), size)]
        jobs = [partial(self._delete_chunk, chunk) for chunk in chunks]
        jobs += [partial(self._delete_alone, key) for key in others]
        failures = await self.runtime.gather(jobs, limit=DELETES_SIDE_BY_SIDE)
        return [failure for job in failures for failure in job]

    async def _delete_chunk(self, keys: list[str]) -> list[DeleteFailure]:
        operation = operations.delete_objects(
            [self.full_key(key) for key in keys], headers=self._read_headers
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
        try:
            await self.copy_from(self, source_key, key)
        except BucketNotFound:
            raise
        except NotFound as error:
            known = replace(error.diagnostics, key=self.full_key(source_key))
            raise NotFound(error.message, diagnostics=known) from error
        return await self.head(key)

    async def copy_from(
        self,
        source: "S3Objects",
        source_key: str,
        key: str,
        *,
        condition: Condition | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> str | None:
        """Copy an object of up to 5 GiB from another bucket of the same endpoint: one CopyObject.
        Return the copy's ETag.

        `attributes` are the source's: its content type and encoding are kept, and so are its tags,
        unless the settings name others, which would then stand alone.
        """
        headers = {**self._copy_headers, **operations.condition_headers(condition)}
        if attributes.tags:
            tags = Attributes(tags=attributes.tags)
            headers.update(attribute_headers(tags, self._client.settings))
            headers["x-amz-tagging-directive"] = "REPLACE"
        operation = operations.copy_object(
            source.bucket, source.full_key(source_key), self.full_key(key), headers=headers
        )
        return (await self._client.send(self._bucket, operation)).etag

    def is_beside(self, other: ObjectStore) -> bool:
        """Whether `other` is in S3 and reached in the same way: same endpoint, same identity."""
        return isinstance(other, S3Objects) and (
            other._client is self._client or other._client.settings == self._client.settings
        )

    async def copy_beside(self, other: ObjectStore, source: ObjectInfo, key: str) -> ObjectInfo:
        """Copy an object of any size from a store beside this one; see `s3_copy`."""
        if not isinstance(other, S3Objects):
            raise Unsupported(f"{other.location} is not in S3")
        return await copy_any_size(other, source, self, key)

    async def begin_upload(self, key: str, *, attributes: Attributes = NO_ATTRIBUTES) -> S3Upload:
        """Begin a multipart upload: one CreateMultipartUpload."""
        full_key, write = self.full_key(key), self._mark(None)
        headers = {**self._headers_for(attributes), operations.WRITE_ID_HEADER: write.write_id}
        upload_id = await self._client.send(
            self._bucket, multipart.create_multipart_upload(full_key, headers=headers)
        )
        return S3Upload(self._client, self._bucket, full_key, upload_id, write)

    def begin_draft(
        self, key: str, *, part_bytes: int, attributes: Attributes = NO_ATTRIBUTES
    ) -> S3Draft:
        """Begin a draft: multipart uploads under `key`, which are copied when they are complete."""
        return S3Draft(self, key, part_bytes, attributes)

    async def leftovers(self, prefix: str) -> AsyncIterator[Leftover]:
        """Yield the objects under `prefix`, then the open uploads under the store's whole prefix.

        One ListObjectsV2 and one ListMultipartUploads per 1,000.
        """
        async for info in self.list(prefix):
            yield Leftover("draft", info.key, "", info.last_modified)
        key = upload_id = ""
        while True:
            operation = multipart.list_multipart_uploads(
                self._prefix,
                after_key=key,
                after_upload_id=upload_id,
                headers=self._read_headers,
            )
            try:
                page = await self._client.send(self._bucket, operation)
            except BucketNotFound:
                raise
            except NotFound:
                return  # rclone's way to say that there are none
            for upload in page.uploads:
                relative = upload.key.removeprefix(self._prefix)
                yield Leftover("upload", relative, upload.upload_id, upload.begun)
            if not page.next_key:
                return
            if (page.next_key, page.next_upload_id) == (key, upload_id):
                raise Unsupported("the server's listing does not go on, nor end")
            key, upload_id = page.next_key, page.next_upload_id

    async def remove_leftover(self, leftover: Leftover) -> None:
        """Remove the object, or abort the upload: one request."""
        if leftover.kind == "draft":
            await self.delete(leftover.key)
            return
        operation = multipart.abort_multipart_upload(
            self.full_key(leftover.key), leftover.token, headers=self._read_headers
        )
        await unless_gone(self._client.send(self._bucket, operation))

    def _mark(self, condition: Condition | None) -> ConditionalWrite:
        write_id = f"{int(self.runtime.random() * 2**53):014x}"
        return ConditionalWrite(condition, write_id, self._read_headers)

    def full_key(self, key: str) -> str:
        """Return the key in the bucket of what the store knows as `key`."""
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
        return {**self._write_headers, **attribute_headers(attributes, self._client.settings)}

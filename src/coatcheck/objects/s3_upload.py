"""A multipart upload under way in S3."""

from collections.abc import Awaitable
from dataclasses import dataclass

from coatcheck.errors import BucketNotFound, NotFound
from coatcheck.objects.s3_headers import part_copy_headers, read_headers
from coatcheck.s3 import multipart
from coatcheck.s3.client import S3Client
from coatcheck.s3.operations import ConditionalWrite
from coatcheck.types import ByteRange, Condition, Digest, ObjectInfo


@dataclass(frozen=True, slots=True)
class Piece:
    """What one UploadPartCopy copies: all of an object, or a `span` of one over 5 MiB.

    `key` is the whole key in its bucket.
    """

    bucket: str
    key: str
    span: ByteRange | None
    size_bytes: int


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
        self._read_headers = read_headers(client.settings)
        self._copy_headers = part_copy_headers(client.settings)

    async def send_part(self, number: int, body: bytes, *, digest: Digest | None = None) -> None:
        """Store part `number`, 1 to 10,000: one UploadPart."""
        operation = multipart.upload_part(
            self._key,
            self._upload_id,
            number,
            body,
            payload_hash=digest.hex if digest is not None else None,
            headers=self._read_headers,
        )
        self._etags[number] = await self._client.send(self._bucket, operation)
        self._sizes[number] = len(body)

    async def copy_part(self, number: int, piece: Piece) -> None:
        """Make part `number` of another object's bytes: one UploadPartCopy.

        Raises Unsupported where the server does not know the request.
        """
        operation = multipart.upload_part_copy(
            self._key,
            self._upload_id,
            number,
            source_bucket=piece.bucket,
            source_key=piece.key,
            span=piece.span,
            headers=self._copy_headers,
        )
        self._etags[number] = await self._client.send(self._bucket, operation)
        self._sizes[number] = piece.size_bytes

    async def complete(self, *, condition: Condition | None = None) -> ObjectInfo:
        """Make the object: one CompleteMultipartUpload, and one HeadObject after a lost reply."""
        operation = multipart.complete_multipart_upload(
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
        operation = multipart.abort_multipart_upload(
            self._key, self._upload_id, headers=self._read_headers
        )
        await unless_gone(self._client.send(self._bucket, operation))


async def unless_gone(removal: Awaitable[None]) -> None:
    """Await `removal`; that there was nothing to remove is no error, whatever the server says."""
    try:
        await removal
    except BucketNotFound:
        raise
    except NotFound:
        return

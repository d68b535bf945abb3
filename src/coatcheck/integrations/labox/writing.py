"""Content under its final key: stored once, and never in other content's place."""

from contextlib import aclosing
from hashlib import sha256

from coatcheck.errors import Conflict, NotFound
from coatcheck.integrations.labox.content import Content
from coatcheck.integrations.labox.errors import KeyTaken
from coatcheck.objects.port import Draft
from coatcheck.objects.s3 import S3Objects
from coatcheck.objects.s3_draft import S3Draft
from coatcheck.objects.sources import Pieces
from coatcheck.payloads.streaming import Download
from coatcheck.payloads.transfer import DEFAULT_PART_BYTES, Transfer, digest_of
from coatcheck.payloads.uploading import PartSender, Sizes, drafted, staging_key
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.types import Digest, IfAbsent

_IF_ABSENT = IfAbsent()


class Writer:
    """Puts content under keys of one bucket.

    A key that is made of the content's digest takes what has the same size for the same content.
    Any other key is looked at first, for not every server keeps the condition of a write.
    """

    def __init__(self, objects: S3Objects, transfer: Transfer) -> None:
        self._objects = objects
        self._transfer = transfer

    async def write(self, key: str, data: bytes, content: Content) -> None:
        """Store `data` under `key`. Raises KeyTaken."""
        digest = content.digest or await digest_of(data, ASYNCIO)
        if content.names(key):
            await self._transfer.store(key, data, digest, attributes=content.attributes)
        elif await self._is_free(key, len(data), digest):
            try:
                await self._create(key, data, digest, content)
            except Conflict:
                await self._is_free(key, len(data), digest)

    async def publish(self, draft: Draft, key: str, content: Content) -> None:
        """Make the object under `key` of a draft, which may be in another bucket. Raises
        KeyTaken."""
        if content.names(key):
            if not await self._transfer.has(key, content.size_bytes):
                await self._copy(draft, key, None)
        elif await self._is_free(key, content.size_bytes, content.digest):
            try:
                await self._copy(draft, key, _IF_ABSENT)
            except Conflict:
                await self._is_free(key, content.size_bytes, content.digest)

    async def _copy(self, draft: Draft, key: str, condition: IfAbsent | None) -> None:
        if isinstance(draft, S3Draft):
            # The router may keep temporary content in another bucket.
            await draft.publish(key, condition=condition, into=self._objects)
        else:
            await draft.publish(key, condition=condition)

    async def _create(self, key: str, data: bytes, digest: Digest, content: Content) -> None:
        if len(data) <= DEFAULT_PART_BYTES:
            await self._objects.put(
                key, data, digest=digest, condition=_IF_ABSENT, attributes=content.attributes
            )
            return
        async with drafted(
            self._objects,
            staging_key(ASYNCIO),
            part_bytes=DEFAULT_PART_BYTES,
            attributes=content.attributes,
        ) as draft:
            sender = PartSender(ASYNCIO, part_bytes=DEFAULT_PART_BYTES)
            await sender.send(draft, Pieces(data, ASYNCIO), Sizes())
            await draft.publish(key, condition=_IF_ABSENT)

    async def _is_free(self, key: str, size_bytes: int, digest: Digest | None) -> bool:
        """Whether nothing lies under `key`; KeyTaken if it is other content than is meant."""
        try:
            info = await self._objects.head(key)
        except NotFound:
            return True
        if digest is None or info.size_bytes != size_bytes:
            raise self._taken(key)
        present = sha256()
        parts = Download(self._objects, key, size_bytes).stream_raw(DEFAULT_PART_BYTES)
        async with aclosing(parts):
            async for part in parts:
                present.update(part)
        if present.hexdigest() != digest.hex:
            raise self._taken(key)
        return False

    def _taken(self, key: str) -> KeyTaken:
        taken = KeyTaken("other content lies under the key that the router chose; it was left")
        return taken.having(operation="write", bucket=self._objects.bucket, key=key)

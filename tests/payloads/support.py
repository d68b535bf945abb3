"""Stores on both runtimes, and object stores that count, fail and take parts to order."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from coatcheck.errors import NotFound
from coatcheck.objects.memory import SHELVES, MemoryObjects
from coatcheck.objects.opening import open_on
from coatcheck.objects.port import ObjectStore
from coatcheck.payloads.store import PayloadStore
from coatcheck.runtime.port import Runtime
from coatcheck.settings import S3Arguments
from coatcheck.testing import S3Server
from coatcheck.types import (
    NO_ATTRIBUTES,
    Attributes,
    ByteRange,
    Condition,
    DeleteFailure,
    Digest,
    Fetched,
    ObjectInfo,
)
from tests.s3.support import Face

MIB = 1024 * 1024
PART = 5 * MIB
NO_ARGUMENTS: dict[str, Any] = {}


def keys_of(server: S3Server) -> S3Arguments:
    """The arguments with which a store may use the server."""
    return S3Arguments(
        access_key_id=server.access_key_id, secret_access_key=server.secret_access_key
    )


def open_payloads(
    face: Face, url: str, arguments: Any = NO_ARGUMENTS, **options: Any
) -> PayloadStore:
    """Open a payload store whose coroutines run on that face."""
    objects = open_on(face.backend, url, arguments)
    return PayloadStore(objects, **{"part_size_bytes": PART, **options})


def payload(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes without a pattern, so that no part can stand in another's place."""
    return random.Random(seed).randbytes(size_bytes)


class Watched:
    """An object store that tells what it is asked, and lets a test stand in between.

    `before` is called with the name of each call; what it raises is what the call raises.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda name: None

    @property
    def location(self) -> str:
        return self.inner.location

    @property
    def runtime(self) -> Runtime:
        return self.inner.runtime

    async def enter(self, name: str) -> None:
        """Count a call, and give way: a real one would wait here."""
        self.calls.append(name)
        self.before(name)
        await self.runtime.sleep(0)

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        digest: Digest | None = None,
        condition: Condition | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> ObjectInfo:
        await self.enter("put")
        info = await self.inner.put(
            key, body, digest=digest, condition=condition, attributes=attributes
        )
        await self.runtime.sleep(0)
        return info

    async def get(
        self,
        key: str,
        span: ByteRange | None = None,
        *,
        limit_bytes: int,
        if_match: str | None = None,
    ) -> Fetched:
        await self.enter("get")
        return await self.inner.get(key, span, limit_bytes=limit_bytes, if_match=if_match)

    async def get_into(
        self, key: str, start: int, buffer: memoryview, *, if_match: str | None = None
    ) -> None:
        await self.enter("get_into")
        await self.inner.get_into(key, start, buffer, if_match=if_match)

    async def head(self, key: str) -> ObjectInfo:
        await self.enter("head")
        return await self.inner.head(key)

    async def delete(self, key: str) -> None:
        await self.enter("delete")
        await self.inner.delete(key)

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        await self.enter("delete_many")
        return await self.inner.delete_many(keys)

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        await self.enter("list")
        async for info in self.inner.list(prefix, after=after):
            yield info

    async def copy(self, source_key: str, key: str) -> ObjectInfo:
        await self.enter("copy")
        return await self.inner.copy(source_key, key)


class TakesParts(Watched):
    """A watched store that takes parts, as S3 does, and knows which uploads were left open."""

    def __init__(self, inner: MemoryObjects) -> None:
        super().__init__(inner)
        self.open_uploads: set[OpenUpload] = set()

    async def begin_upload(
        self, key: str, *, attributes: Attributes = NO_ATTRIBUTES
    ) -> "OpenUpload":
        # The server has begun before its answer is on its way.
        self.calls.append("begin_upload")
        upload = OpenUpload(self, key)
        self.open_uploads.add(upload)
        self.before("begin_upload")
        await self.runtime.sleep(0)
        return upload


class OpenUpload:
    """An upload to a store that takes parts."""

    def __init__(self, store: TakesParts, key: str) -> None:
        self._store = store
        self._key = key
        self._parts: dict[int, bytes] = {}

    async def send_part(self, number: int, body: bytes, *, digest: Digest | None = None) -> None:
        await self._store.enter("send_part")
        if self not in self._store.open_uploads:
            raise NotFound("there is no such multipart upload")
        self._parts[number] = body

    async def complete(self, *, condition: Condition | None = None) -> ObjectInfo:
        await self._store.enter("complete")
        body = b"".join(self._parts[number] for number in sorted(self._parts))
        info = await self._store.inner.put(self._key, body, condition=condition)
        self._store.open_uploads.discard(self)
        return info

    async def abort(self) -> None:
        await self._store.enter("abort")
        self._store.open_uploads.discard(self)


def stored(name: str) -> dict[str, bytes]:
    """What really lies in the memory store of that name."""
    return {key: held.body for key, held in SHELVES.get(name, {}).items()}

"""An object store without await. Each method says nothing of its own: see ObjectStore."""

from collections.abc import Iterator, Sequence

from coatcheck.objects.port import ObjectStore
from coatcheck.runtime.blocking import BLOCKING, iterate
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


class BlockingObjectStore:
    """`coatcheck.ObjectStore`, one call at a time on the calling thread."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @property
    def location(self) -> str:
        """See `coatcheck.ObjectStore.location`."""
        return self._objects.location

    def put(
        self,
        key: str,
        body: bytes,
        *,
        digest: Digest | None = None,
        condition: Condition | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> ObjectInfo:
        """See `coatcheck.ObjectStore.put`."""
        return BLOCKING.run(
            self._objects.put(key, body, digest=digest, condition=condition, attributes=attributes)
        )

    def get(
        self,
        key: str,
        span: ByteRange | None = None,
        *,
        limit_bytes: int,
        if_match: str | None = None,
    ) -> Fetched:
        """See `coatcheck.ObjectStore.get`."""
        return BLOCKING.run(
            self._objects.get(key, span, limit_bytes=limit_bytes, if_match=if_match)
        )

    def get_into(
        self, key: str, start: int, buffer: memoryview, *, if_match: str | None = None
    ) -> None:
        """See `coatcheck.ObjectStore.get_into`."""
        BLOCKING.run(self._objects.get_into(key, start, buffer, if_match=if_match))

    def head(self, key: str) -> ObjectInfo:
        """See `coatcheck.ObjectStore.head`."""
        return BLOCKING.run(self._objects.head(key))

    def delete(self, key: str) -> None:
        """See `coatcheck.ObjectStore.delete`."""
        BLOCKING.run(self._objects.delete(key))

    def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """See `coatcheck.ObjectStore.delete_many`."""
        return BLOCKING.run(self._objects.delete_many(keys))

    def copy(self, source_key: str, key: str) -> ObjectInfo:
        """See `coatcheck.ObjectStore.copy`."""
        return BLOCKING.run(self._objects.copy(source_key, key))

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """See `coatcheck.ObjectStore.list`."""
        return iterate(self._objects.list(prefix, after=after))

"""Objects in the memory of this process: for tests, and for programs that need no other place."""

import os
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from urllib.parse import quote

from coatcheck.objects import rules
from coatcheck.objects.keys import check_key, check_text
from coatcheck.objects.port import Leftover
from coatcheck.runtime.port import Runtime
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

HASH_INLINE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Held:
    """An object in memory."""

    body: bytes
    etag: str
    last_modified: datetime

    def info(self, key: str) -> ObjectInfo:
        """Return what is known about the object, which is under `key`."""
        return ObjectInfo(key, len(self.body), self.etag, self.last_modified)


SHELVES: dict[str, dict[str, Held]] = {}
"""The contents of every memory store of the process, by name and key."""

_versions = count(1)
_lock = threading.RLock()
# Held across a fork, so that no child inherits a lock whose holder it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


def forget(name: str) -> None:
    """Drop every object of the memory store `name`; no error if there are none."""
    with _lock:
        SHELVES.pop(name, None)


class MemoryObjects:
    """The objects of this process under `name`: stores of one name have the same contents.

    Implements ObjectStore and DraftStore. Share it freely between tasks, threads and loops; a
    forked child goes on with a copy of its own. ETags are unique for each write, so conditions
    hold even where the same bytes come back. Keys follow `coatcheck.objects.keys.check_key`;
    content type, encoding and tags are not kept.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        self._name = name
        self._runtime = runtime

    @property
    def location(self) -> str:
        """memory://name."""
        return f"memory://{quote(self._name)}"

    @property
    def runtime(self) -> Runtime:
        """The one given."""
        return self._runtime

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        digest: Digest | None = None,
        condition: Condition | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> ObjectInfo:
        """Store `body` under `key`. Raises Corrupt for another `digest`, Conflict, ConfigError."""
        check_key(key)
        body = bytes(body)  # no copy, unless it is something that could still change
        with rules.named("put", self.location, key):
            if len(body) > HASH_INLINE_BYTES:
                await self._runtime.offload(lambda: rules.check_digest(body, digest))
            else:
                rules.check_digest(body, digest)
            return self._write(key, body, condition)

    async def get(
        self,
        key: str,
        span: ByteRange | None = None,
        *,
        limit_bytes: int,
        if_match: str | None = None,
    ) -> Fetched:
        """Return the object, or those bytes of `span` that it has."""
        with rules.named("get", self.location, key):
            held = self._held(key, if_match)
            start, length = rules.cut(len(held.body), span, limit_bytes)
        age_seconds = max(0.0, self._runtime.wall_clock() - held.last_modified.timestamp())
        return Fetched(
            held.body[start : start + length], len(held.body), held.etag, lambda: age_seconds
        )

    async def get_into(
        self, key: str, start: int, buffer: memoryview, *, if_match: str | None = None
    ) -> None:
        """Fill `buffer` with the object's bytes from offset `start`."""
        target = buffer.cast("B")
        with rules.named("get_into", self.location, key):
            held = self._held(key, if_match)
            rules.check_covers(len(held.body), start, len(target))
        target[:] = memoryview(held.body)[start : start + len(target)]

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known about the object."""
        with rules.named("head", self.location, key):
            return self._held(key).info(key)

    async def delete(self, key: str) -> None:
        """Remove the object; it is no error if there is none."""
        await self.delete_many([key])

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Remove the objects; none can fail. ConfigError for an invalid key removes nothing."""
        for key in keys:
            check_key(key)
        with _lock:
            shelf = SHELVES.get(self._name, {})
            for key in keys:
                shelf.pop(key, None)
        return []

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield the objects that were there at the first step and still are, in order of keys."""
        check_text(prefix)
        check_text(after)
        with _lock:
            keys = [*SHELVES.get(self._name, {})]
        # UTF-8 was made so that its bytes sort like the code points that str compares.
        for key in sorted(key for key in keys if key.startswith(prefix) and key > after):
            held = SHELVES.get(self._name, {}).get(key)
            if held is not None:
                yield held.info(key)

    async def copy(self, source_key: str, key: str) -> ObjectInfo:
        """Store under `key` what is under `source_key`; the bytes themselves are shared."""
        check_key(key)
        with rules.named("copy", self.location, source_key):
            source = self._held(source_key)
        return self._write(key, source.body, None)

    def begin_draft(
        self, key: str, *, part_bytes: int, attributes: Attributes = NO_ATTRIBUTES
    ) -> "MemoryDraft":
        """Begin a draft, which lies in memory, and under no key."""
        return MemoryDraft(self)

    async def leftovers(self, prefix: str) -> AsyncIterator[Leftover]:
        """Yield nothing: what a killed process had in memory is gone."""
        nothing: tuple[Leftover, ...] = ()
        for leftover in nothing:
            yield leftover

    async def remove_leftover(self, leftover: Leftover) -> None:
        """There is none to remove."""

    def _write(self, key: str, body: bytes, condition: Condition | None) -> ObjectInfo:
        now = datetime.fromtimestamp(self._runtime.wall_clock(), UTC)
        with _lock:
            shelf = SHELVES.setdefault(self._name, {})
            present = shelf.get(key)
            rules.check_write(condition, present.etag if present is not None else None)
            written = shelf[key] = Held(body, f'"{next(_versions)}"', now)
        return written.info(key)

    def _held(self, key: str, if_match: str | None = None) -> Held:
        check_key(key)
        held = SHELVES.get(self._name, {}).get(key)
        if held is None:
            raise rules.not_found()
        rules.check_read(if_match, held.etag)
        return held


class MemoryDraft:
    """Parts in memory that become an object. Implements Draft."""

    def __init__(self, objects: MemoryObjects) -> None:
        self._objects = objects
        self._parts: dict[int, bytes] = {}

    async def send_part(self, number: int, body: bytes, *, digest: Digest | None = None) -> None:
        """Keep part `number`. Raises Corrupt for another `digest`."""
        with rules.named("send_part", self._objects.location, None):
            rules.check_digest(body, digest)
        self._parts[number] = bytes(body)

    async def publish(self, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Put the parts together, which for a moment takes their memory twice."""
        body = b"".join(part for _, part in sorted(self._parts.items()))
        return await self._objects.put(key, body, condition=condition)

    async def discard(self) -> None:
        """Let go of the parts."""
        self._parts.clear()

"""Objects as files in a local folder."""

import os
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path

from coatcheck.errors import ConfigError, printable
from coatcheck.objects import rules
from coatcheck.objects.files import TEMPORARY, Files
from coatcheck.objects.keys import check_key, check_text
from coatcheck.objects.local_draft import LocalDraft
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

PAGE_OBJECTS = 1000

_writes = count()


class LocalObjects:
    """The regular files below the folder `root`, which is made by the first write.

    Implements ObjectStore and DraftStore. Share it freely between tasks, threads, loops and
    processes, forked or not. Needs a POSIX system: on Windows, ConfigError.

    **Writing.** A body is written to a file in `.coatcheck-tmp`, synced, and given its name in one
    step, so readers see all of it or nothing, and a crash leaves at most files in that folder:
    those over a day old may be removed, the locks apart. Files have mode 0600, folders 0700.
    Writes and deletes of a key are serialised between processes by `flock`; `IfAbsent` needs hard
    links, and then holds even against programs that ignore the lock.

    **Keys.** A key's segments are folders, so `a` and `a/b` cannot both be objects: Conflict. A
    segment has up to 255 bytes on most file systems. Where the file system ignores case or
    normalises Unicode, so do the keys. Folders that a delete leaves empty are removed.

    **Reading.** No symbolic link below `root` is followed and no special file opened: Forbidden.
    An ETag is made of inode, modification time in nanoseconds and size; on file systems with much
    coarser times, or that invent inodes anew, conditions on it are less sure. Content type,
    encoding and tags are not kept.

    **Cancelled**, a call stops waiting while its work runs to its end: a put may still be done.
    """

    def __init__(self, root: Path, runtime: Runtime) -> None:
        if os.open not in os.supports_dir_fd:
            raise ConfigError(
                "a local folder as a store needs a POSIX system",
                remedy="Use Linux, macOS or WSL, or another store",
            )
        # Made absolute now: a later chdir must not move the store.
        self._files = Files(Path(os.path.abspath(root)))
        self._runtime = runtime

    @property
    def location(self) -> str:
        """file:///path."""
        return self._files.location

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
        """Store `body` under `key`; file and folder are synced to the disk before it returns.

        Raises Corrupt for another `digest`, Conflict, Forbidden, ConfigError, TooLarge for a file
        system's limit, and Unavailable for a full or failing disk.
        """
        _check(key)
        stamp_ns = self._stamp_ns()

        def put() -> ObjectInfo:
            with rules.named("put", self.location, key):
                rules.check_digest(body, digest)
            return self._files.put(key, body, stamp_ns, condition)

        return await self._runtime.offload(put)

    async def get(
        self,
        key: str,
        span: ByteRange | None = None,
        *,
        limit_bytes: int,
        if_match: str | None = None,
    ) -> Fetched:
        """Return the object, or those bytes of `span` that it has."""
        _check(key)
        return await self._runtime.offload(
            partial(self._files.get, key, span, limit_bytes, if_match, self._runtime.wall_clock())
        )

    async def get_into(
        self, key: str, start: int, buffer: memoryview, *, if_match: str | None = None
    ) -> None:
        """Fill `buffer` with the object's bytes from offset `start`.

        After a cancellation, the read that is under way may still write to it.
        """
        _check(key)
        target = buffer.cast("B")
        await self._runtime.offload(partial(self._files.get_into, key, start, target, if_match))

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known about the object."""
        _check(key)
        return await self._runtime.offload(partial(self._files.head, key))

    async def delete(self, key: str) -> None:
        """Remove the object, and the folders that this leaves empty."""
        _check(key)
        await self._runtime.offload(partial(self._files.delete, key))

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Remove the objects; each of their folders is synced once.

        ConfigError for an invalid key, before anything is removed.
        """
        for key in keys:
            _check(key)
        return await self._runtime.offload(partial(self._files.delete_many, keys))

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield the objects in order of their keys, a thousand at a time.

        Reads only folders that can hold a match; the names of a folder are held in memory.
        """
        check_text(prefix)
        check_text(after)
        next_page = partial(self._files.page, self._files.keys(prefix, after), PAGE_OBJECTS)
        while (page := await self._runtime.offload(next_page)) is not None:
            for info in page:
                yield info

    async def copy(self, source_key: str, key: str) -> ObjectInfo:
        """Store under `key` a copy of what is under `source_key`, synced as a put is."""
        _check(source_key)
        _check(key)
        return await self._runtime.offload(
            partial(self._files.copy, source_key, key, self._stamp_ns())
        )

    def begin_draft(
        self, key: str, *, part_bytes: int, attributes: Attributes = NO_ATTRIBUTES
    ) -> LocalDraft:
        """Begin a draft: a file in `.coatcheck-tmp`, whatever `key` says."""
        return LocalDraft(self._files, self._runtime, part_bytes, self._stamp_ns)

    async def leftovers(self, prefix: str) -> AsyncIterator[Leftover]:
        """Yield the files in `.coatcheck-tmp`, but not the locks."""
        for name, written in await self._runtime.offload(self._files.drafts):
            yield Leftover("draft", f"{TEMPORARY}/{name}", name, written)

    async def remove_leftover(self, leftover: Leftover) -> None:
        """Remove the file."""
        await self._runtime.offload(partial(self._files.drop_draft, leftover.token))

    def _stamp_ns(self) -> int:
        """Nanoseconds since 1970, another number even where the clock stands still."""
        return int(self._runtime.wall_clock() * 1e6) * 1000 + next(_writes) % 1000


def _check(key: str) -> None:
    check_key(key)
    if key.split("/", 1)[0].casefold() == TEMPORARY:
        raise ConfigError(
            f"the key {printable(key, 80)!r} begins with {TEMPORARY}, which the store needs itself",
            remedy="Use another key",
        )

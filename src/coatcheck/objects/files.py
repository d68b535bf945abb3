"""Objects as files: what each operation of the local store does on the disk. All of it blocks."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from pathlib import Path
from uuid import uuid4
from zlib import crc32

from coatcheck.errors import CoatcheckError, Conflict, Forbidden, NotFound, Unavailable
from coatcheck.objects import rules
from coatcheck.objects.failures import explained, no_hard_links
from coatcheck.objects.folder import (
    Folder,
    create,
    look,
    look_at_file,
    open_kept,
    reading,
    remove_empty,
)
from coatcheck.types import (
    Buffer,
    ByteRange,
    Condition,
    DeleteFailure,
    Fetched,
    IfAbsent,
    ObjectInfo,
)

TEMPORARY = ".coatcheck-tmp"
"""The folder in the root for files being written and for locks. No key begins with it."""

LOCK = "lock-"
LOCKS = 64
PLACE_TRIES = 100
COPY_BYTES = 1024 * 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_GONE = (FileNotFoundError, NotADirectoryError)

Fill = Callable[[int], None]
"""Writes an object's bytes to a file descriptor."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A file that is written and synced, and waits for its name."""

    folder: int
    name: str
    status: os.stat_result


class Files:
    """The files below the folder `root`. Holds no descriptor between calls."""

    def __init__(self, root: Path) -> None:
        self._folder = Folder(root)
        self.location = root.as_uri()

    def put(self, key: str, body: Buffer, stamp_ns: int, condition: Condition | None) -> ObjectInfo:
        """Make `body` the object under `key`, with `stamp_ns` as its modification time."""
        with explained("put", self.location, key):
            if condition is not None:
                # The body is big and the outcome often known: most conditional puts find their
                # payload there already.
                rules.check_write(condition, self._etag_at(key))
            with self._staged(lambda file: _write_all(file, body), stamp_ns) as staged:
                return self._publish(staged, key, condition)

    def get(
        self, key: str, span: ByteRange | None, limit_bytes: int, if_match: str | None, now: float
    ) -> Fetched:
        """Read the object, or those bytes of `span` that it has; its age as of `now`."""
        with explained("get", self.location, key), self._opened(key) as (file, status):
            etag = _etag(status)
            rules.check_read(if_match, etag)
            start, length = rules.cut(status.st_size, span, limit_bytes)
            age_seconds = max(0.0, now - status.st_mtime)
            return Fetched(_read(file, start, length), status.st_size, etag, lambda: age_seconds)

    def get_into(self, key: str, start: int, target: memoryview, if_match: str | None) -> None:
        """Fill `target`, which is of bytes, from offset `start`."""
        with explained("get_into", self.location, key), self._opened(key) as (file, status):
            rules.check_read(if_match, _etag(status))
            rules.check_covers(status.st_size, start, len(target))
            _read_into(file, start, target)

    def head(self, key: str) -> ObjectInfo:
        """Return what the file system knows about the object."""
        with explained("head", self.location, key):
            return _info(key, self._status(key))

    def delete(self, key: str) -> None:
        """Remove the object, and the folders that this leaves empty."""
        with explained("delete", self.location, key):
            self._unlink(key)
            self._settle(_split(key)[0])

    def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Remove the objects, and sync each of their folders once."""
        failures: list[DeleteFailure] = []
        unlinked: dict[str, list[str]] = {}
        for key in keys:
            try:
                with explained("delete", self.location, key):
                    self._unlink(key)
                unlinked.setdefault(_split(key)[0], []).append(key)
            except CoatcheckError as error:
                failures.append(DeleteFailure(key, error.code, str(error)))
        for above, its_keys in unlinked.items():
            try:
                with explained("delete", self.location, its_keys[0]):
                    self._settle(above)
            except CoatcheckError as error:
                failures += [DeleteFailure(key, error.code, str(error)) for key in its_keys]
        return failures

    def copy(self, source_key: str, key: str, stamp_ns: int) -> ObjectInfo:
        """Make a copy of the object under `source_key` the object under `key`."""
        with (
            explained("copy", self.location, source_key),
            self._opened(source_key) as (source, _),
            explained("copy", self.location, key),
            self._staged(lambda file: _copy_all(source, file), stamp_ns) as staged,
        ):
            return self._publish(staged, key, None)

    def open_draft(self, name: str) -> int:
        """Open the temporary file `name`, made if it is missing. `write_draft` closes it."""
        with (
            explained("begin a draft", self.location, None),
            self._folder.made(TEMPORARY) as folder,
        ):
            return open_kept(folder, name)

    def write_draft(self, file: int, start: int, body: Buffer) -> None:
        """Write `body` at offset `start` of the open `file`, and close it."""
        with explained("write a draft", self.location, None):
            try:
                os.lseek(file, start, os.SEEK_SET)
                _write_all(file, body)
            finally:
                os.close(file)

    def publish_draft(
        self, name: str, key: str, stamp_ns: int, condition: Condition | None
    ) -> ObjectInfo:
        """Make the temporary file `name` the object under `key`."""
        with explained("publish", self.location, key), self._folder.made(TEMPORARY) as folder:
            file = open_kept(folder, name)
            try:
                os.utime(file, ns=(stamp_ns, stamp_ns))
                os.fsync(file)
                staged = Staged(folder, name, os.fstat(file))
            finally:
                os.close(file)
            return self._publish(staged, key, condition)

    def drop_draft(self, name: str) -> None:
        """Remove the temporary file `name`; no error if it is gone."""
        with (
            explained("discard a draft", self.location, None),
            suppress(*_GONE),
            self._folder.existing(TEMPORARY) as folder,
        ):
            os.unlink(name, dir_fd=folder)

    def drafts(self) -> list[tuple[str, datetime]]:
        """Return the temporary files, and when they were last written to."""
        found: list[tuple[str, datetime]] = []
        with (
            explained("list drafts", self.location, None),
            suppress(*_GONE),
            self._folder.existing(TEMPORARY) as folder,
        ):
            for name in sorted(os.listdir(folder)):
                status = None if name.startswith(LOCK) else look(folder, name)
                if status is not None:
                    found.append((name, _EPOCH + timedelta(seconds=status.st_mtime)))
        return found

    def keys(self, prefix: str, after: str) -> Iterator[str]:
        """Yield the keys that start with `prefix` and are greater than `after`, in order."""
        return self._folder.walk(prefix, after, TEMPORARY)

    def page(self, keys: Iterator[str], limit: int) -> list[ObjectInfo] | None:
        """Look at the next `limit` objects of `keys`; None at their end.

        Objects deleted since the walk saw them are left out.
        """
        infos: list[ObjectInfo] = []
        is_at_end = True
        with explained("list", self.location, None):
            for above, siblings in groupby(islice(keys, limit), lambda key: _split(key)[0]):
                is_at_end = False
                infos += self._infos(above, [*siblings])
        return None if is_at_end else infos

    def _infos(self, above: str, siblings: list[str]) -> Iterator[ObjectInfo]:
        with suppress(*_GONE, Forbidden), self._folder.existing(above) as folder:
            for key in siblings:
                with suppress(FileNotFoundError, Forbidden):
                    yield _info(key, look_at_file(folder, _split(key)[1]))

    @contextmanager
    def _opened(self, key: str) -> Iterator[tuple[int, os.stat_result]]:
        above, name = _split(key)
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(self._folder.existing(above))
                opened = stack.enter_context(reading(folder, name))
            except _GONE as error:
                raise rules.not_found() from error
            yield opened

    def _status(self, key: str) -> os.stat_result:
        above, name = _split(key)
        try:
            with self._folder.existing(above) as folder:
                return look_at_file(folder, name)
        except _GONE as error:
            raise rules.not_found() from error

    def _etag_at(self, key: str) -> str | None:
        try:
            return _etag(self._status(key))
        except NotFound:
            return None

    @contextmanager
    def _staged(self, fill: Fill, stamp_ns: int) -> Iterator[Staged]:
        with self._folder.made(TEMPORARY) as folder:
            name = uuid4().hex
            file = create(folder, name)
            try:
                try:
                    fill(file)
                    # Unlike the file system's own, which a clock tick makes, this time is one of
                    # its kind; so is the ETag, even when the inode was another object's before.
                    os.utime(file, ns=(stamp_ns, stamp_ns))
                    os.fsync(file)
                    status = os.fstat(file)
                finally:
                    os.close(file)
                yield Staged(folder, name, status)
            finally:
                # Gone already if it was renamed. If it cannot be removed it is in no one's way,
                # and must not hide why we are here.
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)

    def _publish(self, staged: Staged, key: str, condition: Condition | None) -> ObjectInfo:
        above, name = _split(key)
        for _ in range(PLACE_TRIES):
            try:
                with self._folder.made(above) as folder:
                    with self._locked(key):
                        _place(staged, folder, name, condition)
                    os.fsync(folder)
                    return _info(key, staged.status)
            except (FileNotFoundError, FileExistsError, IsADirectoryError):
                # Others made or removed something after we looked: a delete removes the folder
                # that it empties. Look again.
                continue
            except NotADirectoryError as error:
                raise Conflict(
                    "an object is in the way: its key is the beginning of this one",
                    remedy="In a folder, a and a/b cannot both be objects: use another key",
                ) from error
        raise Unavailable(
            f"folders and files were made and removed {PLACE_TRIES} times meanwhile",
            remedy="Find out who else changes the store's folder, then try again",
        )

    def _unlink(self, key: str) -> None:
        above, name = _split(key)
        with suppress(*_GONE), self._folder.existing(above) as folder:
            look_at_file(folder, name)
            with self._locked(key):
                os.unlink(name.encode(), dir_fd=folder)

    def _settle(self, above: str) -> None:
        with suppress(*_GONE), self._folder.existing(above) as folder:
            os.fsync(folder)
        self._folder.prune(above)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold off all others, threads or processes, that write or delete `key`."""
        import fcntl  # not at the top: Windows must get as far as being refused

        number = crc32(key.casefold().encode()) % LOCKS
        with self._folder.made(TEMPORARY) as folder:
            lock = open_kept(folder, f"{LOCK}{number:02}")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            # Closing alone would not do: a child forked meanwhile has the file open too.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)


def _place(staged: Staged, folder: int, name: str, condition: Condition | None) -> None:
    """Give the staged file its name, if `condition` holds."""
    present = look(folder, name)
    if present is not None and os.path.samestat(present, staged.status):
        # On a network file system the reply to an earlier try was lost.
        return
    if present is not None and stat.S_ISDIR(present.st_mode):
        if not remove_empty(folder, name):
            raise Conflict(
                "a folder is in the way: there are objects whose keys go on from this one",
                remedy="In a folder, a and a/b cannot both be objects: use another key",
            )
        present = None
    rules.check_write(condition, None if present is None else _etag(present))
    source, target = staged.name, name.encode()
    if not isinstance(condition, IfAbsent):
        os.replace(source, target, src_dir_fd=staged.folder, dst_dir_fd=folder)
        return
    try:
        os.link(source, target, src_dir_fd=staged.folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_HARD_LINKS:
            raise no_hard_links() from error
        raise


def _split(key: str) -> tuple[str, str]:
    above, _, name = key.rpartition("/")
    return above, name


def _etag(status: os.stat_result) -> str:
    return f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    modified = _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
    return ObjectInfo(key, status.st_size, _etag(status), modified)


def _write_all(file: int, body: Buffer) -> None:
    with memoryview(body) as left:
        done_bytes = 0
        while done_bytes < len(left):
            done_bytes += os.write(file, left[done_bytes:])


def _copy_all(source: int, file: int) -> None:
    with open(source, "rb", 0, closefd=False) as read, open(file, "wb", 0, closefd=False) as write:
        shutil.copyfileobj(read, write, COPY_BYTES)


def _read(file: int, start: int, length: int) -> bytes:
    body = os.pread(file, length, start)
    if len(body) == length:
        return body
    # One call reads 2 GiB at most, and less where the file was cut meanwhile.
    whole = bytearray(length)
    with memoryview(whole) as target:
        _read_into(file, start, target)
    return bytes(whole)


def _read_into(file: int, start: int, target: memoryview) -> None:
    done_bytes = 0
    while done_bytes < len(target):
        got_bytes = os.preadv(file, [target[done_bytes:]], start + done_bytes)
        if got_bytes == 0:
            rules.check_covers(start + done_bytes, start, len(target))
        done_bytes += got_bytes

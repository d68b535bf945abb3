"""A folder and what lies below it, reached so that nothing below it can lead out of it.

Every step opens one name below a folder that is open already, and follows no symbolic link. So
neither a path nor a link planted at any moment, also between two system calls, leads anywhere
else. Paths are keys ("a/b") or "" for the folder itself; on disk names are UTF-8, whatever the
locale says.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from coatcheck.errors import ConfigError, Forbidden, printable
from coatcheck.objects.keys import is_key

# Zero where a system lacks them: that is Windows, where LocalObjects refuses to be made.
_CLOSE_ON_EXEC: int = getattr(os, "O_CLOEXEC", 0)
_NO_LINK: int = getattr(os, "O_NOFOLLOW", 0) | _CLOSE_ON_EXEC
_FOLDER: int = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _CLOSE_ON_EXEC
# A FIFO put in a file's place between a look and the opening must not block its reader.
_READ: int = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0)

FOLDER_MODE = 0o700
FILE_MODE = 0o600


class Folder:
    """The folder at `root`, and the folders and files below it.

    The path to the root itself is the operator's: links in it are followed. Methods raise
    OSError, Forbidden for a link or special file in the way, and ConfigError if the root is none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def existing(self, path: str) -> Iterator[int]:
        """Open the folder at `path`, for the length of a with block.

        Raises FileNotFoundError; NotADirectoryError where a file is in the way.
        """
        with _descended(self._open_root(), path, _enter) as folder:
            yield folder

    @contextmanager
    def made(self, path: str) -> Iterator[int]:
        """Open the folder at `path` after making what is missing of it, durably.

        Raises NotADirectoryError where a file is in the way, and FileNotFoundError when somebody
        removes folders at the same time: try again.
        """
        try:
            here = self._open_root()
        except FileNotFoundError:
            _make_durably(self.root)
            here = self._open_root()
        with _descended(here, path, _enter_or_make) as folder:
            yield folder

    def prune(self, path: str) -> None:
        """Remove the folder at `path` if it is empty, then those above it, never the root."""
        while path:
            above, _, name = path.rpartition("/")
            try:
                with self.existing(above) as folder:
                    os.rmdir(name.encode(), dir_fd=folder)
            except OSError:
                # Not empty, or gone, or not ours to remove: an empty folder does no harm.
                return
            path = above

    def walk(self, prefix: str, after: str, hidden: str) -> Iterator[str]:
        """Yield the paths of the regular files that start with `prefix` and are beyond `after`.

        In order of their UTF-8 bytes, which is that of `str`. A folder is read when the walk gets
        to it, and not at all if nothing in it can match; its names are held in memory meanwhile.
        Links, special files, names that are no keys, and the folder `hidden` are passed over.
        """
        base = prefix[: prefix.rfind("/") + 1]
        if base.startswith(f"{hidden}/") or (base and not is_key(base[:-1])):
            return
        unread = [iter(self._children(base, prefix, after, hidden))]
        while unread:
            path = next(unread[-1], None)
            if path is None:
                unread.pop()
            elif path.endswith("/"):
                unread.append(iter(self._children(path, prefix, after, hidden)))
            else:
                yield path

    def _open_root(self) -> int:
        try:
            return os.open(self.root, _FOLDER)
        except NotADirectoryError as error:
            raise ConfigError(
                f"{printable(str(self.root), 300)!r} is not a folder",
                remedy="Name a folder, or a path where there is nothing yet",
            ) from error

    def _children(self, base: str, prefix: str, after: str, hidden: str) -> list[str]:
        children: list[str] = []
        try:
            with self.existing(base[:-1]) as folder, os.scandir(folder) as entries:
                for entry in entries:
                    path = base + _text(entry.name)
                    if path == hidden or not path.startswith(prefix) or not is_key(path):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        # With its slash, a folder sorts where the keys in it do: a-b, a/b, a0.
                        path += "/"
                        if path > after or after.startswith(path):
                            children.append(path)
                    elif path > after and entry.is_file(follow_symlinks=False):
                        children.append(path)
        except (FileNotFoundError, NotADirectoryError, Forbidden):
            # Removed or replaced since its name was read; a link is not ours to look behind.
            return []
        children.sort()
        return children


def look(folder: int, name: str) -> os.stat_result | None:
    """Return the status of the file or folder `name`; None if there is neither.

    Raises Forbidden for anything else under that name.
    """
    try:
        found = os.stat(name.encode(), dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return _ordinary(found, name)


def look_at_file(folder: int, name: str) -> os.stat_result:
    """Return the status of the regular file `name`. Raises FileNotFoundError, and as `look`."""
    return _file(look(folder, name))


@contextmanager
def reading(folder: int, name: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open the regular file `name` and give its descriptor and status. Raises as `look_at_file`."""
    # A look first: merely to open a device can have effects.
    look_at_file(folder, name)
    opened = os.open(name.encode(), _READ, dir_fd=folder)
    try:
        yield opened, _file(_ordinary(os.fstat(opened), name))
    finally:
        os.close(opened)


def create(folder: int, name: str) -> int:
    """Make the file `name`, which must not be there, and open it for writing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
    return os.open(name.encode(), flags, FILE_MODE, dir_fd=folder)


def open_kept(folder: int, name: str) -> int:
    """Open the file `name` to be locked or written to, and make it if it is missing."""
    return os.open(name.encode(), os.O_RDWR | os.O_CREAT | _NO_LINK, FILE_MODE, dir_fd=folder)


def remove_empty(folder: int, name: str) -> bool:
    """Remove the folder `name` if there are no files below it; return whether it is gone."""
    try:
        for _, below, files, here in os.fwalk(name.encode(), topdown=False, dir_fd=folder):
            if files:
                return False
            for child in below:
                os.rmdir(child, dir_fd=here)
        os.rmdir(name.encode(), dir_fd=folder)
    except OSError:
        # Filled or removed meanwhile: whoever asks looks again.
        return False
    return True


@contextmanager
def _descended(here: int, path: str, step: Callable[[int, str], int]) -> Iterator[int]:
    try:
        for name in path.split("/") if path else ():
            above, here = here, step(here, name)
            os.close(above)
        yield here
    finally:
        os.close(here)


def _enter(folder: int, name: str) -> int:
    try:
        return os.open(name.encode(), _FOLDER | _NO_LINK, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError:
        # Systems differ in what they call a link here: see for ourselves.
        look(folder, name)
        raise


def _enter_or_make(folder: int, name: str) -> int:
    try:
        return _enter(folder, name)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name.encode(), FOLDER_MODE, dir_fd=folder)
        os.fsync(folder)
        return _enter(folder, name)


def _make_durably(root: Path) -> None:
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(FOLDER_MODE, exist_ok=True)
        above = os.open(folder.parent, _FOLDER)
        try:
            os.fsync(above)
        finally:
            os.close(above)


def _ordinary(found: os.stat_result, name: str) -> os.stat_result:
    if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
        return found
    kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "a special file"
    raise Forbidden(
        f"{printable(name, 300)!r} is {kind}, which is never followed or opened",
        remedy="Find out who put it into the store's folder, and remove it",
    )


def _file(found: os.stat_result | None) -> os.stat_result:
    if found is None or stat.S_ISDIR(found.st_mode):
        raise FileNotFoundError
    return found


def _text(name: str) -> str:
    # Whatever the locale: what is not UTF-8 gets surrogates, which no key has.
    return os.fsencode(name).decode("utf-8", "surrogateescape")

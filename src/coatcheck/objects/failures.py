"""Failed system calls: one table from the system's reasons to what the caller should do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from coatcheck.errors import (
    CoatcheckError,
    ConfigError,
    Forbidden,
    TooLarge,
    Unavailable,
    Unsupported,
    printable,
)
from coatcheck.objects import rules

_SPACE = "Free space where the store is, or raise its quota, then try again"
_RIGHTS = "Give this user the right to read and write the store's folder and all in it"
_NAME = "Use shorter segments, of characters that this file system takes"

_BAD_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)

_Row = tuple[type[CoatcheckError], str, str]

_BY_ERRNO: dict[int, _Row] = {
    errno.ENOSPC: (Unavailable, "the disk is full", _SPACE),
    errno.EDQUOT: (Unavailable, "the disk quota is used up", _SPACE),
    errno.EFBIG: (
        TooLarge,
        "the object is over the largest size of a file here",
        "Raise the process's file size limit, or use another file system",
    ),
    errno.EACCES: (Forbidden, "the file system denies access", _RIGHTS),
    errno.EPERM: (Forbidden, "the file system denies access", _RIGHTS),
    errno.EROFS: (Forbidden, "the file system is read-only", "Mount it for writing"),
    errno.ELOOP: (
        Forbidden,
        "a symbolic link is in the way, which is never followed",
        "Find out who put it into the store's folder, and remove it",
    ),
    errno.EXDEV: (
        ConfigError,
        "a folder inside the store is on another file system",
        "Keep all of the store's folder on one file system",
    ),
    errno.EMFILE: (Unavailable, "the process has too many open files", "Raise its limit (ulimit)"),
    errno.ENFILE: (Unavailable, "the system has too many open files", "Raise its limit"),
}

_OTHERS: _Row = (Unavailable, "the file system failed", "Check the disk, then try again")


@contextmanager
def explained(operation: str, location: str, key: str | None) -> Iterator[None]:
    """Turn an OSError that comes out of the block into the error that says what to do.

    Like `rules.named`, and meant in its place, it fills in where the operation failed.
    """
    with rules.named(operation, location, key):
        try:
            yield
        except CoatcheckError:
            # Some are OSErrors too, by their built-in bases, and have their explanation.
            raise
        except OSError as error:
            raise _explain(error) from error


def no_hard_links() -> Unsupported:
    """Make the error for a file system on which a file has one name only."""
    return Unsupported(
        "the file system has no hard links, so nothing can be stored only where it is absent",
        remedy="Keep the store's folder on a file system with hard links",
    )


def _explain(error: OSError) -> CoatcheckError:
    name = error.filename
    place = f" at {printable(os.fsdecode(name), 300)!r}" if isinstance(name, str | bytes) else ""
    reason = errno.errorcode.get(error.errno or 0, "no error number")
    # EINVAL means a bad name (a "?" on FAT) only where the call took a name.
    if place and error.errno in _BAD_NAMES:
        return ConfigError(
            f"the file system does not take the name ({reason}){place}", remedy=_NAME
        )
    kind, message, remedy = _BY_ERRNO.get(error.errno or 0, _OTHERS)
    return kind(f"{message} ({reason}){place}", remedy=remedy)

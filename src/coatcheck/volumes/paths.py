"""The grammar of paths: what may name a file or a folder of a volume."""

import unicodedata

from coatcheck.errors import ConfigError, printable
from coatcheck.objects.keys import check_text

_HELP = 'Write it relative to the volume, as in "results/plot.png"'


def check_path(path: str) -> str:
    """Return `path`, or raise ConfigError with the reason why it cannot name a file or a folder.

    A path is Unicode text in segments parted by "/", relative to its volume, and the only way to
    write what it names: no segment is empty, "." or "..", and none holds a control character.
    Spaces and all other characters are kept as they are; Unicode is not normalised, for the keys
    that others wrote are not, so two spellings are two files.
    """
    if not path:
        raise ConfigError("the path is empty", remedy=_HELP)
    check_text(path)
    if path.startswith("/"):
        raise _refused(path, "is absolute", _HELP)
    if path.endswith("/"):
        raise _refused(path, "ends with a slash", f"Write {printable(path.rstrip('/'), 80)!r}")
    for segment in path.split("/"):
        if segment == "":
            raise _refused(path, "has an empty segment", "Write one slash between two names")
        if segment == ".":
            raise _refused(path, "has the segment '.'", "Leave it out: it names the same file")
        if segment == "..":
            raise _refused(path, "has the segment '..'", "A path cannot lead out of its folder")
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise _refused(path, "holds a control character", "Give the file another name")
    return path


def any_path(path: str) -> str:
    """Return `path` as it is, for keys that are made by the rules of somebody else.

    S3 takes empty segments and dots for what they are, so such a path leads nowhere else.
    """
    return path


def join(folder: str, path: str) -> str:
    """Return `path` below `folder`; either may be "", the top."""
    if not folder or not path:
        return folder or path
    return f"{folder}/{path}"


def below(folder: str, path: str) -> str:
    """Return `path` as seen from `folder`, which is above it."""
    return path[len(folder) + 1 :] if folder else path


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder`, or below it."""
    return not folder or path == folder or path.startswith(f"{folder}/")


def _refused(path: str, fault: str, remedy: str) -> ConfigError:
    return ConfigError(f"the path {printable(path, 80)!r} {fault}", remedy=remedy)

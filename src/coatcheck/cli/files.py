"""Files that the user names: payloads and claims that come in, payloads that go out."""

import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from coatcheck.cli import units
from coatcheck.cli.meter import Meter
from coatcheck.errors import CoatcheckError, ConfigError, TooLarge, printable
from coatcheck.payloads.claim import MAX_CLAIM_CHARACTERS

STANDARD = "-"
"""What stands for standard input, or output, in place of a file's name."""

CHUNK_BYTES = 1024 * 1024

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class PayloadSource:
    """The bytes of a file, or of standard input, on their way into a store, counted by `meter`.

    Raises TooLarge when there are more than `limit_bytes`, if that is given.
    """

    def __init__(self, name: str, file: BinaryIO, limit_bytes: int | None, meter: Meter) -> None:
        status = os.fstat(file.fileno())
        self.size_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
        self._name = name
        self._file = file
        self._limit_bytes = limit_bytes
        self._meter = meter
        self._read_bytes = 0
        self._check(self.size_bytes or 0)

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        chunk = self._file.read(min(size, CHUNK_BYTES))
        self._read_bytes += len(chunk)
        self._check(self._read_bytes)
        self._meter.advance(len(chunk))
        return chunk

    def _check(self, size_bytes: int) -> None:
        if self._limit_bytes is not None and size_bytes > self._limit_bytes:
            raise _too_large(self._name, size_bytes, self._limit_bytes)


@contextmanager
def payload_source(name: str, limit_bytes: int | None, meter: Meter) -> Iterator[PayloadSource]:
    """Open the file `name`, or standard input, for the length of a `with` block."""
    with _opened(name) as file:
        yield PayloadSource(name, file, limit_bytes, meter)


def read_claim(argument: str) -> str | bytes:
    """Return a claim's text: `argument` itself, or what is in the file of "@file", or in "-"."""
    if argument != STANDARD and not argument.startswith("@"):
        return argument
    with _opened(argument.removeprefix("@")) as source:
        return source.read(MAX_CLAIM_CHARACTERS + 1)


class Target:
    """Where a payload goes: a file, or standard output. Made before the payload is fetched, so
    that a name which cannot be right costs nothing. Raises ConfigError.
    """

    def __init__(self, name: str | None) -> None:
        self._guarded = name is None and sys.stdout.isatty()
        self._path: Path | None = None
        if name is None or name == STANDARD:
            return
        self._path = Path(name)
        if self._path.is_dir():
            raise ConfigError(f"{_shown(name)} is a folder", remedy="Name a file")
        if self._is_special():
            return
        # A symbolic link stays one: what it leads to is written.
        self._path = Path(os.path.realpath(name))
        if not self._path.parent.is_dir():
            raise ConfigError(
                f"there is no folder {_shown(str(self._path.parent))}", remedy="Make it first"
            )

    @property
    def wants_all_at_once(self) -> bool:
        """Whether the whole payload must be seen before any of it is written: on a terminal."""
        return self._guarded

    @property
    def shows_beginnings(self) -> bool:
        """Whether what is written is seen before all is there: anything but a file."""
        return self._path is None or self._is_special()

    def write(self, parts: Iterable[bytes]) -> None:
        """Write all of `parts`; a file has all of them or stays as it was."""
        if self._path is None:
            for part in parts:
                self._write_out(part)
            sys.stdout.buffer.flush()
            return
        with _explained(f"{_shown(str(self._path))} was not written"):
            if self._is_special():
                with open(self._path, "wb") as device:
                    device.writelines(parts)
            else:
                replace_file(self._path, parts, mode=_mode_of(self._path))

    def _is_special(self) -> bool:
        """Whether it is a device or a pipe, in whose place nothing can be put."""
        return self._path is not None and self._path.exists() and not self._path.is_file()

    def _write_out(self, payload: bytes) -> None:
        if self._guarded and not _is_plain_text(payload):
            raise ConfigError(
                f"the payload, {units.size(len(payload))}, is not text, and would garble the"
                " terminal",
                remedy="Write it to a file with -o FILE, or give -o - to have it here all the same",
            )
        # Unbuffered (python -u, PYTHONUNBUFFERED), a write may take less than it is given.
        with memoryview(payload) as left:
            done_bytes = 0
            while done_bytes < len(left):
                done_bytes += sys.stdout.buffer.write(left[done_bytes:])


def replace_file(path: Path, parts: Iterable[bytes], *, mode: int | None) -> None:
    """Put `parts`, one after the other, in the place of the file at `path`: in one step, durably.

    `mode`: the new file's permissions; None for what a new file has here. Whatever goes wrong,
    the old file is still there and nothing else is left.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o666 if mode is None else 0o600), "wb") as file:
            file.writelines(parts)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STANDARD:
        if sys.stdin is None:
            raise ConfigError("standard input is closed", remedy="Name a file")
        yield sys.stdin.buffer
        return
    try:
        source = open(name, "rb")  # noqa: SIM115 - closed below; errors of the block are not ours
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"{_shown(name)} cannot be read: {reason}", remedy="Name a file that can be"
        ) from error
    with source:
        yield source


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except CoatcheckError:
        raise  # of the store that the parts come from; some are OSErrors too
    except OSError as error:
        raise CoatcheckError(
            f"{what}: {error.strerror}", remedy="Check permissions and free space, then try again"
        ) from error


def _mode_of(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _is_plain_text(payload: bytes) -> bool:
    """Whether a terminal shows it as it is. Escape sequences could do anything to it."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(text)


def check_limit(size_bytes: int, limit_bytes: int | None) -> None:
    """Raise TooLarge if a claim stands for more than `limit_bytes`, where that is given."""
    if limit_bytes is not None and size_bytes > limit_bytes:
        raise TooLarge(
            f"the claim stands for {size_bytes} bytes, over the limit of {limit_bytes}",
            remedy="Raise it with --max-payload-bytes",
        )


def _too_large(name: str, size_bytes: int, limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"{_shown(name)} has {size_bytes} bytes or more, over the limit of {limit_bytes}",
        remedy="Raise it with --max-payload-bytes",
    )


def _shown(name: str) -> str:
    if name == STANDARD:
        return "standard input"
    return repr(printable(os.fsencode(name).decode(errors="replace")))

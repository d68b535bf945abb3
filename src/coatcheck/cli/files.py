"""Files that the user names: payloads and claims that come in, payloads that go out."""

import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
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


def read_payload(name: str, limit_bytes: int, meter: Meter) -> bytes:
    """Read the file `name`, or standard input, to its end; TooLarge beyond `limit_bytes`."""
    with _opened(name) as source:
        status = os.fstat(source.fileno())
        total_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
        if total_bytes is not None and total_bytes > limit_bytes:
            raise _too_large(name, total_bytes, limit_bytes)
        meter.begin(f"Reading {_shown(name)}", total_bytes)
        # BytesIO hands out its buffer as bytes without a copy, so the payload is held once.
        payload = BytesIO()
        while chunk := source.read(CHUNK_BYTES):
            payload.write(chunk)
            if payload.tell() > limit_bytes:
                raise _too_large(name, payload.tell(), limit_bytes)
            meter.advance(len(chunk))
        return payload.getvalue()


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

    def write(self, payload: bytes) -> None:
        """Write all of `payload`; a file has all of it or stays as it was."""
        if self._path is None:
            self._write_out(payload)
            return
        with _explained(f"{_shown(str(self._path))} was not written"), Meter() as meter:
            meter.begin(f"Writing {units.size(len(payload))}")
            if self._is_special():
                self._path.write_bytes(payload)
            else:
                replace_file(self._path, payload, mode=_mode_of(self._path))

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
        sys.stdout.buffer.write(payload)
        sys.stdout.buffer.flush()


def replace_file(path: Path, content: bytes, *, mode: int | None) -> None:
    """Put `content` in the place of the file at `path`, in one step and durably.

    `mode`: the new file's permissions; None for what a new file has here. Whatever goes wrong,
    the old file is still there and nothing else is left.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o666 if mode is None else 0o600), "wb") as file:
            file.write(content)
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


def _too_large(name: str, size_bytes: int, limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"{_shown(name)} has {size_bytes} bytes or more, over the limit of {limit_bytes}",
        remedy="Raise it with --max-payload-bytes, if there is memory for it",
    )


def _shown(name: str) -> str:
    if name == STANDARD:
        return "standard input"
    return repr(printable(os.fsencode(name).decode(errors="replace")))

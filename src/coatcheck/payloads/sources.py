"""Sources: what a caller streams a payload from, read in pieces of a chosen size."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from io import BytesIO
from typing import Protocol

from coatcheck.errors import ConfigError
from coatcheck.runtime.port import Runtime
from coatcheck.types import Buffer

_END = object()
TURN_SECONDS = 0.005
"""How long chunks of an ordinary iterable are taken before others get a turn."""


class Readable(Protocol):
    """A binary file, or what reads like one, with or without await."""

    def read(self, size: int, /) -> Buffer | Awaitable[Buffer]:
        """Return at most `size` bytes, fewer only if there are no more just now; none at the
        end."""
        ...


Source = Readable | AsyncIterable[Buffer] | Iterable[Buffer] | Buffer
"""What a payload can be streamed from: chunks of any sizes, empty ones included, or a file."""

_Pull = Callable[[int], Awaitable[bytes]]
"""Gives the next bytes, as many as it likes; the size is what would do. b"" at the end."""


class Pieces:
    """The bytes of `source`, in pieces as large as they are asked for.

    Files are read, without await, where that does not hold up others; the chunks of an ordinary
    iterable are made where the caller runs, so its code need not be thread-safe. The source's
    own errors come out as they are. TypeError for what gives anything but bytes.

    size_bytes: what the caller says that the source will give; another size is a ConfigError, and
    nothing beyond it is handed out.
    """

    def __init__(self, source: Source, runtime: Runtime, *, size_bytes: int | None = None) -> None:
        if size_bytes is not None and size_bytes < 0:
            raise ConfigError(f"size_bytes is {size_bytes}", remedy="Give a number of bytes")
        self._pull, self._close = _opened(source, runtime)
        self._expected_bytes = size_bytes
        self._pulled_bytes = 0
        self._rest = memoryview(b"")
        self._put_back: bytes | None = None
        self._is_at_end = False

    async def take(self, size_bytes: int) -> bytes:
        """Return the next `size_bytes`; fewer only at the end of the source."""
        if self._put_back is not None and len(self._put_back) == size_bytes:
            taken, self._put_back = self._put_back, None
            return taken
        if not self._rest:
            await self._refill(size_bytes)
        if len(self._rest) == size_bytes and isinstance(self._rest.obj, bytes):
            whole = self._rest.obj
            if len(whole) == size_bytes:
                self._rest = memoryview(b"")
                return whole
        piece = BytesIO()
        if self._put_back is not None:
            self._rest = memoryview(self._put_back + self._rest)
            self._put_back = None
        while (missing := size_bytes - piece.tell()) > 0:
            if not self._rest and not await self._refill(missing):
                break
            piece.write(self._rest[:missing])
            self._rest = self._rest[missing:]
        return piece.getvalue()

    async def whole(self, limit_bytes: int) -> bytes | None:
        """Return all that is left, if it has at most `limit_bytes`; else None, and nothing is lost.

        Reads one chunk beyond the limit, to know.
        """
        taken = await self.take(limit_bytes)
        if not self._rest and not await self._refill(1):
            return taken
        self._put_back = taken
        return None

    async def close(self) -> None:
        """Tell a generator that no more is wanted. Files are the caller's to close."""
        self._rest = memoryview(b"")
        await self._close()

    async def _refill(self, wanted_bytes: int) -> bool:
        if self._is_at_end:
            return False
        chunk = await self._pull(wanted_bytes)
        self._pulled_bytes += len(chunk)
        self._is_at_end = not chunk
        self._check_size()
        self._rest = memoryview(chunk)
        return bool(chunk)

    def _check_size(self) -> None:
        expected, got = self._expected_bytes, self._pulled_bytes
        if expected is None or got == expected or (got < expected and not self._is_at_end):
            return
        gave = f"{got} bytes" if self._is_at_end else f"{got} bytes or more"
        raise ConfigError(
            f"the source gave {gave} where size_bytes says {expected}; nothing was stored",
            remedy="Give the right size, or none",
        )


def _opened(source: Source, runtime: Runtime) -> tuple[_Pull, Callable[[], Awaitable[None]]]:
    if isinstance(source, bytes | bytearray | memoryview):
        source = (source,)
    read = getattr(source, "read", None)
    if read is not None:
        return partial(_read, read, runtime), _nothing_to_close
    if isinstance(source, AsyncIterable):
        chunks = aiter(source)
        return partial(_next_awaited, chunks), partial(_close_awaited, chunks)
    if isinstance(source, Iterable):
        plain = iter(source)  # of a str, too, whose characters are refused
        return _Taker(plain, runtime).pull, partial(_close_plain, plain)
    raise TypeError(
        f"a payload is streamed from a binary file, or from an iterable or async iterable of"
        f" bytes, not from {type(source).__name__}"
    )


async def _read(
    read: Callable[[int], Buffer | Awaitable[Buffer]], runtime: Runtime, size: int
) -> bytes:
    got = await runtime.offload(partial(read, size))
    return _bytes(await got if isawaitable(got) else got)


async def _next_awaited(chunks: AsyncIterator[Buffer], size: int) -> bytes:
    async for chunk in chunks:
        if taken := _bytes(chunk):
            return taken
    return b""


class _Taker:
    """Takes chunks from an ordinary iterator, and lets others have their turn in between."""

    def __init__(self, chunks: Iterator[Buffer], runtime: Runtime) -> None:
        self._chunks = chunks
        self._runtime = runtime
        self._turn_ends = 0.0

    async def pull(self, size: int) -> bytes:
        while True:
            if self._runtime.monotonic() >= self._turn_ends:
                await self._runtime.sleep(0)
                self._turn_ends = self._runtime.monotonic() + TURN_SECONDS
            chunk = next(self._chunks, _END)
            if chunk is _END:
                return b""
            if taken := _bytes(chunk):
                return taken


def _bytes(chunk: object) -> bytes:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        # Copied, for whoever gave it may fill the same buffer again.
        return bytes(chunk)
    raise TypeError(f"a source gives bytes; this one gave {type(chunk).__name__}")


async def _nothing_to_close() -> None:
    return


async def _close_awaited(chunks: AsyncIterator[Buffer]) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()


async def _close_plain(chunks: Iterator[Buffer]) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        with suppress(ValueError):  # a generator that is running in another thread
            close()

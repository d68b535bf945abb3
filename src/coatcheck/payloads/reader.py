"""A payload that is read like a file: seek, tell, read, each byte verified before it is given."""

import io
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Protocol, Self

from coatcheck.types import Buffer

PARTS_KEPT = 3


class VerifiedParts(Protocol):
    """The parts of a payload, each verified before it is handed out."""

    @property
    def part_bytes(self) -> int:
        """The size of a part, the last one apart."""
        ...

    async def fetch(self, number: int) -> bytes:
        """Return part `number`, from 0."""
        ...

    def stream(self, first: int) -> AsyncGenerator[bytes, None]:
        """Yield the parts from `first` on, some of them fetched ahead."""
        ...


class PayloadReader:
    """A payload open for reading, as an async context manager. Made by `PayloadStore.open`.

    One task at a time. The last PARTS_KEPT parts are kept; who reads on where the last part ended
    has the next ones fetched ahead. Leaving the block ends what is under way.
    """

    def __init__(self, size_bytes: int, prepare: Callable[[], Awaitable[VerifiedParts]]) -> None:
        self._size_bytes = size_bytes
        self._prepare = prepare
        self._parts: VerifiedParts | None = None
        self._position = 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._latest: int | None = None
        self._ahead: AsyncGenerator[bytes, None] | None = None

    @property
    def size_bytes(self) -> int:
        """The payload's size."""
        return self._size_bytes

    async def __aenter__(self) -> Self:
        self._parts = await self._prepare()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End what is under way and let go of what is kept. Again: no effect."""
        self._parts = None
        self._kept.clear()
        await self._stop_reading_ahead()

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to `offset` bytes from the start, from here or from the end; return the position.

        No request. Beyond the end is allowed, and there is nothing to read there; ValueError for
        before the start.
        """
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}
        if whence not in base:
            raise ValueError(f"whence is {whence}; it is 0, 1 or 2")
        if base[whence] + offset < 0:
            raise ValueError(f"there is no position {base[whence] + offset}")
        self._position = base[whence] + offset
        return self._position

    async def tell(self) -> int:
        """Return the position, in bytes from the start."""
        return self._position

    async def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes; fewer only at the end; all that is left without `size`.

        One request for each part that is not at hand. Raises NotFound and Corrupt.
        """
        left = max(0, self._size_bytes - self._position)
        size = left if size < 0 else min(size, left)
        number, start = self._place()
        if size and start + size <= self._opened().part_bytes:
            part = await self._part(number)
            self._position += size
            return part[start : start + size]
        whole = io.BytesIO()
        while whole.tell() < size:
            whole.write(await self._some(size - whole.tell()))
        return whole.getvalue()

    async def readinto(self, buffer: Buffer) -> int:
        """Fill `buffer` with the next bytes; return how many there were."""
        with memoryview(buffer).cast("B") as target:
            size = min(len(target), max(0, self._size_bytes - self._position))
            done = 0
            while done < size:
                some = await self._some(size - done)
                target[done : done + len(some)] = some
                done += len(some)
            return done

    async def _some(self, size: int) -> memoryview:
        number, start = self._place()
        some = memoryview(await self._part(number))[start : start + size]
        self._position += len(some)
        return some

    def _place(self) -> tuple[int, int]:
        return divmod(self._position, self._opened().part_bytes)

    def _opened(self) -> VerifiedParts:
        if self._parts is None:
            raise ValueError("the payload is not open: read inside its `with` block")
        return self._parts

    async def _part(self, number: int) -> bytes:
        part = self._kept.get(number)
        if part is None:
            part = self._kept[number] = await self._fetch(number)
            self._latest = number
            if len(self._kept) > PARTS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return part

    async def _fetch(self, number: int) -> bytes:
        parts = self._opened()
        if self._latest is None or number != self._latest + 1:
            await self._stop_reading_ahead()
            return await parts.fetch(number)
        if self._ahead is None:
            self._ahead = parts.stream(number)
        try:
            return await anext(self._ahead)
        except BaseException:
            # It has ended with its error; the next read starts anew.
            self._ahead = None
            raise

    async def _stop_reading_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await ahead.aclose()

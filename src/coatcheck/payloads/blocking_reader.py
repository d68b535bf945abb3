"""A payload as an ordinary file object: for pandas, pyarrow, zipfile and the like."""

import io
from typing import TYPE_CHECKING, Self

from coatcheck.payloads.reader import PayloadReader
from coatcheck.runtime.blocking import BLOCKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class BlockingPayloadReader(io.BufferedReader):
    """`coatcheck.PayloadReader` without await: a binary file, open for reading.

    Everything that io.BufferedReader has, and `size_bytes`. Close it, best with a `with` block.
    """

    def __init__(self, reader: PayloadReader) -> None:
        self._reader = reader
        super().__init__(_Raw(reader))

    @property
    def size_bytes(self) -> int:
        """The payload's size."""
        return self._reader.size_bytes

    @classmethod
    def opened(cls, reader: PayloadReader) -> Self:
        """Open `reader` and return it as a file; the requests are those of entering its block."""
        BLOCKING.run(reader.__aenter__())
        return cls(reader)


class _Raw(io.RawIOBase):
    def __init__(self, reader: PayloadReader) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return BLOCKING.run(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return BLOCKING.run(self._reader.tell())

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        with memoryview(buffer) as target:
            return BLOCKING.run(self._reader.readinto(target))

    def readall(self) -> bytes:
        return BLOCKING.run(self._reader.read())

    def close(self) -> None:
        if not self.closed:
            BLOCKING.run(self._reader.close())
        super().close()

"""Whether two files have the same bytes, found out with as little reading as can be.

The ETag of an S3 object is the MD5 of its bytes, or of the MD5s of its parts with a dash and their
number, unless it is encrypted by KMS. Only that two of them are equal says anything: files that
cannot be proven to be the same are taken to differ, and are copied, which is always right.
"""

import re
from contextlib import aclosing
from functools import partial
from hashlib import md5, sha256
from typing import Protocol

from coatcheck.runtime.port import Runtime
from coatcheck.types import ObjectInfo
from coatcheck.volumes.file import VolumeFile
from coatcheck.volumes.parts import PART_BYTES, part_size

_CONTENT_ETAG = re.compile(r'"?([0-9a-f]{32})(?:-([0-9]+))?"?\Z')


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


async def have_same_bytes(source: VolumeFile, target: VolumeFile, runtime: Runtime) -> bool:
    """Whether both files are provably the same, by size and digest.

    No request where both ETags are of content and alike. One read of the file whose ETag is not
    of its content, where the other's is; one read of both by SHA-256, where neither is.
    """
    here, there = await source.info(), await target.info()
    if here.size_bytes != there.size_bytes:
        return False
    if here.size_bytes == 0:
        return True
    ours, theirs = _content_etag(here), _content_etag(there)
    if ours is None and theirs is None:
        return await _hashed(source, sha256(), runtime) == await _hashed(target, sha256(), runtime)
    if ours is None or theirs is None:
        unhashed, etag = (source, theirs) if ours is None else (target, ours)
        assert etag is not None  # one of the two is there
        return await _matches(unhashed, etag, here.size_bytes, runtime)
    if ours == theirs:
        return True
    # The same bytes in other parts have another ETag; plain MD5s that differ say all.
    is_multipart = "-" in ours or "-" in theirs
    return is_multipart and await _matches(source, theirs, here.size_bytes, runtime)


def _content_etag(info: ObjectInfo) -> str | None:
    match = _CONTENT_ETAG.match(info.etag or "")
    return match.group(0).strip('"') if match else None


async def _matches(file: VolumeFile, etag: str, size_bytes: int, runtime: Runtime) -> bool:
    """Whether the file's bytes would have this ETag, in one piece or in parts as we make them."""
    _, is_multipart, count = etag.partition("-")
    if not is_multipart:
        return await _hashed(file, md5(usedforsecurity=False), runtime) == etag
    part_bytes = part_size(1, size_bytes)
    if int(count) != -(-size_bytes // part_bytes):
        return False
    return await _hashed(file, _PartHash(part_bytes), runtime) == etag


async def _hashed(file: VolumeFile, into: _Hash, runtime: Runtime) -> str:
    async with aclosing(file.stream()) as parts:
        async for part in parts:
            if len(part) < PART_BYTES // 8:
                into.update(part)
            else:
                await runtime.offload(partial(into.update, part))
    return into.hexdigest()


class _PartHash:
    """The ETag of a file that was sent in parts of `part_bytes`."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._digests = b""
        self._current = md5(usedforsecurity=False)
        self._filled_bytes = 0

    def update(self, data: bytes, /) -> None:
        """Hash `data` on."""
        rest = memoryview(data)
        while rest:
            taken = rest[: self._part_bytes - self._filled_bytes]
            self._current.update(taken)
            self._filled_bytes += len(taken)
            rest = rest[len(taken) :]
            if self._filled_bytes == self._part_bytes:
                self._end_part()

    def hexdigest(self) -> str:
        """Return the ETag, without quotes."""
        if self._filled_bytes:
            self._end_part()
        whole = md5(self._digests, usedforsecurity=False).hexdigest()
        return f"{whole}-{len(self._digests) // 16}"

    def _end_part(self) -> None:
        self._digests += self._current.digest()
        self._current, self._filled_bytes = md5(usedforsecurity=False), 0

"""Files go from one volume to another: by the server itself where it can, else as streams."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import unquote

from coatcheck.errors import ConfigError, NotFound, printable
from coatcheck.objects.beside import CopyBeside, copier
from coatcheck.objects.port import ObjectStore
from coatcheck.runtime.mutex import Mutex
from coatcheck.types import ObjectInfo
from coatcheck.volumes.file import VolumeFile
from coatcheck.volumes.parts import PART_BYTES
from coatcheck.volumes.paths import is_within, join
from coatcheck.volumes.sameness import have_same_bytes
from coatcheck.volumes.upload import upload
from coatcheck.volumes.workers import for_each


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """A file that is at its destination now; `was_there` if it had been, with the same bytes."""

    path: str
    size_bytes: int
    was_there: bool


@dataclass(frozen=True, slots=True)
class CopySummary:
    """What a copy did: files and bytes that were copied, and files that were there already."""

    files: int
    size_bytes: int
    files_already_there: int


@dataclass(frozen=True, slots=True)
class Found:
    """An object to be copied: its description, and its key and path where it goes."""

    info: ObjectInfo
    key: str
    path: str


class Copy:
    """A copy under way from one store to another.

    `notice` is told of each file once it is at its destination, in no particular order.
    """

    def __init__(
        self,
        source: ObjectStore,
        target: ObjectStore,
        notice: Callable[[CopiedFile], None] | None,
    ) -> None:
        self._source = source
        self._target = target
        self._runtime = target.runtime
        self._by_server = copier(source, target)
        self._notice = notice
        # Large files use all connections by themselves; together they would only use memory.
        self._streaming = Mutex(target.runtime)
        self._files = self._size_bytes = self._there = 0

    async def all(self, found: AsyncGenerator[Found, None]) -> CopySummary:
        """Copy all that is found, whatever is at its destination."""
        await for_each(found, self._copy, self._runtime)
        return self._summary()

    async def missing(
        self, found: AsyncGenerator[Found, None], present: AsyncGenerator[ObjectInfo, None]
    ) -> CopySummary:
        """Copy what is not at its destination with the same bytes.

        `present`: the objects there, in order of their keys, as `found` is.
        """
        await for_each(_paired(found, present), self._copy_unless_same, self._runtime)
        return self._summary()

    async def _copy_unless_same(self, pair: tuple[Found, ObjectInfo | None]) -> None:
        found, there = pair
        if there is not None:
            source = VolumeFile(self._source, found.info.key, found.path, found.info)
            target = VolumeFile(self._target, found.key, found.path, there)
            if await have_same_bytes(source, target, self._runtime):
                self._there += 1
                self._tell(CopiedFile(found.path, there.size_bytes, was_there=True))
                return
        await self._copy(found)

    async def _copy(self, found: Found) -> None:
        stored = await self._moved(found)
        self._files += 1
        self._size_bytes += stored.size_bytes
        self._tell(CopiedFile(found.path, stored.size_bytes, was_there=False))

    async def _moved(self, found: Found) -> ObjectInfo:
        if self._by_server is not None:
            return await self._by_server(found.info, found.key)
        if found.info.size_bytes <= PART_BYTES:
            return await self._streamed(found)
        async with self._streaming:
            return await self._streamed(found)

    async def _streamed(self, found: Found) -> ObjectInfo:
        file = VolumeFile(self._source, found.info.key, found.path, found.info)
        async with aclosing(file.stream()) as parts:
            return await upload(self._target, found.key, parts, size_bytes=found.info.size_bytes)

    def _tell(self, copied: CopiedFile) -> None:
        if self._notice is not None:
            self._notice(copied)

    def _summary(self) -> CopySummary:
        return CopySummary(self._files, self._size_bytes, self._there)


def refuse_overlap(
    source: ObjectStore, source_folder: str, target: ObjectStore, target_folder: str
) -> None:
    """Raise ConfigError where a folder would be copied onto itself, or into itself for ever."""
    if isinstance(target, type(source)) and _reaches(copier(source, target), source, target):
        here = join(unquote(source.location).rstrip("/"), source_folder)
        there = join(unquote(target.location).rstrip("/"), target_folder)
        if is_within(there, here):
            raise ConfigError(
                f"{printable(there, 200)} is in {printable(here, 200)}, which is to be copied",
                remedy="Copy it to a place outside of itself",
            )


def _reaches(by_server: CopyBeside | None, source: ObjectStore, target: ObjectStore) -> bool:
    # A local folder and one inside of it are two stores of one disk.
    return by_server is not None or source.location.startswith("file:")


async def _paired(
    found: AsyncGenerator[Found, None], present: AsyncGenerator[ObjectInfo, None]
) -> AsyncGenerator[tuple[Found, ObjectInfo | None], None]:
    """Yield each of `found` with the one of `present` that has its key. Both are in order."""
    async with aclosing(found), aclosing(present):
        there = await anext(present, None)
        async for one in found:
            while there is not None and there.key < one.key:
                there = await anext(present, None)
            yield one, there if there is not None and there.key == one.key else None


async def present_file(objects: ObjectStore, key: str) -> AsyncGenerator[ObjectInfo, None]:
    """Yield the object under `key`, if there is one."""
    try:
        yield await objects.head(key)
    except NotFound:
        return

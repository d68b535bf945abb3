"""The volume: a tree of files in an object store."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable

from coatcheck.errors import ConfigError, NotFound, printable
from coatcheck.objects.port import ObjectStore
from coatcheck.objects.sources import Source
from coatcheck.runtime.port import Runtime
from coatcheck.types import NO_ATTRIBUTES, Attributes, ObjectInfo
from coatcheck.volumes.copying import (
    CopiedFile,
    Copy,
    CopySummary,
    Found,
    present_file,
    refuse_overlap,
)
from coatcheck.volumes.deleting import delete_all
from coatcheck.volumes.file import VolumeFile
from coatcheck.volumes.paths import below, check_path, join
from coatcheck.volumes.upload import upload


class Volume:
    """A tree of files: the objects of a store that are below `folder`, "" for all of them.

    check: returns a path, or raises ConfigError if it cannot be one; by default by the grammar of
    `coatcheck.volumes.paths.check_path`. A folder is there if a file is in it, and needs no
    making. Keys are the paths below the store's prefix, nothing added, so others read them.

    Share a volume freely between tasks and event loops. Making one does no I/O.
    """

    def __init__(
        self,
        objects: ObjectStore,
        folder: str = "",
        *,
        check: Callable[[str], str] = check_path,
    ) -> None:
        self._objects = objects
        self._folder = folder
        self._check = check

    @property
    def location(self) -> str:
        """Where the files are, as a URL without secrets."""
        return join(self._objects.location.rstrip("/"), self._folder)

    @property
    def runtime(self) -> Runtime:
        """What the volume waits on."""
        return self._objects.runtime

    def folder(self, path: str) -> "Volume":
        """Return the folder at `path` as a volume of its own, there or not. No I/O."""
        return Volume(self._objects, self._key(path), check=self._check)

    async def store(
        self, path: str, source: Source, *, attributes: Attributes = NO_ATTRIBUTES
    ) -> ObjectInfo:
        """Make the bytes of `source` the file at `path`, in place of what was there.

        `source`: bytes, a binary file, or an iterable or async iterable of bytes. A file is read
        from its position on, stays open, and is put back there if it can be. Up to 8 MiB: one
        request; beyond, one for each 8 MiB and two around them, in fixed memory. Readers see the
        old file until the new one is complete; cancelled or failed, it leaves nothing.
        """
        info = await upload(self._objects, self._key(path), source, attributes=attributes)
        return ObjectInfo(path, info.size_bytes, info.etag, info.last_modified)

    def load(self, path: str) -> VolumeFile:
        """Return the file at `path`, whether it is there or not: reading finds out. No I/O."""
        return VolumeFile(self._objects, self._key(path), path)

    async def walk(self, path: str = "") -> AsyncIterator[tuple[str, VolumeFile]]:
        """Yield path and file of the file at `path`, then of all files below it, "" for all.

        In order of the paths' UTF-8 bytes, listed as they are asked for: one request per 1,000
        files, and one for the file at `path`. Paths are relative to the volume. Empty objects
        whose key ends with a slash, by which some programs mark folders, are no files.
        """
        async for info in self._infos(path):
            if not _marks_folder(info):
                found = below(self._folder, info.key)
                yield found, VolumeFile(self._objects, info.key, found, info)

    async def copy_to(
        self,
        target: "Volume",
        path: str = "",
        *,
        to: str | None = None,
        skip_same: bool = False,
        notice: Callable[[CopiedFile], None] | None = None,
    ) -> CopySummary:
        """Copy the file or the folder at `path`, "" for all, to `target`.

        It has the same path there, or the path `to`; "" puts a folder's files at the top. With
        `skip_same`, files that are there with the same bytes, by size and digest, are left alone:
        so a copy that was cut off goes on. `notice` is told of each file that is done.

        Volumes of one server: one request for each file, whose bytes do not pass through here;
        else as reading and storing costs. Sixteen files side by side. The first failure ends the
        copy; each file is there whole or not at all. Raises NotFound if there is nothing at
        `path`, and ConfigError for a copy into itself. Content types are kept where the server
        copies by itself.
        """
        destination = path if to is None else to
        key, goal = self._top(path), target._top(destination)
        refuse_overlap(self._objects, key, target._objects, goal)
        copy = Copy(self._objects, target._objects, notice)
        found = self._found(path, target, destination)
        if skip_same:
            summary = await copy.missing(found, target._listed(goal))
        else:
            summary = await copy.all(found)
        if path and not summary.files and not summary.files_already_there:
            raise NotFound(f"there is no file or folder {printable(path, 200)} in {self.location}")
        return summary

    async def delete(self, path: str) -> int:
        """Delete the file at `path` and all files below it; return how many there were.

        No others, however they begin; none is no error. One request to look for the file and
        two per 1,000 files below it. Raises NotAllDeleted, with the reason for each file, when
        all was tried.
        """
        self._key(path)
        return await delete_all(self._objects, self._keys(path))

    async def erase(self, *, confirm: bool = False) -> int:
        """Delete all files of the volume, and return how many there were.

        A volume that is a whole bucket, or memory, or disk, needs `confirm=True`: ConfigError.
        """
        if not confirm and self._is_whole_place():
            raise ConfigError(
                f"the volume is all of {self.location}: everything there would be deleted",
                remedy="Give confirm=True if that is meant to be, or open a folder of it",
            )
        return await delete_all(self._objects, self._keys(""))

    def _key(self, path: str) -> str:
        return join(self._folder, self._check(path))

    def _top(self, path: str) -> str:
        return self._key(path) if path else self._folder

    def _is_whole_place(self) -> bool:
        _, _, place = self.location.partition("://")
        return not place.partition("/")[2]

    async def _infos(self, path: str) -> AsyncGenerator[ObjectInfo, None]:
        """Yield the objects at and below `path`, those that mark folders as well."""
        async for info in self._listed(self._top(path), looks_at_top=bool(path)):
            yield info

    async def _listed(
        self, top: str, *, looks_at_top: bool = True
    ) -> AsyncGenerator[ObjectInfo, None]:
        if top and looks_at_top:
            async for info in present_file(self._objects, top):
                yield info
        async for info in self._objects.list(f"{top}/" if top else ""):
            yield info

    async def _keys(self, path: str) -> AsyncGenerator[str, None]:
        async for info in self._infos(path):
            yield info.key

    async def _found(
        self, path: str, target: "Volume", destination: str
    ) -> AsyncGenerator[Found, None]:
        top = self._top(path)
        async for info in self._infos(path):
            if not _marks_folder(info):
                there = join(destination, below(top, info.key))
                yield Found(info, target._key(there), there)


def _marks_folder(info: ObjectInfo) -> bool:
    return info.key.endswith("/") and info.size_bytes == 0

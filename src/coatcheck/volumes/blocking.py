"""Volumes without await. Each method says nothing of its own: see Volume and VolumeFile."""

from collections.abc import Callable, Generator, Iterator

from coatcheck.objects.sources import Source
from coatcheck.runtime.blocking import BLOCKING, iterate
from coatcheck.types import NO_ATTRIBUTES, Attributes, ByteRange, ObjectInfo
from coatcheck.volumes.copying import CopiedFile, CopySummary
from coatcheck.volumes.file import DEFAULT_READ_BYTES, VolumeFile
from coatcheck.volumes.volume import Volume


class BlockingVolumeFile:
    """`coatcheck.VolumeFile`, one call at a time on the calling thread."""

    def __init__(self, file: VolumeFile) -> None:
        self._file = file

    @property
    def path(self) -> str:
        """See `coatcheck.VolumeFile.path`."""
        return self._file.path

    def info(self) -> ObjectInfo:
        """See `coatcheck.VolumeFile.info`."""
        return BLOCKING.run(self._file.info())

    def size(self) -> int:
        """See `coatcheck.VolumeFile.size`."""
        return BLOCKING.run(self._file.size())

    def read(
        self, span: ByteRange | None = None, *, limit_bytes: int = DEFAULT_READ_BYTES
    ) -> bytes:
        """See `coatcheck.VolumeFile.read`."""
        return BLOCKING.run(self._file.read(span, limit_bytes=limit_bytes))

    def stream(self) -> Generator[bytes, None, None]:
        """See `coatcheck.VolumeFile.stream`. Nothing goes on between two calls: up to four parts
        are fetched side by side when the first of them is asked for."""
        yield from iterate(self._file.stream())


class BlockingVolume:
    """`coatcheck.Volume`, one call at a time on the calling thread."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    @property
    def location(self) -> str:
        """See `coatcheck.Volume.location`."""
        return self._volume.location

    def folder(self, path: str) -> "BlockingVolume":
        """See `coatcheck.Volume.folder`."""
        return BlockingVolume(self._volume.folder(path))

    def store(
        self, path: str, source: Source, *, attributes: Attributes = NO_ATTRIBUTES
    ) -> ObjectInfo:
        """See `coatcheck.Volume.store`."""
        return BLOCKING.run(self._volume.store(path, source, attributes=attributes))

    def load(self, path: str) -> BlockingVolumeFile:
        """See `coatcheck.Volume.load`."""
        return BlockingVolumeFile(self._volume.load(path))

    def walk(self, path: str = "") -> Iterator[tuple[str, BlockingVolumeFile]]:
        """See `coatcheck.Volume.walk`."""
        for found, file in iterate(self._volume.walk(path)):
            yield found, BlockingVolumeFile(file)

    def copy_to(
        self,
        target: "BlockingVolume",
        path: str = "",
        *,
        to: str | None = None,
        skip_same: bool = False,
        notice: Callable[[CopiedFile], None] | None = None,
    ) -> CopySummary:
        """See `coatcheck.Volume.copy_to`."""
        return BLOCKING.run(
            self._volume.copy_to(target._volume, path, to=to, skip_same=skip_same, notice=notice)
        )

    def delete(self, path: str) -> int:
        """See `coatcheck.Volume.delete`."""
        return BLOCKING.run(self._volume.delete(path))

    def erase(self, *, confirm: bool = False) -> int:
        """See `coatcheck.Volume.erase`."""
        return BLOCKING.run(self._volume.erase(confirm=confirm))

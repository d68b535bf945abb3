"""Local folders that files of a volume are copied to: plain files, as other programs make them."""

import os
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from coatcheck.errors import CoatcheckError, NotFound, printable
from coatcheck.objects.local import LocalObjects
from coatcheck.runtime.mutex import Mutex
from coatcheck.volumes.copying import CopiedFile, CopySummary
from coatcheck.volumes.file import VolumeFile
from coatcheck.volumes.parts import PART_BYTES
from coatcheck.volumes.paths import below, check_path
from coatcheck.volumes.sameness import have_same_bytes
from coatcheck.volumes.volume import Volume
from coatcheck.volumes.workers import for_each


class Folder:
    """The folder, or the file, at `root`: what a copy makes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def receive(
        self,
        volume: Volume,
        path: str,
        *,
        skip_same: bool,
        notice: Callable[[CopiedFile], None] | None,
    ) -> CopySummary:
        """Copy the file or the folder at `path` here, as `Volume.copy_to` does.

        Each file is written beside its place and put there in one step. A path that could lead
        out of the folder is refused: the names in a bucket are a stranger's.
        """
        done: list[CopiedFile] = []
        large = Mutex(volume.runtime)

        async def copy(found: tuple[str, VolumeFile]) -> None:
            relative, file = below(path, found[0]), found[1]
            target = self._root / check_path(relative) if relative else self._root
            size_bytes = await file.size()
            was_there = skip_same and await _is_same(file, target, volume)
            if not was_there and size_bytes > PART_BYTES:
                async with large:
                    await _write(file, target)
            elif not was_there:
                await _write(file, target)
            done.append(CopiedFile(relative or target.name, size_bytes, was_there))
            if notice is not None:
                notice(done[-1])

        await for_each(_found(volume, path), copy, volume.runtime)
        if path and not done:
            raise NotFound(f"there is no file or folder {printable(path, 200)} in the source")
        copied = [file for file in done if not file.was_there]
        return CopySummary(
            len(copied), sum(file.size_bytes for file in copied), len(done) - len(copied)
        )


async def _found(volume: Volume, path: str) -> AsyncGenerator[tuple[str, VolumeFile], None]:
    async for found in volume.walk(path):
        yield found


async def _is_same(file: VolumeFile, target: Path, volume: Volume) -> bool:
    here = Volume(LocalObjects(target.parent, volume.runtime)).load(target.name)
    try:
        return await have_same_bytes(file, here, volume.runtime)
    except NotFound:
        return False


async def _write(file: VolumeFile, target: Path) -> None:
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as out:  # noqa: ASYNC230 - commands have no event loop
                async with aclosing(file.stream()) as parts:
                    async for part in parts:
                        out.write(part)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, CoatcheckError):
            raise
        raise CoatcheckError(
            f"{printable(str(target), 200)!r} was not written: {error.strerror}",
            remedy="Check permissions and free space, then try again with --skip-same",
        ) from error

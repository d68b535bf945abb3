"""Sweeping: removing what has expired, and never what was written anew meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from coatcheck.errors import ConfigError, Conflict, NotFound
from coatcheck.objects.port import ConditionalDeletes, ObjectStore
from coatcheck.results import scratch
from coatcheck.types import IfMatch, ObjectInfo

MAX_CLOCK_DIFFERENCE_SECONDS = 300.0
DELETES_SIDE_BY_SIDE = 32
BATCH_OBJECTS = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """How far a sweep has come: objects looked at and removed, and the last key looked at.

    `spared` were expired when they were listed, but written anew before they could be removed.
    """

    examined: int = 0
    deleted: int = 0
    spared: int = 0
    last_key: str = ""


async def sweep(
    objects: ObjectStore,
    prefix: str,
    *,
    older_than_seconds: float,
    after: str = "",
    progress: Callable[[Swept], None] | None = None,
) -> Swept:
    """Remove the objects under `prefix` that were last written longer ago, in order of their keys.

    Age is told by the store's clock. Whoever is interrupted goes on with `after`, the `last_key`
    of the last progress; starting anew is as right. `progress` is called after each batch of
    BATCH_OBJECTS. Two sweeps at once do no harm.

    Three requests to learn the time, one per 1,000 objects listed, two per object removed: a HEAD
    that sees whether it is still the one that was listed, and a DELETE on that condition. AWS
    keeps the condition; on a server that does not, what is written anew in the moment between the
    two requests is lost.

    Raises ConfigError, before anything is removed, if this machine's clock and the store's differ
    by more than MAX_CLOCK_DIFFERENCE_SECONDS: one of them is wrong, perhaps the one that counts.
    """
    now = await scratch.server_time(objects, prefix or "results")
    _check_clocks(now, objects.runtime.wall_clock())
    cutoff = now - older_than_seconds
    swept = Swept(last_key=after)
    batch: list[ObjectInfo] = []
    async for info in objects.list(prefix, after=after):
        batch.append(info)
        if len(batch) == BATCH_OBJECTS:
            swept = await _sweep_batch(objects, batch, swept, cutoff, progress)
            batch = []
    if batch:
        swept = await _sweep_batch(objects, batch, swept, cutoff, progress)
    return swept


async def _sweep_batch(
    objects: ObjectStore,
    batch: list[ObjectInfo],
    swept: Swept,
    cutoff: float,
    progress: Callable[[Swept], None] | None,
) -> Swept:
    expired = [info.key for info in batch if _written_before(info, cutoff)]
    jobs = [partial(_delete, objects, key, cutoff) for key in expired]
    removed = await objects.runtime.gather(jobs, limit=DELETES_SIDE_BY_SIDE)
    swept = replace(
        swept,
        examined=swept.examined + len(batch),
        deleted=swept.deleted + sum(removed),
        spared=swept.spared + len(removed) - sum(removed),
        last_key=batch[-1].key,
    )
    if progress is not None:
        progress(swept)
    return swept


async def _delete(objects: ObjectStore, key: str, cutoff: float) -> bool:
    """Remove the object unless it was written since `cutoff`; say whether it is gone."""
    try:
        found = await objects.head(key)
        # The ETag alone would not do: S3's is made of the content, and the same may come again.
        if not _written_before(found, cutoff):
            return False
        if found.etag is not None and isinstance(objects, ConditionalDeletes):
            await objects.delete_if(key, IfMatch(found.etag))
        else:
            await objects.delete(key)
    except NotFound as error:
        if error.code == "bucket_not_found":
            raise
    except Conflict:
        return False
    return True


def _written_before(info: ObjectInfo, cutoff: float) -> bool:
    return info.last_modified is not None and info.last_modified.timestamp() < cutoff


def _check_clocks(server: float, local: float) -> None:
    difference = abs(server - local)
    if difference > MAX_CLOCK_DIFFERENCE_SECONDS:
        raise ConfigError(
            f"this machine's clock and the store's differ by {difference:,.0f} s; nothing was"
            " removed",
            remedy="Set the clock that is wrong",
        )

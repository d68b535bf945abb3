"""Removing what killed uploads have left."""

from functools import partial

from coatcheck.errors import ConfigError, Unsupported
from coatcheck.objects.port import DraftStore, Leftover, ObjectStore
from coatcheck.payloads.uploading import STAGING_PREFIX

DEFAULT_AGE_SECONDS = 86_400.0
LEAST_AGE_SECONDS = 3600.0
REMOVALS_SIDE_BY_SIDE = 32
BATCH = 1000


async def sweep_leftovers(
    objects: ObjectStore,
    *,
    older_than_seconds: float = DEFAULT_AGE_SECONDS,
    prefix: str = STAGING_PREFIX,
) -> list[Leftover]:
    """Remove drafts under `prefix`, and open uploads anywhere in the store, that are old. Return
    what was removed.

    Those of uploads under way are among them until they are done, so give more time than any
    upload takes: a day by default, an hour at least. Age is by this machine's clock. One request
    per 1,000 looked at, one for each removed. Raises ConfigError, and Unsupported where the store
    takes no drafts.
    """
    if older_than_seconds < LEAST_AGE_SECONDS:
        raise ConfigError(
            f"older_than_seconds is {older_than_seconds}",
            remedy=f"Give {LEAST_AGE_SECONDS:.0f} or more: an upload may still be under way",
        )
    if not isinstance(objects, DraftStore):
        raise Unsupported("the store takes no drafts, so there is nothing to sweep")
    cutoff = objects.runtime.wall_clock() - older_than_seconds
    removed: list[Leftover] = []
    old: list[Leftover] = []
    async for leftover in objects.leftovers(prefix):
        if leftover.begun is not None and leftover.begun.timestamp() < cutoff:
            old.append(leftover)
        if len(old) == BATCH:
            removed += await _remove(objects, old)
            old.clear()
    return removed + await _remove(objects, old)


async def _remove(objects: ObjectStore, old: list[Leftover]) -> list[Leftover]:
    assert isinstance(objects, DraftStore)
    jobs = [partial(objects.remove_leftover, leftover) for leftover in old]
    await objects.runtime.gather(jobs, limit=REMOVALS_SIDE_BY_SIDE)
    return list(old)

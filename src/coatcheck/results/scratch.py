"""What a server does, and the caller may do, found out by trying."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from coatcheck.errors import CoatcheckError, Conflict, Forbidden, NotFound, Unsupported
from coatcheck.objects.port import ObjectStore
from coatcheck.types import Condition, IfAbsent, IfMatch

CONCLUSION_SECONDS = 300.0
"""How long "these credentials can read here" is believed: permissions may be taken away."""

_PROBE_BODY = b"Written by coatcheck to see what this server can do. It may be removed.\n"
_NO_SUCH_ETAG = '"00000000000000000000000000000000"'

_conditional: WeakKeyDictionary[ObjectStore, bool] = WeakKeyDictionary()
"""By the opened store. A forked child inherits what its parent has found out."""


async def compares(objects: ObjectStore, near: str) -> bool:
    """Whether the server keeps both conditions on writes, IfAbsent and IfMatch.

    Four requests with a scratch object beside the key `near`, once for each opened store; later
    none. Two callers who ask at the same time may both try.
    """
    known = _conditional.get(objects)
    if known is None:
        known = _conditional[objects] = await _try_conditions(objects, near)
    return known


async def can_read(objects: ObjectStore, near: str) -> bool:
    """Whether the credentials may read what is written beside the key `near`. Three requests."""
    async with _scratch(objects, near) as key:
        try:
            await objects.get(key, limit_bytes=len(_PROBE_BODY))
        except Forbidden:
            return False
        return True


async def server_time(objects: ObjectStore, near: str) -> float:
    """Return the store's own time, in seconds since 1970, to the second. Three requests.

    Raises Unsupported if the store does not tell when an object was written.
    """
    async with _scratch(objects, near) as key:
        info = await objects.head(key)
    if info.last_modified is None:
        raise Unsupported(
            "the store does not tell when its objects were written",
            remedy="Let a rule of the bucket remove what has expired: coatcheck lifecycle",
        )
    return info.last_modified.timestamp()


async def _try_conditions(objects: ObjectStore, near: str) -> bool:
    async with _scratch(objects, near) as key:
        return await _refuses(objects, key, IfAbsent()) and await _refuses(
            objects, key, IfMatch(_NO_SUCH_ETAG)
        )


async def _refuses(objects: ObjectStore, key: str, condition: Condition) -> bool:
    try:
        await objects.put(key, _PROBE_BODY, condition=condition)
    except (Conflict, NotFound):
        return True
    except Unsupported:
        return False
    return False


@asynccontextmanager
async def _scratch(objects: ObjectStore, near: str) -> AsyncIterator[str]:
    """Make an object that nobody else knows, and remove it.

    It lies beside the caller's own key because permissions are often given by prefix.
    """
    key = f"{near}.coatcheck-{int(objects.runtime.random() * 2**53):014x}"
    await objects.put(key, _PROBE_BODY)
    try:
        yield key
    finally:
        await _remove(objects, key)


async def _remove(objects: ObjectStore, key: str) -> None:
    try:
        await objects.delete(key)
    except CoatcheckError:
        # A role that may not delete leaves a small object, which expires like its neighbours:
        # no reason to fail what the caller was about to do.
        return

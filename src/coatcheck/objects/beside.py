"""Copies that the server makes by itself, because both objects are within its reach."""

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from coatcheck.objects.port import ObjectStore
from coatcheck.types import ObjectInfo

CopyBeside = Callable[[ObjectInfo, str], Awaitable[ObjectInfo]]
"""Copies the source's object of this description to a key of the target."""


@runtime_checkable
class CopiesBeside(Protocol):
    """A store whose server can copy from some other stores."""

    def is_beside(self, other: ObjectStore) -> bool:
        """Whether `copy_beside` works from `other`. No I/O."""
        ...

    async def copy_beside(self, other: ObjectStore, source: ObjectInfo, key: str) -> ObjectInfo:
        """Store under `key` the object `source` of `other`, of any size, as the server has it.

        Raises NotFound, and Conflict if a large source was replaced meanwhile.
        """
        ...


def copier(source: ObjectStore, target: ObjectStore) -> CopyBeside | None:
    """Return how the server of `target` copies from `source` by itself; None if it cannot."""
    if isinstance(target, CopiesBeside):
        neighbour = target
        if not neighbour.is_beside(source):
            return None
        return lambda info, key: neighbour.copy_beside(source, info, key)
    if source is target or (type(source) is type(target) and source.location == target.location):
        return lambda info, key: target.copy(info.key, key)
    return None

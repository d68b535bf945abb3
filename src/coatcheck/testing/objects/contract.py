"""What the contract's checks are made of: witnesses, capabilities, words to assert with."""

import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from coatcheck.errors import CoatcheckError
from coatcheck.objects.port import ObjectStore
from coatcheck.runtime.port import Job, T
from coatcheck.types import ObjectInfo

MIB = 1024 * 1024
AMPLE = 2 * MIB
"""A limit for reads, in bytes, that no object here comes near."""

SIDE_BY_SIDE = 16

E = TypeVar("E", bound=CoatcheckError)


class Witness(Protocol):
    """Reads and writes objects by other means than the store under test."""

    def read(self, key: str) -> bytes | None:
        """Return the object's bytes; None if there is none."""
        ...

    def write(self, key: str, body: bytes) -> None:
        """Store an object."""
        ...

    def all_keys(self) -> set[str]:
        """Return the keys of all objects."""
        ...


class Capability(Enum):
    """What a store may lack without breaking the contract, because its server does."""

    CONDITIONAL_WRITES = "refuses a write whose condition does not hold"
    CONDITIONAL_READS = "refuses a read whose ETag is not the object's"
    DIGESTS = "refuses a body that does not match its digest"
    ATOMIC_WRITES = "shows readers the old object or the new one, never a mixture"
    NESTED_KEYS = "holds objects under a and a/b at the same time"
    FREE_KEYS = "takes keys with empty segments, dots as segments and slashes at the ends"
    CONTROL_CHARACTERS = "takes keys with control characters"
    LONGEST_KEYS = "takes keys of 1,024 bytes, which a store below a prefix does not"
    THOUSANDS = "deals with a thousand objects in a few seconds"


Run = Callable[[ObjectStore, Witness], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the contract; `needs` says which stores it applies to.

    Call it with an empty store for the coroutine that raises AssertionError, or nothing.
    """

    run: Run
    needs: frozenset[Capability]

    def __call__(self, store: ObjectStore, witness: Witness) -> Coroutine[Any, Any, None]:
        """Begin the check."""
        return self.run(store, witness)

    def __str__(self) -> str:
        return self.run.__name__


class Suite:
    """Checks in the order in which they were added."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def __call__(self, *needs: Capability) -> Callable[[Run], Run]:
        """Add a coroutine function, for stores that have the capabilities it needs."""

        def add(run: Run) -> Run:
            self.checks.append(Check(run, frozenset(needs)))
            return run

        return add


async def raised(kind: type[E], action: Awaitable[object]) -> E:
    """Return the error of this kind that `action` raises, fit to be shown and sent on."""
    caught: E | None = None
    try:
        await action
    except kind as error:
        caught = error
    assert caught is not None, f"{kind.__name__} was due, nothing was raised"
    again = pickle.loads(pickle.dumps(caught))
    assert type(again) is type(caught), "the error is another after pickling"
    assert str(again) == str(caught), "the error says something else after pickling"
    assert caught.remedy, f"the error does not say what to do: {caught}"
    return caught


async def refused(kind: type[E], key: str, action: Awaitable[object]) -> None:
    """Let `action` fail with this kind of error, which names the key."""
    error = await raised(kind, action)
    assert key in str(error), f"the error does not name {key}: {error}"


async def holds(store: ObjectStore, witness: Witness, objects: dict[str, bytes]) -> None:
    """Let the store and the witness agree that there are these objects and no others."""
    assert {key: witness.read(key) for key in witness.all_keys()} == objects
    assert await keys_of(store.list()) == sorted(objects)
    for key, body in objects.items():
        assert (await store.get(key, limit_bytes=AMPLE)).body == body
        assert (await store.head(key)).size_bytes == len(body)


async def keys_of(listing: AsyncIterator[ObjectInfo]) -> list[str]:
    """Return the keys of a listing."""
    return [info.key async for info in listing]


async def side_by_side(store: ObjectStore, jobs: Iterable[Job[T]]) -> list[T]:
    """Run `jobs` on the store's runtime, sixteen at a time."""
    return await store.runtime.gather(jobs, limit=SIDE_BY_SIDE)

"""The result store and its latch without await. Each method says nothing of its own: see
ResultStore and Latch."""

from collections.abc import Callable, Iterable, Sequence

from coatcheck.results.latch import Arrival, Latch
from coatcheck.results.store import Decide, Result, ResultStore
from coatcheck.results.sweep import Swept
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.types import Condition, DeleteFailure


class BlockingResultStore:
    """`coatcheck.ResultStore`, one call at a time on the calling thread."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store

    @property
    def location(self) -> str:
        """See `coatcheck.ResultStore.location`."""
        return self._store.location

    @property
    def expires_in_seconds(self) -> float | None:
        """See `coatcheck.ResultStore.expires_in_seconds`."""
        return self._store.expires_in_seconds

    def get(self, key: str) -> Result | None:
        """See `coatcheck.ResultStore.get`."""
        return BLOCKING.run(self._store.get(key))

    def get_many(self, keys: Iterable[str]) -> list[Result | None]:
        """See `coatcheck.ResultStore.get_many`."""
        return BLOCKING.run(self._store.get_many(keys))

    def put(self, key: str, body: bytes) -> None:
        """See `coatcheck.ResultStore.put`."""
        BLOCKING.run(self._store.put(key, body))

    def update(self, key: str, decide: Decide, *, guess: Condition | None = None) -> str | None:
        """See `coatcheck.ResultStore.update`."""
        return BLOCKING.run(self._store.update(key, decide, guess=guess))

    def delete(self, key: str) -> None:
        """See `coatcheck.ResultStore.delete`."""
        BLOCKING.run(self._store.delete(key))

    def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """See `coatcheck.ResultStore.delete_many`."""
        return BLOCKING.run(self._store.delete_many(keys))

    def delete_expired(
        self,
        prefix: str = "",
        *,
        after: str = "",
        progress: Callable[[Swept], None] | None = None,
    ) -> Swept:
        """See `coatcheck.ResultStore.delete_expired`."""
        return BLOCKING.run(self._store.delete_expired(prefix, after=after, progress=progress))

    def latch(self, prefix: str, size: int) -> "BlockingLatch":
        """See `coatcheck.ResultStore.latch`."""
        return BlockingLatch(self._store.latch(prefix, size))


class BlockingLatch:
    """`coatcheck.results.latch.Latch`, one call at a time on the calling thread."""

    def __init__(self, latch: Latch) -> None:
        self._latch = latch

    def arrive(self, part: int) -> Arrival:
        """See `Latch.arrive`."""
        return BLOCKING.run(self._latch.arrive(part))

    def close(self, part: int) -> None:
        """See `Latch.close`."""
        BLOCKING.run(self._latch.close(part))

"""The payload store without await. Each method says nothing of its own: see PayloadStore."""

from collections.abc import Generator, Iterable, Iterator

from coatcheck.objects.sources import Source
from coatcheck.payloads.blocking_reader import BlockingPayloadReader
from coatcheck.payloads.claim import Claim
from coatcheck.payloads.store import PayloadStore, StoredPayload
from coatcheck.runtime.blocking import BLOCKING, iterate
from coatcheck.types import Buffer, ObjectInfo


class BlockingPayloadStore:
    """`coatcheck.PayloadStore`, one call at a time on the calling thread."""

    def __init__(self, store: PayloadStore) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """See `coatcheck.PayloadStore.name`."""
        return self._store.name

    @property
    def location(self) -> str:
        """See `coatcheck.PayloadStore.location`."""
        return self._store.location

    def put(self, data: Buffer) -> Claim:
        """See `coatcheck.PayloadStore.put`."""
        return BLOCKING.run(self._store.put(data))

    def get(self, claim: Claim | str) -> bytes:
        """See `coatcheck.PayloadStore.get`."""
        return BLOCKING.run(self._store.get(claim))

    def put_stream(self, source: Source, *, size_bytes: int | None = None) -> Claim:
        """See `coatcheck.PayloadStore.put_stream`. Without an event loop, only async iterables
        that wait for nothing but this store can be a source."""
        return BLOCKING.run(self._store.put_stream(source, size_bytes=size_bytes))

    def stream(self, claim: Claim | str) -> Generator[bytes, None, None]:
        """See `coatcheck.PayloadStore.stream`. Nothing goes on between two calls: up to four
        parts are fetched side by side when the first of them is asked for."""
        yield from iterate(self._store.stream(claim))

    def open(self, claim: Claim | str) -> BlockingPayloadReader:
        """See `coatcheck.PayloadStore.open`. The payload is open when this returns; it is a file
        object like any other, to be closed or used in a `with` block."""
        return BlockingPayloadReader.opened(self._store.open(claim))

    def put_many(self, payloads: Iterable[Buffer]) -> list[Claim]:
        """See `coatcheck.PayloadStore.put_many`."""
        return BLOCKING.run(self._store.put_many(payloads))

    def get_many(self, claims: Iterable[Claim | str]) -> list[bytes]:
        """See `coatcheck.PayloadStore.get_many`."""
        return BLOCKING.run(self._store.get_many(claims))

    def exists(self, claim: Claim | str) -> bool:
        """See `coatcheck.PayloadStore.exists`."""
        return BLOCKING.run(self._store.exists(claim))

    def stat(self, claim: Claim | str) -> ObjectInfo:
        """See `coatcheck.PayloadStore.stat`."""
        return BLOCKING.run(self._store.stat(claim))

    def delete(self, claim: Claim | str) -> None:
        """See `coatcheck.PayloadStore.delete`."""
        BLOCKING.run(self._store.delete(claim))

    def list(self) -> Iterator[StoredPayload]:
        """See `coatcheck.PayloadStore.list`."""
        return iterate(self._store.list())

"""The result store: small records under keys of the caller's choice, which expire by their age."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from coatcheck.errors import Conflict, Forbidden, NotFound, Unavailable
from coatcheck.objects.port import ObjectStore
from coatcheck.results import scratch
from coatcheck.results.latch import Latch
from coatcheck.results.sweep import Swept, sweep
from coatcheck.runtime.port import Runtime
from coatcheck.settings import check_positive
from coatcheck.types import Condition, DeleteFailure, IfAbsent, IfMatch

DEFAULT_MAX_RESULT_BYTES = 1024**3
RESULTS_SIDE_BY_SIDE = 64
MAX_ROUNDS = 32
"""How often an update may lose against other writers before it gives up."""

Decide = Callable[[bytes | None], bytes | None]
"""Given the record that is there, or None, return what to put in its place, or None: leave it."""


@dataclass(frozen=True, slots=True)
class Result:
    """A record: its bytes, its version, its age by the store's clock where that tells."""

    body: bytes
    etag: str | None
    age_seconds: float | None


class ResultStore:
    """Records that live for a time, in an object store.

    expires_in_seconds: how long after it was last written a record can be read; None: for ever.
        Age is told by the store's clock alone, so no two machines need agree on the time.
    max_result_bytes: the largest record that is read; 1 GiB by default.

    Share a store freely between tasks and event loops, and across a fork. Making one does no I/O.
    """

    def __init__(
        self,
        objects: ObjectStore,
        *,
        expires_in_seconds: float | None = None,
        max_result_bytes: int = DEFAULT_MAX_RESULT_BYTES,
    ) -> None:
        if expires_in_seconds is not None:
            check_positive("expires_in_seconds", expires_in_seconds)
        check_positive("max_result_bytes", max_result_bytes)
        self._objects = objects
        self._expires_in_seconds = expires_in_seconds
        self._max_result_bytes = max_result_bytes
        self._readable_until = 0.0

    @property
    def location(self) -> str:
        """Where the records are, as a URL without secrets."""
        return self._objects.location

    @property
    def runtime(self) -> Runtime:
        """What the store waits on."""
        return self._objects.runtime

    @property
    def expires_in_seconds(self) -> float | None:
        """How long a record can be read; None: for ever."""
        return self._expires_in_seconds

    async def get(self, key: str) -> Result | None:
        """Return the record, or None if there is none or its time is over. One request.

        S3 says 403 for a missing key to whoever may not list the bucket. Three more requests then
        find out whether these credentials can read here at all; if they can, 403 means missing
        from then on, for `scratch.CONCLUSION_SECONDS`. Raises Forbidden, TooLarge.
        """
        result = await self._fetch(key)
        return None if result is None or self._is_expired(result) else result

    async def get_many(self, keys: Iterable[str]) -> list[Result | None]:
        """Return the records in the order of their keys, fetched side by side: one request each.

        The first failure ends the rest.
        """
        jobs = [partial(self.get, key) for key in keys]
        return await self.runtime.gather(jobs, limit=RESULTS_SIDE_BY_SIDE)

    async def put(self, key: str, body: bytes) -> None:
        """Store the record, whatever was there; its life begins anew. One request."""
        await self._objects.put(key, body)

    async def update(
        self, key: str, decide: Decide, *, guess: Condition | None = None
    ) -> str | None:
        """Replace the record by what `decide` makes of it, as one step against other writers.

        `decide` is called anew with what another wrote first, so it must have no effects of its
        own. An expired record counts as none. Returns the ETag of what was written; None if
        `decide` returned None, or if the server gives no ETags.

        Two requests: read, then write on the condition that nothing changed. With a `guess` at
        what is there (IfAbsent, or IfMatch of a record that was seen), one if the guess is right:
        `decide` is then given None. Each time another writer comes first costs two more; after
        MAX_ROUNDS of them, Unavailable. A server that does not keep conditions (found out at the
        first update, in four requests) gets a plain write after the read: writers that come between
        the two may overwrite each other.
        """
        compares = await scratch.compares(self._objects, key)
        if compares and guess is not None:
            body = decide(None)
            if body is None:
                return None
            try:
                return (await self._objects.put(key, body, condition=guess)).etag
            except (Conflict, NotFound) as error:
                _go_on(error)
        for _ in range(MAX_ROUNDS):
            condition, present = await self._look(key)
            body = decide(present)
            if body is None:
                return None
            try:
                info = await self._objects.put(key, body, condition=condition if compares else None)
            except (Conflict, NotFound) as error:
                _go_on(error)
            else:
                return info.etag
        raise Unavailable(
            f"other writers were first {MAX_ROUNDS} times in a row",
            remedy="Let fewer writers update the same record",
        )

    async def delete(self, key: str) -> None:
        """Remove the record; no error if there is none. One request."""
        await self._objects.delete(key)

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Remove the records, and return those that could not be. One request per 1,000."""
        return await self._objects.delete_many(keys)

    async def delete_expired(
        self,
        prefix: str = "",
        *,
        after: str = "",
        progress: Callable[[Swept], None] | None = None,
    ) -> Swept:
        """Remove the records whose key starts with `prefix` and whose time is over.

        See `coatcheck.results.sweep.sweep`, which does it. Where nothing expires, no request.
        """
        if self._expires_in_seconds is None:
            return Swept(last_key=after)
        return await sweep(
            self._objects,
            prefix,
            older_than_seconds=self._expires_in_seconds,
            after=after,
            progress=progress,
        )

    def latch(self, prefix: str, size: int) -> Latch:
        """Make the latch for `size` parts whose marks lie under `prefix`. No I/O."""
        return Latch(self._objects, prefix, size)

    async def _look(self, key: str) -> tuple[Condition, bytes | None]:
        """Return what to insist on when replacing the record, and the record if it is alive."""
        result = await self._fetch(key)
        if result is None:
            return IfAbsent(), None
        condition = IfMatch(result.etag) if result.etag is not None else IfAbsent()
        return condition, None if self._is_expired(result) else result.body

    async def _fetch(self, key: str) -> Result | None:
        try:
            fetched = await self._objects.get(key, limit_bytes=self._max_result_bytes)
        except NotFound as error:
            _go_on(error)
            return None
        except Forbidden as error:
            if await self._means_missing(error, key):
                return None
            raise
        return Result(fetched.body, fetched.etag, fetched.age_seconds)

    def _is_expired(self, result: Result) -> bool:
        age, limit = result.age_seconds, self._expires_in_seconds
        return age is not None and limit is not None and age > limit

    async def _means_missing(self, error: Forbidden, key: str) -> bool:
        # Bad keys and signatures have codes of their own, and never mean a missing object.
        if error.diagnostics.server_code not in (None, "AccessDenied"):
            return False
        if self.runtime.monotonic() < self._readable_until:
            return True
        try:
            readable = await scratch.can_read(self._objects, key)
        except Forbidden:
            error.remedy = (
                "Grant s3:GetObject on the results, and s3:ListBucket on the bucket: without it,"
                " S3 says the same for what is missing and for what is forbidden"
            )
            return False
        if readable:
            self._readable_until = self.runtime.monotonic() + scratch.CONCLUSION_SECONDS
        return readable


def _go_on(error: Conflict | NotFound) -> None:
    """Go on where an object is missing or was changed; not where the bucket itself is missing."""
    if error.code == "bucket_not_found":
        raise error

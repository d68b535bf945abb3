"""Bytes that are known by their digest, moved between memory and a key of an object store.

The one place that knows how a payload becomes requests: one conditional PUT, or parts side by
side; one GET, or ranges side by side; and that nothing is returned which was not verified.
"""

import logging
from enum import Enum
from functools import partial
from io import SEEK_END, BytesIO

from coatcheck.errors import (
    CoatcheckError,
    Conflict,
    Corrupt,
    Diagnostics,
    Forbidden,
    NotFound,
    TooLarge,
)
from coatcheck.objects.port import MultipartStore, ObjectStore, Upload
from coatcheck.payloads.flights import Flights
from coatcheck.runtime.budget import PROCESS_BUDGET, ByteBudget
from coatcheck.runtime.hashing import sha256_hex
from coatcheck.runtime.port import Runtime
from coatcheck.types import NO_ATTRIBUTES, Attributes, ByteRange, Digest, IfAbsent

MIB = 1024 * 1024
DEFAULT_PART_BYTES = 8 * MIB
MIN_PART_BYTES = 5 * MIB
PARTS_SIDE_BY_SIDE = 8
CLEAN_UP_SECONDS = 5.0
CREATE_TRIES = 3
FETCH_TRIES = 2
MAX_PARTS = 10_000

_IF_ABSENT = IfAbsent()
_log = logging.getLogger("coatcheck.payloads")


async def digest_of(data: bytes, runtime: Runtime) -> Digest:
    """Hash `data`, away from the event loop where it takes more than 3 ms."""
    return Digest(await sha256_hex(data, runtime))


class Transfer:
    """Stores and fetches bytes under keys of one object store.

    part_size_bytes: what goes in one request, both ways; 5 MiB at least, 8 MiB by default.
    Equal work that is under way in the same event loop is shared. Bytes in flight are taken
    from `budget`, by default the process's.
    """

    def __init__(
        self,
        objects: ObjectStore,
        *,
        part_size_bytes: int = DEFAULT_PART_BYTES,
        budget: ByteBudget = PROCESS_BUDGET,
    ) -> None:
        self._objects = objects
        self._multipart = objects if isinstance(objects, MultipartStore) else None
        self._runtime = objects.runtime
        self._part_size_bytes = part_size_bytes
        self._budget = budget
        self._stores: Flights[None] = Flights()
        self._fetches: Flights[bytes] = Flights()

    async def store(
        self, key: str, body: bytes, digest: Digest, *, attributes: Attributes = NO_ATTRIBUTES
    ) -> None:
        """Make sure that `body`, whose digest is `digest`, is stored under `key`.

        `key` must be made of the digest: what is there already is taken for the same bytes if it
        has the same size, and is replaced if it has not. `attributes` go with it if it is stored
        now. Up to one part: one conditional PUT,
        and one HEAD if the object was there. Beyond: one HEAD, then a multipart upload, which is
        aborted on every other way out than success.
        """
        await self._stores.share(
            key, lambda: self._store(key, body, digest, attributes), self._runtime
        )

    async def has(self, key: str, size_bytes: int) -> bool:
        """Whether there is an object of this size under `key`, as far as we may look. One HEAD."""
        return await self._look(key, size_bytes) is _Found.SAME_SIZE

    async def fetch(
        self, key: str, digest: Digest, *, limit_bytes: int, size_bytes: int | None = None
    ) -> bytes:
        """Return the bytes under `key`, which have this digest and, if known, this size.

        One GET up to one part, then one for each further part, side by side. Bytes that do not
        match are fetched once more, in case they were damaged on the way; so is an object that
        was replaced while it was read. Raises NotFound, TooLarge (over `limit_bytes`; known sizes
        before any request), Corrupt, and Conflict if it is being replaced all the time.
        """
        if size_bytes is not None and size_bytes > limit_bytes:
            raise _too_large(key, size_bytes, limit_bytes)
        return await self._fetches.share(
            f"{key}#{digest.hex}#{size_bytes}#{limit_bytes}",
            lambda: self._fetch(key, digest, size_bytes, limit_bytes),
            self._runtime,
        )

    async def fetch_unverified(self, key: str, *, limit_bytes: int) -> bytes:
        """Return the bytes under `key` as they are: of an object whose digest nobody knows.

        Requests and errors are those of `fetch`.
        """
        for _ in range(FETCH_TRIES - 1):
            try:
                return await self._download(key, None, limit_bytes)
            except Conflict as replaced:
                _log.warning("%s in %s: %s", key, self._objects.location, replaced.message)
        return await self._download(key, None, limit_bytes)

    async def _store(self, key: str, body: bytes, digest: Digest, attributes: Attributes) -> None:
        if self._multipart is None or len(body) <= self._part_size_bytes:
            await self._create(key, body, digest, attributes)
        elif await self._look(key, len(body)) is not _Found.SAME_SIZE:
            await self._store_parts(self._multipart, key, body, attributes)

    async def _create(self, key: str, body: bytes, digest: Digest, attributes: Attributes) -> None:
        taken = await self._budget.take(len(body), self._runtime)
        try:
            for _ in range(CREATE_TRIES):
                try:
                    await self._objects.put(
                        key, body, digest=digest, condition=_IF_ABSENT, attributes=attributes
                    )
                    return
                except Conflict as conflict:
                    refused = conflict
                found = await self._look(key, len(body))
                if found is _Found.OTHER_SIZE:
                    await self._objects.put(key, body, digest=digest, attributes=attributes)
                if found is not _Found.NOTHING:
                    return
            raise refused
        finally:
            self._budget.give_back(taken)

    async def _look(self, key: str, size_bytes: int) -> "_Found":
        try:
            info = await self._objects.head(key)
        except NotFound:
            return _Found.NOTHING
        except Forbidden:
            # A role that may write but not read has to take the server's word.
            return _Found.HIDDEN
        if info.size_bytes == size_bytes:
            return _Found.SAME_SIZE
        _log.warning(
            "%s in %s has %d bytes where its digest means %d: it is damaged",
            key,
            self._objects.location,
            info.size_bytes,
            size_bytes,
        )
        return _Found.OTHER_SIZE

    async def _store_parts(
        self, multipart: MultipartStore, key: str, body: bytes, attributes: Attributes
    ) -> None:
        runtime = self._runtime
        begun: list[Upload] = []

        async def begin() -> None:
            begun.append(await multipart.begin_upload(key, attributes=attributes))

        async def send(upload: Upload, number: int, start: int) -> None:
            taken = await self._budget.take(part_bytes, runtime)
            try:
                await upload.send_part(number, body[start : start + part_bytes])
            finally:
                self._budget.give_back(taken)

        part_bytes = part_size_for(len(body), self._part_size_bytes)
        try:
            # Cancelled now, the server may have begun an upload whose id nobody knows: wait for it.
            await runtime.finish(begin, seconds=CLEAN_UP_SECONDS)
            upload = begun[0]
            jobs = [
                partial(send, upload, number, start)
                for number, start in enumerate(range(0, len(body), part_bytes), 1)
            ]
            await runtime.gather(jobs, limit=PARTS_SIDE_BY_SIDE)
            await upload.complete()
        except BaseException:
            for upload in begun:
                await runtime.finish(partial(self._abort, key, upload), seconds=CLEAN_UP_SECONDS)
            raise

    async def _abort(self, key: str, upload: Upload) -> None:
        try:
            await upload.abort()
        except CoatcheckError as error:
            # The first failure is the one to report; the parts left are the sweeper's.
            _log.warning("a multipart upload of %s could not be aborted: %s", key, error)

    async def _fetch(
        self, key: str, digest: Digest, size_bytes: int | None, limit_bytes: int
    ) -> bytes:
        failure: Corrupt | Conflict
        for _ in range(FETCH_TRIES):
            try:
                body = await self._download(key, size_bytes, limit_bytes)
                if await digest_of(body, self._runtime) == digest:
                    return body
                del body
                failure = self._corrupt(key, "the object does not match its digest")
            except (Corrupt, Conflict) as error:
                # Cut or damaged on its way, or replaced while it was read part by part.
                failure = error
            _log.warning("%s in %s: %s", key, self._objects.location, failure.message)
        raise failure

    async def _download(self, key: str, size_bytes: int | None, limit_bytes: int) -> bytes:
        first_bytes = self._part_size_bytes if size_bytes is None else size_bytes
        first_bytes = min(first_bytes, self._part_size_bytes, limit_bytes)
        # An object of known size is fetched whole: a range of nothing cannot be asked for.
        whole = size_bytes is not None and size_bytes <= first_bytes
        span = None if whole else ByteRange(0, first_bytes)
        taken = await self._budget.take(first_bytes, self._runtime)
        try:
            first = await self._objects.get(key, span, limit_bytes=first_bytes)
        except TooLarge as error:
            if whole:
                raise self._corrupt(key, f"the object is longer than {size_bytes} bytes") from error
            raise
        finally:
            self._budget.give_back(taken)
        if size_bytes is not None and first.size_bytes != size_bytes:
            raise self._corrupt(
                key, f"the object has {first.size_bytes} bytes, the claim says {size_bytes}"
            )
        if first.size_bytes > limit_bytes:
            raise _too_large(key, first.size_bytes, limit_bytes)
        if first.size_bytes == len(first.body):
            return first.body
        assembled, total_bytes, etag = BytesIO(first.body), first.size_bytes, first.etag
        del first  # or its bytes would be held twice until the end
        await self._fetch_rest(key, assembled, total_bytes, etag)
        return assembled.getvalue()

    async def _fetch_rest(
        self, key: str, assembled: BytesIO, total_bytes: int, etag: str | None
    ) -> None:
        """Fetch the ranges after the first, each straight into its place in the result.

        BytesIO hands out its buffer as bytes without a copy, so the payload is held once.
        """
        part_bytes = self._part_size_bytes
        done_bytes = assembled.seek(0, SEEK_END)
        assembled.seek(total_bytes - 1)
        assembled.write(b"\0")

        async def fetch(start: int) -> None:
            end = min(start + part_bytes, total_bytes)
            taken = await self._budget.take(end - start, self._runtime)
            try:
                with view[start:end] as part:
                    await self._objects.get_into(key, start, part, if_match=etag)
            finally:
                self._budget.give_back(taken)

        with assembled.getbuffer() as view:
            jobs = [partial(fetch, start) for start in range(done_bytes, total_bytes, part_bytes)]
            await self._runtime.gather(jobs, limit=PARTS_SIDE_BY_SIDE)

    def _corrupt(self, key: str, message: str) -> Corrupt:
        return Corrupt(
            f"{message}; nothing was returned",
            remedy="Store the payload again, and find out who else writes to this place",
            diagnostics=Diagnostics(operation="fetch", bucket=self._objects.location, key=key),
        )


class _Found(Enum):
    """What a look at a key shows."""

    NOTHING = "no object"
    SAME_SIZE = "an object of the size looked for"
    OTHER_SIZE = "an object of another size"
    HIDDEN = "we may not look"


def part_size_for(size_bytes: int, part_size_bytes: int) -> int:
    """Return the part size for an object: the given one, or what 10,000 parts need, in MiB."""
    needed_bytes = -(-size_bytes // MAX_PARTS)
    return max(part_size_bytes, -(-needed_bytes // MIB) * MIB)


def _too_large(key: str, size_bytes: int, limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"the payload has {size_bytes} bytes, over the limit of {limit_bytes}",
        remedy="Raise max_payload_bytes if that is meant to be",
        diagnostics=Diagnostics(operation="fetch", key=key),
    )

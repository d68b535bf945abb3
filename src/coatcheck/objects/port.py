"""The object store: what every place for objects can do, and nothing that only some can.

Keys are relative to the store, "/"-separated, without a leading or trailing slash. Every method
raises the errors of `coatcheck.errors`; none returns before its effect is durable.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from coatcheck.runtime.port import Runtime
from coatcheck.types import (
    NO_ATTRIBUTES,
    Attributes,
    ByteRange,
    Condition,
    DeleteFailure,
    Digest,
    Fetched,
    IfMatch,
    ObjectInfo,
)


class ObjectStore(Protocol):
    """A place for objects under keys."""

    @property
    def location(self) -> str:
        """Where the objects are, as a URL without secrets, for messages."""
        ...

    @property
    def runtime(self) -> Runtime:
        """What the store waits on, and whoever builds on the store must wait on too."""
        ...

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        digest: Digest | None = None,
        condition: Condition | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> ObjectInfo:
        """Store `body` under `key`, in place of what was there.

        `digest`: the body's, if it is known; the server refuses a body that does not match. With
        a `condition` that does not hold, nothing is stored and Conflict is raised. One request.
        """
        ...

    async def get(
        self,
        key: str,
        span: ByteRange | None = None,
        *,
        limit_bytes: int,
        if_match: str | None = None,
    ) -> Fetched:
        """Return the object, or those bytes of `span` that it has.

        A span that starts at or beyond the end gives an empty body. Raises NotFound, TooLarge
        for more than `limit_bytes`, Conflict if the ETag is not `if_match`. One request.
        """
        ...

    async def get_into(
        self, key: str, start: int, buffer: memoryview, *, if_match: str | None = None
    ) -> None:
        """Fill `buffer` with the object's bytes from offset `start`. One request.

        Raises Corrupt if the object has fewer, and as `get` does.
        """
        ...

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known about the object. Raises NotFound. One request."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; it is no error if there is none. One request."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Remove the objects, and return those that could not be. One request per 1,000 keys."""
        ...

    def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose key starts with `prefix` and is greater than `after`.

        In order of the keys' UTF-8 bytes. Objects written or deleted meanwhile may be seen or
        not. One request per 1,000 objects.
        """
        ...

    async def copy(self, source_key: str, key: str) -> ObjectInfo:
        """Store under `key` what is under `source_key`, without moving it through this process.

        One request up to 5 GiB. Raises NotFound.
        """
        ...


@runtime_checkable
class ConditionalDeletes(Protocol):
    """A store that can ask its server to remove an object only as long as it is the one meant."""

    async def delete_if(self, key: str, condition: IfMatch) -> None:
        """Remove the object if `condition` holds. One request.

        Raises Conflict, and removes nothing, if it is another object by now; no error if there is
        none. A server that does not know the condition removes the object all the same.
        """
        ...


class Upload(Protocol):
    """An object that is written part by part; it appears when it is complete, or not at all."""

    async def send_part(self, number: int, body: bytes, *, digest: Digest | None = None) -> None:
        """Store part `number`, from 1; any order, side by side; sent again it replaces. One
        request. Parts other than the last have at least 5 MiB."""
        ...

    async def complete(self, *, condition: Condition | None = None) -> ObjectInfo:
        """Make the object of the parts, in order of their numbers. One request."""
        ...

    async def abort(self) -> None:
        """Forget the parts. No error if it was done before. One request."""
        ...


@runtime_checkable
class MultipartStore(Protocol):
    """A store that takes large objects part by part, because it bounds a single `put`."""

    async def begin_upload(self, key: str, *, attributes: Attributes = NO_ATTRIBUTES) -> Upload:
        """Begin an object. One request. Whoever begins completes or aborts."""
        ...


class Draft(Protocol):
    """An object that is written part by part before its key is known."""

    async def send_part(self, number: int, body: bytes, *, digest: Digest | None = None) -> None:
        """Store part `number`, from 1; any order, side by side; sent again it replaces.

        All parts but the last have the size that the draft was begun with. One request, and at
        most two more for each 5 GiB.
        """
        ...

    async def publish(self, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Make the object under `key` of the parts, at least one; the draft is still there.

        Two requests and more, none of which moves bytes through this process. With a `condition`
        that does not hold, nothing is stored and Conflict is raised.
        """
        ...

    async def discard(self) -> None:
        """Forget the parts, published or not. Any number of times. Two requests."""
        ...


@dataclass(frozen=True, slots=True)
class Leftover:
    """What an upload that was killed has left: not an object that anybody knows of.

    `kind`: "draft" for bytes that wait for their key, "upload" for an upload that was never
    completed. `token` is the store's own name for it.
    """

    kind: Literal["draft", "upload"]
    key: str
    token: str
    begun: datetime | None


@runtime_checkable
class DraftStore(Protocol):
    """A store that takes objects of any size before their key is known."""

    def begin_draft(
        self, key: str, *, part_bytes: int, attributes: Attributes = NO_ATTRIBUTES
    ) -> Draft:
        """Begin a draft, which takes up `key`, and keys that go on from it, until it is discarded.

        No request; whoever begins discards. `part_bytes`: the size of its parts, 5 MiB at least.
        """
        ...

    def leftovers(self, prefix: str) -> AsyncIterator[Leftover]:
        """Yield what killed uploads have left: drafts whose key starts with `prefix`, and open
        uploads anywhere. So are those of uploads under way: look at their age.

        One request per 1,000, for each of the two kinds.
        """
        ...

    async def remove_leftover(self, leftover: Leftover) -> None:
        """Remove it; no error if it is gone. One request."""
        ...

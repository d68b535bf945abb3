"""The contract of `put`: whole or not at all, and only under its condition."""

from functools import partial

from coatcheck.errors import Conflict, Corrupt
from coatcheck.objects.port import ObjectStore
from coatcheck.testing.objects.contract import (
    AMPLE,
    MIB,
    SIDE_BY_SIDE,
    Capability,
    Suite,
    Witness,
    holds,
    refused,
    side_by_side,
)
from coatcheck.types import Attributes, Condition, Digest, IfAbsent, IfMatch

check = Suite()


@check()
async def what_is_put_is_there(store: ObjectStore, witness: Witness) -> None:
    """An object of any size is stored whole, and its info is right."""
    for size_bytes in (0, 1, MIB + 1):
        key, body = f"sizes/{size_bytes}", bytes(range(256)) * (size_bytes // 256 + 1)
        info = await store.put(key, body[:size_bytes])
        assert (info.key, info.size_bytes) == (key, size_bytes)
        assert witness.read(key) == body[:size_bytes]
        fetched = await store.get(key, limit_bytes=size_bytes)
        assert (fetched.body, fetched.size_bytes) == (body[:size_bytes], size_bytes)


@check()
async def a_put_replaces(store: ObjectStore, witness: Witness) -> None:
    """The last body counts, also when it is shorter."""
    await store.put("key", b"the first body")
    await store.put("key", b"second")
    await holds(store, witness, {"key": b"second"})


@check()
async def a_right_digest_is_accepted(store: ObjectStore, witness: Witness) -> None:
    """A digest that matches changes nothing, on small bodies and large."""
    for body in (b"", b"body", b"\xff" * (MIB + 1)):
        await store.put("key", body, digest=Digest.of(body))
        assert witness.read("key") == body


@check(Capability.DIGESTS)
async def a_wrong_digest_is_refused(store: ObjectStore, witness: Witness) -> None:
    """A body that is not what it should be is not stored, and replaces nothing."""
    await store.put("old", b"old")
    for key in ("old", "new"):
        await refused(Corrupt, key, store.put(key, b"damaged", digest=Digest.of(b"whole")))
    await holds(store, witness, {"old": b"old"})


@check()
async def attributes_are_accepted(store: ObjectStore, witness: Witness) -> None:
    """Content type, encoding and tags do not change the bytes."""
    attributes = Attributes("application/json", "identity", {"team": "blue + green", "n": "1"})
    await store.put("key", b"{}", attributes=attributes)
    await holds(store, witness, {"key": b"{}"})


@check()
async def if_absent_creates(store: ObjectStore, witness: Witness) -> None:
    """What is not there is stored."""
    info = await store.put("a/new", b"body", condition=IfAbsent())
    assert (info.key, info.size_bytes) == ("a/new", 4)
    await holds(store, witness, {"a/new": b"body"})


@check(Capability.CONDITIONAL_WRITES)
async def if_absent_refuses_what_is_there(store: ObjectStore, witness: Witness) -> None:
    """What is there stays, whoever wrote it, and can be created again once it is deleted."""
    witness.write("key", b"first")
    await refused(Conflict, "key", store.put("key", b"second", condition=IfAbsent()))
    await holds(store, witness, {"key": b"first"})
    await store.delete("key")
    await store.put("key", b"third", condition=IfAbsent())
    await holds(store, witness, {"key": b"third"})


@check(Capability.CONDITIONAL_WRITES)
async def if_match_replaces_only_what_was_seen(store: ObjectStore, witness: Witness) -> None:
    """The ETag of a put, or of a head, lets one write pass; after it, it is stale."""
    etag = (await store.put("key", b"one")).etag or (await store.head("key")).etag
    assert etag is not None
    await store.put("key", b"two", condition=IfMatch(etag))
    await refused(Conflict, "key", store.put("key", b"three", condition=IfMatch(etag)))
    await holds(store, witness, {"key": b"two"})


@check(Capability.CONDITIONAL_WRITES)
async def if_match_refuses_where_nothing_is(store: ObjectStore, witness: Witness) -> None:
    """A deleted object is not brought back by a late write."""
    etag = (await store.put("key", b"one")).etag or (await store.head("key")).etag
    assert etag is not None
    await store.delete("key")
    await refused(Conflict, "key", store.put("key", b"two", condition=IfMatch(etag)))
    await holds(store, witness, {})


@check(Capability.CONDITIONAL_WRITES)
async def of_many_creators_one_wins(store: ObjectStore, witness: Witness) -> None:
    """IfAbsent is decided by the store, in one step."""
    await _one_wins(store, witness, IfAbsent())


@check(Capability.CONDITIONAL_WRITES)
async def of_many_changers_one_wins(store: ObjectStore, witness: Witness) -> None:
    """IfMatch is decided by the store, in one step."""
    witness.write("key", b"before")
    etag = (await store.head("key")).etag
    assert etag is not None
    await _one_wins(store, witness, IfMatch(etag))


async def _one_wins(store: ObjectStore, witness: Witness, condition: Condition) -> None:
    async def attempt(body: bytes) -> bytes | None:
        try:
            await store.put("key", body, condition=condition)
        except Conflict:
            return None
        return body

    bodies = [str(number).encode() * 1000 for number in range(SIDE_BY_SIDE)]
    outcomes = await side_by_side(store, [partial(attempt, body) for body in bodies])
    winners = [body for body in outcomes if body is not None]
    assert len(winners) == 1, f"{len(winners)} of {SIDE_BY_SIDE} writers were told that they won"
    await holds(store, witness, {"key": winners[0]})


@check(Capability.ATOMIC_WRITES)
async def readers_see_old_or_new(store: ObjectStore, witness: Witness) -> None:
    """While an object is replaced, a read gives one body or the other."""
    bodies = {bytes([number]) * (MIB // 2) for number in range(4)}
    witness.write("key", bytes(MIB // 2))

    async def read() -> bytes:
        return (await store.get("key", limit_bytes=AMPLE)).body

    async def write(body: bytes) -> bytes:
        await store.put("key", body)
        return body

    jobs = [job for body in bodies for job in (read, partial(write, body), read)]
    assert set(await side_by_side(store, jobs)) <= bodies

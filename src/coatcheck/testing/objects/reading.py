"""The contract of `get`, `get_into` and `head`: the right bytes, within limits, or an error."""

from coatcheck.errors import Conflict, Corrupt, NotFound, TooLarge
from coatcheck.objects.port import ObjectStore
from coatcheck.testing.objects.contract import (
    AMPLE,
    Capability,
    Suite,
    Witness,
    holds,
    refused,
)
from coatcheck.types import ByteRange

check = Suite()


@check()
async def what_others_wrote_is_read(store: ObjectStore, witness: Witness) -> None:
    """Objects need not come from this store."""
    witness.write("a/key", b"by the witness")
    await holds(store, witness, {"a/key": b"by the witness"})


@check()
async def a_span_gives_the_bytes_it_has(store: ObjectStore, witness: Witness) -> None:
    """Inside, at the ends, across the end, and beyond it; always with the whole size."""
    witness.write("key", b"0123456789")
    witness.write("empty", b"")
    for span, expected in [
        (ByteRange(0, 1), b"0"),
        (ByteRange(3, 4), b"3456"),
        (ByteRange(0, 10), b"0123456789"),
        (ByteRange(9, 1), b"9"),
        (ByteRange(8, 100), b"89"),
        (ByteRange(10, 1), b""),
        (ByteRange(11, 5), b""),
    ]:
        fetched = await store.get("key", span, limit_bytes=AMPLE)
        assert (fetched.body, fetched.size_bytes) == (expected, 10), span
    for span in (ByteRange(0, 1), ByteRange(7, 7)):
        fetched = await store.get("empty", span, limit_bytes=AMPLE)
        assert (fetched.body, fetched.size_bytes) == (b"", 0), span


@check()
async def a_read_keeps_to_its_limit(store: ObjectStore, witness: Witness) -> None:
    """The limit is on the bytes that are returned, and counts to the byte."""
    witness.write("key", b"0123456789")
    assert (await store.get("key", limit_bytes=10)).body == b"0123456789"
    await refused(TooLarge, "key", store.get("key", limit_bytes=9))
    assert (await store.get("key", ByteRange(4, 3), limit_bytes=3)).body == b"456"
    await refused(TooLarge, "key", store.get("key", ByteRange(4, 3), limit_bytes=2))


@check()
async def a_buffer_is_filled(store: ObjectStore, witness: Witness) -> None:
    """Exactly the bytes asked for, in the place given, and nothing around it."""
    witness.write("key", b"0123456789")
    buffer = bytearray(b"." * 8)
    await store.get_into("key", 3, memoryview(buffer)[2:6])
    assert buffer == b"..3456.."
    await store.get_into("key", 2, memoryview(buffer))
    assert buffer == b"23456789"


@check()
async def a_buffer_that_cannot_be_filled_is_an_error(store: ObjectStore, witness: Witness) -> None:
    """An object that is shorter than it should be is Corrupt."""
    witness.write("key", b"0123456789")
    witness.write("empty", b"")
    for key, start in (("key", 7), ("key", 10), ("key", 50), ("empty", 0)):
        await refused(Corrupt, key, store.get_into(key, start, memoryview(bytearray(4))))


@check(Capability.CONDITIONAL_READS)
async def a_read_of_another_version_is_refused(store: ObjectStore, witness: Witness) -> None:
    """`if_match` keeps parts of two objects apart."""
    witness.write("key", b"version 1")
    etag = (await store.get("key", ByteRange(0, 1), limit_bytes=1)).etag
    assert etag is not None
    buffer = memoryview(bytearray(9))
    assert (await store.get("key", limit_bytes=9, if_match=etag)).body == b"version 1"
    await store.get_into("key", 0, buffer, if_match=etag)
    assert bytes(buffer) == b"version 1"
    await store.put("key", b"version 2")
    await refused(Conflict, "key", store.get("key", limit_bytes=9, if_match=etag))
    await refused(Conflict, "key", store.get_into("key", 0, buffer, if_match=etag))


@check()
async def every_look_tells_the_same(store: ObjectStore, witness: Witness) -> None:
    """Put, get, head and list agree; another content has another ETag; times have a time zone."""
    put = await store.put("key", b"one")
    fetched, head = await store.get("key", limit_bytes=AMPLE), await store.head("key")
    [listed] = [info async for info in store.list()]
    assert (head.key, head.size_bytes) == (listed.key, listed.size_bytes) == ("key", 3)
    assert fetched.etag == head.etag == listed.etag
    assert put.etag in (None, head.etag)
    for info in (put, head, listed):
        assert info.last_modified is None or info.last_modified.tzinfo is not None
    await store.put("key", b"two")
    assert head.etag is None or (await store.head("key")).etag != head.etag


@check()
async def what_is_missing_is_not_found(store: ObjectStore, witness: Witness) -> None:
    """Every read of a key without an object raises NotFound, also next to other keys."""
    witness.write("key", b"body")
    for key in ("missing", "ke", "key2", "missing/key", "key/below"):
        await refused(NotFound, key, store.get(key, limit_bytes=AMPLE))
        await refused(NotFound, key, store.get(key, ByteRange(0, 1), limit_bytes=AMPLE))
        await refused(NotFound, key, store.get_into(key, 0, memoryview(bytearray(1))))
        await refused(NotFound, key, store.head(key))
        await refused(NotFound, key, store.copy(key, "copy"))
    await holds(store, witness, {"key": b"body"})

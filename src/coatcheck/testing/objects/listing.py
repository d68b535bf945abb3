"""The contract of `list`, `delete`, `delete_many` and `copy`."""

from functools import partial

from coatcheck.errors import NotFound
from coatcheck.objects.port import ObjectStore
from coatcheck.testing.objects.contract import (
    AMPLE,
    MIB,
    SIDE_BY_SIDE,
    Capability,
    Suite,
    Witness,
    holds,
    keys_of,
    refused,
    side_by_side,
)

check = Suite()

IN_ORDER = [
    "0",
    "a",
    "a!",
    "a-b",
    "a-c/d",
    "a.b",
    "a0",
    "aa",
    "b/a-z",
    "b/a/z",
    "b/a0",
    "b/b",
    "c/d/e/f",
    "z",
    "\u00e9",
    "\u6771/\u4eac",
    "\uffee",
    "\U0001f9e5",
]
"""Keys in the order of their UTF-8 bytes, which neither folder by folder nor UTF-16 gives."""


@check()
async def an_empty_store_lists_nothing(store: ObjectStore, witness: Witness) -> None:
    """Nor does a prefix or a start change that."""
    assert await keys_of(store.list()) == []
    assert await keys_of(store.list("a/", after="a/b")) == []


@check()
async def keys_are_listed_in_order(store: ObjectStore, witness: Witness) -> None:
    """By UTF-8 bytes, over the whole key."""
    for key in reversed(IN_ORDER):
        witness.write(key, key.encode())
    assert await keys_of(store.list()) == IN_ORDER
    assert [info.size_bytes async for info in store.list()] == [len(k.encode()) for k in IN_ORDER]


@check()
async def a_prefix_chooses(store: ObjectStore, witness: Witness) -> None:
    """A prefix is the beginning of a key, wherever it ends."""
    for key in IN_ORDER:
        witness.write(key, b"")
    for prefix in (
        "a",
        "a-",
        "a-b",
        "a-c/",
        "b/a",
        "b/a/",
        "c/d/",
        "c/d/e/f",
        "\u6771",
        "q",
        "q/r",
    ):
        expected = [key for key in IN_ORDER if key.startswith(prefix)]
        assert await keys_of(store.list(prefix)) == expected, prefix


@check()
async def a_start_is_left_out(store: ObjectStore, witness: Witness) -> None:
    """`after` need not be a key, and what equals it is not listed."""
    for key in IN_ORDER:
        witness.write(key, b"")
    for after in (*IN_ORDER, "!", "a-b/", "a-c/b", "b", "b/", "b/a/", "c/d/e/e", "c/d/e0", "~"):
        expected = [key for key in IN_ORDER if key > after]
        assert await keys_of(store.list(after=after)) == expected, after


@check()
async def prefix_and_start_go_together(store: ObjectStore, witness: Witness) -> None:
    """Also where the start is outside of the prefix."""
    for key in IN_ORDER:
        witness.write(key, b"")
    for prefix, after in [("a", "a-b"), ("b/", "b/a/z"), ("b/", "a"), ("a", "b"), ("b/a", "b/a")]:
        expected = [key for key in IN_ORDER if key.startswith(prefix) and key > after]
        assert await keys_of(store.list(prefix, after=after)) == expected, (prefix, after)


@check(Capability.THOUSANDS)
async def more_than_a_page_is_listed(store: ObjectStore, witness: Witness) -> None:
    """Nothing is lost or repeated between pages, and a listing can be left early."""
    keys = [f"{number % 3}/{number:04}" for number in range(1001)]
    for key in keys:
        witness.write(key, b"")
    assert await keys_of(store.list()) == sorted(keys)
    async for info in store.list():
        assert info.key == "0/0000"
        break


@check()
async def a_delete_removes_one_object(store: ObjectStore, witness: Witness) -> None:
    """Not those whose keys begin with its key; and again it is no error."""
    for key in ("a/b", "a/bc", "a/b2/c"):
        witness.write(key, b"body")
    await store.delete("a/b")
    await store.delete("a/b")
    await store.delete("never/there")
    await holds(store, witness, {"a/bc": b"body", "a/b2/c": b"body"})
    await refused(NotFound, "a/b", store.get("a/b", limit_bytes=AMPLE))


@check()
async def many_are_deleted(store: ObjectStore, witness: Witness) -> None:
    """None, some, some that are missing, and one named twice."""
    for key in ("a/1", "a/2", "b & c", "d"):
        witness.write(key, b"body")
    assert await store.delete_many([]) == []
    assert await store.delete_many(["a/1", "missing", "b & c", "a/x/y", "a/1"]) == []
    await holds(store, witness, {"a/2": b"body", "d": b"body"})


@check(Capability.THOUSANDS)
async def more_than_a_request_holds_are_deleted(store: ObjectStore, witness: Witness) -> None:
    """1,001 keys, over what one request to S3 takes."""
    keys = [f"{number % 3}/{number}" for number in range(1001)]
    for key in (*keys, "stays"):
        witness.write(key, b"")
    assert await store.delete_many(keys) == []
    assert witness.all_keys() == {"stays"}


@check()
async def a_copy_is_an_object_of_its_own(store: ObjectStore, witness: Witness) -> None:
    """It replaces what was there, and stays when its source goes."""
    for size_bytes in (1, MIB + 1, 0):
        body = b"x" * size_bytes
        witness.write("target", b"replaced")
        witness.write("a/source", body)
        info = await store.copy("a/source", "target")
        assert (info.key, info.size_bytes) == ("target", size_bytes)
        await holds(store, witness, {"a/source": body, "target": body})
        await store.put("a/source", b"changed")
        assert witness.read("target") == body


@check()
async def many_at_once_do_not_mix(store: ObjectStore, witness: Witness) -> None:
    """Writes, reads and deletes of different keys side by side."""

    async def live(number: int) -> None:
        key, body = f"folder/{number % 4}/{number}", str(number).encode() * 100
        await store.put(key, body)
        assert (await store.get(key, limit_bytes=AMPLE)).body == body
        if number % 2:
            await store.delete(key)

    numbers = range(4 * SIDE_BY_SIDE)
    await side_by_side(store, [partial(live, number) for number in numbers])
    left = {f"folder/{n % 4}/{n}": str(n).encode() * 100 for n in numbers if n % 2 == 0}
    await holds(store, witness, left)

"""The contract of keys: what must pass through unchanged, and what must not pass."""

from coatcheck.errors import ConfigError
from coatcheck.objects.port import ObjectStore
from coatcheck.testing.objects.contract import (
    AMPLE,
    Capability,
    Suite,
    Witness,
    holds,
    keys_of,
    raised,
)

check = Suite()

HOSTILE = [
    "\u00fcn\u00ef/c\u00f8d\u00e9/\u65e5\u672c\u8a9e",
    "e\u0301 is not \u00e9",
    "\U0001f9e5",
    "sp ace/ before and after /x",
    "per%cent/a%2Fb/%00/%zz",
    "plus+sign",
    "tilde~",
    "quo'te\"s`",
    "query?a=b&c=d#e;f:g@h,i!j$k",
    "(a)[b]{c}<d>|^*",
    "back\\slash/c:\\x",
    "&amp;&#10;]]>",
    "...",
    "..a/.b/c./d..e",
    "-rf",
    "CON/nul.txt",
]
"""Keys that a careless client, server or file system would change."""


@check()
async def hostile_keys_come_through(store: ObjectStore, witness: Witness) -> None:
    """Each operation means the same key, and so does the witness."""
    for key in HOSTILE:
        await store.put(key, key.encode())
    await holds(store, witness, {key: key.encode() for key in HOSTILE})
    for key in HOSTILE:
        assert await keys_of(store.list(key)) == [key]
        await store.copy(key, f"copy/{key}")
        await store.delete(key)
    await holds(store, witness, {f"copy/{key}": key.encode() for key in HOSTILE})
    assert await store.delete_many([f"copy/{key}" for key in HOSTILE]) == []
    assert witness.all_keys() == set()


@check(Capability.LONGEST_KEYS)
async def the_longest_key_is_taken(store: ObjectStore, witness: Witness) -> None:
    """1,024 bytes of UTF-8."""
    key = "/".join(["\u00e9" * 60, *["k" * 127] * 7, "e" * 7])
    assert len(key.encode()) == 1024
    await store.put(key, b"body")
    await holds(store, witness, {key: b"body"})
    await store.delete(key)
    assert witness.all_keys() == set()


@check()
async def impossible_keys_are_refused(store: ObjectStore, witness: Witness) -> None:
    """By every method, before anything happens."""
    witness.write("key", b"body")
    for key in ("", "k" * 1025, "\u00e9" * 513, "lone \ud800 surrogate"):
        await raised(ConfigError, store.put(key, b""))
        await raised(ConfigError, store.get(key, limit_bytes=AMPLE))
        await raised(ConfigError, store.get_into(key, 0, memoryview(bytearray(1))))
        await raised(ConfigError, store.head(key))
        await raised(ConfigError, store.delete(key))
        await raised(ConfigError, store.delete_many(["key", key]))
        await raised(ConfigError, store.copy(key, "copy"))
        await raised(ConfigError, store.copy("key", key))
    await raised(ConfigError, keys_of(store.list("lone \ud800 surrogate")))
    await raised(ConfigError, keys_of(store.list(after="lone \ud800 surrogate")))
    await holds(store, witness, {"key": b"body"})


@check(Capability.CONTROL_CHARACTERS)
async def control_characters_come_through(store: ObjectStore, witness: Witness) -> None:
    """A line break in a key is a line break in a key."""
    keys = ["new\nline", "tab\tand\x7f", "\x01\x1b[31m"]
    for key in keys:
        await store.put(key, key.encode())
    await holds(store, witness, {key: key.encode() for key in keys})
    assert await store.delete_many(keys) == []
    assert witness.all_keys() == set()


@check(Capability.NESTED_KEYS)
async def keys_may_go_on_from_keys(store: ObjectStore, witness: Witness) -> None:
    """There are no folders, only keys: `a` and `a/b` are two objects."""
    objects = {"a": b"1", "a/b": b"2", "a/b/c": b"3"}
    for key, body in objects.items():
        await store.put(key, body)
    await holds(store, witness, objects)
    for _ in range(2):
        await store.delete("a")
        await holds(store, witness, {"a/b": b"2", "a/b/c": b"3"})


@check(Capability.FREE_KEYS)
async def slashes_and_dots_make_other_keys(store: ObjectStore, witness: Witness) -> None:
    """Nothing tidies keys up: not the client on its way, not a redirect."""
    objects = {
        key: key.encode() for key in ("a", "a/", "/a", "a//b", "a/./b", "a/../b", "./a", "/")
    }
    for key, body in objects.items():
        await store.put(key, body)
    await holds(store, witness, objects)

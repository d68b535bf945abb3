"""The contract of volumes: what `coatcheck.Volume` does on every object store below it.

Each check is a coroutine function of an empty volume and a witness, which reads and writes the
volume's files behind its back. Use it as `coatcheck.testing.objects`; to see the values that a
check compares, call `pytest.register_assert_rewrite("coatcheck.testing.volumes")` first.
"""

import io
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from coatcheck.errors import ConfigError, NotFound, TooLarge
from coatcheck.testing.objects.contract import Capability, Witness, raised
from coatcheck.types import ByteRange
from coatcheck.volumes.parts import PART_BYTES
from coatcheck.volumes.volume import Volume

Run = Callable[[Volume, Witness], Coroutine[Any, Any, None]]

LARGE = bytes(range(256)) * (PART_BYTES // 256 * 2) + b"and a little more"
"""Two parts and a bit."""

IN_ORDER = ["a", "a-b", "a.b", "a0", "b/a-z", "b/a/z", "b/a0", "c d/e f", "\u00e9", "\U0001f9e5"]

NO_PATHS = {
    "": "empty",
    "/a": "absolute",
    "a/": "slash",
    "a//b": "empty segment",
    ".": "'.'",
    "a/./b": "'.'",
    "..": "'..'",
    "a/../b": "'..'",
    "a\nb": "control",
    "a\x00b": "control",
    "a\x7fb": "control",
    "\ud800": "Unicode",
}
"""What cannot name a file, and a word of the reason."""


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the contract; `needs` says which stores it applies to."""

    run: Run
    needs: frozenset[Capability]

    def __call__(self, volume: Volume, witness: Witness) -> Coroutine[Any, Any, None]:
        """Begin the check."""
        return self.run(volume, witness)

    def __str__(self) -> str:
        return self.run.__name__


CHECKS: list[Check] = []
"""All checks, those first that the others rest on."""


def _check(*needs: Capability) -> Callable[[Run], Run]:
    def add(run: Run) -> Run:
        CHECKS.append(Check(run, frozenset(needs)))
        return run

    return add


async def paths_of(volume: Volume, path: str = "") -> list[str]:
    """Return the paths of a walk."""
    return [found async for found, _ in volume.walk(path)]


def _fill(witness: Witness, *paths: str) -> None:
    for path in paths:
        witness.write(path, path.encode())


@_check()
async def a_file_lies_under_its_path(volume: Volume, witness: Witness) -> None:
    """Whole and unchanged; and what others wrote there is read."""
    for body in (b"", b"1", b"\r\n\x00\xff" * 1000):
        info = await volume.store("d/a file", body)
        assert (info.key, info.size_bytes) == ("d/a file", len(body))
        assert witness.read("d/a file") == body
        assert await volume.load("d/a file").read() == body
    assert witness.all_keys() == {"d/a file"}
    witness.write("d/other", b"theirs")
    assert await volume.load("d/other").read() == b"theirs"


@_check()
async def a_large_file_goes_up_and_comes_down_in_parts(volume: Volume, witness: Witness) -> None:
    """From bytes, whole and as a stream; nothing but the file is left."""
    await volume.store("large", LARGE)
    assert witness.read("large") == LARGE
    assert witness.all_keys() == {"large"}
    file = volume.load("large")
    assert await file.read() == LARGE
    parts = [part async for part in file.stream()]
    assert b"".join(parts) == LARGE
    assert [len(part) for part in parts] == [PART_BYTES, PART_BYTES, len(LARGE) - 2 * PART_BYTES]


@_check()
async def a_stream_may_be_left_early(volume: Volume, witness: Witness) -> None:
    """And the file can be read again at once."""
    witness.write("large", LARGE)
    stream = volume.load("large").stream()
    assert await anext(stream) == LARGE[:PART_BYTES]
    await stream.aclose()
    assert await volume.load("large").size() == len(LARGE)


@_check()
async def sources_of_all_kinds_are_stored(volume: Volume, witness: Witness) -> None:
    """Bytes of all kinds, files, iterables and async iterables."""

    def plain() -> Iterator[bytes]:
        yield from (b"one ", b"", b"two")

    async def awaited() -> AsyncIterator[bytes]:
        for chunk in plain():
            yield chunk

    for source in (bytearray(b"one two"), memoryview(b"one two"), [b"one two"]):
        await volume.store("f", source)
        assert witness.read("f") == b"one two"
    for stream in (plain(), awaited(), io.BytesIO(b"one two")):
        await volume.store("g", stream)
        assert witness.read("g") == b"one two"
    await raised_type_error(volume, "no bytes")


async def raised_type_error(volume: Volume, source: object) -> None:
    """Let a source that gives no bytes be refused by its type, with nothing stored."""
    caught: TypeError | None = None
    try:
        await volume.store("never", source)  # type: ignore[arg-type] # it is wrong on purpose
    except TypeError as error:
        caught = error
    assert caught is not None, "a source that gives no bytes was taken"
    assert await volume.delete("never") == 0


@_check()
async def a_file_object_is_read_from_its_position_and_put_back(
    volume: Volume, witness: Witness
) -> None:
    """It stays open and can be stored again, small or large."""
    for body in (b"small", LARGE):
        source = io.BytesIO(b"header" + body)
        source.seek(6)
        for path in ("once", "twice"):
            await volume.store(path, source)
            assert not source.closed
            assert source.tell() == 6
            assert witness.read(path) == body


@_check()
async def a_source_that_fails_leaves_what_was_there(volume: Volume, witness: Witness) -> None:
    """In its first part and after it; its error comes out."""
    witness.write("f", b"old")

    async def failing(size: int) -> AsyncIterator[bytes]:
        yield b"x" * size
        raise OSError("the source broke")

    for size in (10, PART_BYTES + 10):
        caught = ""
        try:
            await volume.store("f", failing(size))
        except OSError as error:
            caught = str(error)
        assert caught == "the source broke"
        assert witness.read("f") == b"old"
        assert witness.all_keys() == {"f"}


@_check()
async def a_missing_file_is_not_found(volume: Volume, witness: Witness) -> None:
    """By whatever asks for it, but not by `load`; and a folder is no file."""
    witness.write("d/f", b"")
    for path in ("gone", "d", "d/f/g"):
        file = volume.load(path)
        assert file.path == path
        await raised(NotFound, file.size())
        await raised(NotFound, file.read())
        await raised(NotFound, anext(file.stream()))


@_check()
async def a_file_is_read_in_ranges(volume: Volume, witness: Witness) -> None:
    """As far as it has bytes; and never more than was allowed."""
    witness.write("f", b"0123456789")
    file = volume.load("f")
    assert await file.read(ByteRange(2, 3)) == b"234"
    assert await file.read(ByteRange(8, 5)) == b"89"
    assert await file.read(ByteRange(10, 5)) == b""
    assert await file.read(limit_bytes=10) == b"0123456789"
    await raised(TooLarge, file.read(limit_bytes=9))
    await raised(TooLarge, file.read(ByteRange(0, 5), limit_bytes=4))
    witness.write("large", LARGE)
    span = ByteRange(5, len(LARGE) - 7)
    assert await volume.load("large").read(span) == LARGE[5:-2]


@_check()
async def a_walk_is_in_order_and_relative(volume: Volume, witness: Witness) -> None:
    """By the paths' UTF-8 bytes; and what is found can be read."""
    _fill(witness, *reversed(IN_ORDER))
    assert await paths_of(volume) == IN_ORDER
    async for path, file in volume.walk():
        assert file.path == path
        assert await file.size() == len(path.encode())
        assert await file.read() == path.encode() == await volume.load(path).read()


@_check()
async def a_walk_keeps_to_its_folder(volume: Volume, witness: Witness) -> None:
    """A file is one entry, nothing is none, and siblings are never in it."""
    _fill(witness, "data/1", "data/2/x", "database/3", "data-4", "datum")
    assert await paths_of(volume, "data") == ["data/1", "data/2/x"]
    assert await paths_of(volume, "data/1") == ["data/1"]
    assert await paths_of(volume, "data/2") == ["data/2/x"]
    assert await paths_of(volume, "dat") == []
    assert await paths_of(volume.folder("data")) == ["1", "2/x"]
    assert await paths_of(volume.folder("data"), "2") == ["2/x"]


@_check(Capability.NESTED_KEYS)
async def a_file_may_have_the_name_of_a_folder(volume: Volume, witness: Witness) -> None:
    """Both are at the path, the file first."""
    _fill(witness, "a", "a/b", "ab")
    assert await paths_of(volume, "a") == ["a", "a/b"]
    assert await volume.delete("a") == 2
    assert witness.all_keys() == {"ab"}


@_check()
async def impossible_paths_are_refused_with_the_reason(volume: Volume, witness: Witness) -> None:
    """By every method, before anything happens."""
    _fill(witness, "a/b")
    for path, reason in NO_PATHS.items():
        for action in (volume.store(path, b""), volume.delete(path)):
            assert reason in str(await raised(ConfigError, action))
        for name in (volume.load, volume.folder):
            await raised(ConfigError, _called(name, path))
        if path:
            await raised(ConfigError, paths_of(volume, path))
            await raised(ConfigError, volume.copy_to(volume.folder("x"), path))
    assert witness.all_keys() == {"a/b"}


async def _called(method: Callable[[str], object], path: str) -> object:
    return method(path)


@_check()
async def a_delete_takes_a_file_and_a_folder_but_no_sibling(
    volume: Volume, witness: Witness
) -> None:
    """It tells how many there were, and nothing to delete is fine."""
    _fill(witness, "a/1", "a/2/3", "ab", "a-b/c", "b")
    assert await volume.delete("a") == 2
    assert await volume.delete("a") == 0
    assert witness.all_keys() == {"ab", "a-b/c", "b"}
    assert await volume.delete("b") == 1
    assert witness.all_keys() == {"ab", "a-b/c"}


@_check()
async def an_erase_takes_the_folder_and_no_more(volume: Volume, witness: Witness) -> None:
    """And an empty one is fine."""
    _fill(witness, "data/1", "data/2/x", "database/3")
    assert await volume.folder("data").erase() == 2
    assert witness.all_keys() == {"database/3"}
    assert await volume.folder("data").erase() == 0
    assert await volume.erase(confirm=True) == 1
    assert witness.all_keys() == set()


@_check()
async def a_folder_is_a_volume(volume: Volume, witness: Witness) -> None:
    """Whose paths are relative to it, and which leads nowhere else."""
    folder = volume.folder("a/b")
    await folder.store("c", b"1")
    await folder.folder("d").store("e", b"2")
    assert witness.all_keys() == {"a/b/c", "a/b/d/e"}
    assert await volume.load("a/b/d/e").read() == b"2"
    assert folder.location == f"{volume.location}/a/b"
    await raised(ConfigError, _called(folder.load, "../b/c"))


@_check()
async def a_folder_is_copied_with_its_paths(volume: Volume, witness: Witness) -> None:
    """To the same path or another one, or to the top; a single file too."""
    _fill(witness, "in/1", "in/2/3", "in-4")
    other = volume.folder("other")
    summary = await volume.copy_to(other, "in")
    assert (summary.files, summary.size_bytes) == (2, 10)
    await volume.copy_to(other, "in", to="out/x")
    await volume.copy_to(other, "in", to="")
    await volume.copy_to(other, "in/1", to="one")
    copied = {"in/1", "in/2/3", "out/x/1", "out/x/2/3", "1", "2/3", "one"}
    assert set(await paths_of(other)) == copied
    assert await other.load("out/x/2/3").read() == b"in/2/3"
    assert witness.read("in/1") == b"in/1"
    await raised(NotFound, volume.copy_to(other, "gone"))


@_check()
async def a_copy_goes_on_where_it_was_cut_off(volume: Volume, witness: Witness) -> None:
    """Only what differs is copied: by size, and by bytes where the size is the same."""
    for path in ("in/1", "in/2", "in/3", "in/4"):
        witness.write(path, b"same")
    for path, body in {"to/0": b"0", "to/1": b"same", "to/2": b"SAME", "to/4": b"samey"}.items():
        witness.write(path, body)
    seen: dict[str, bool] = {}
    summary = await volume.copy_to(
        volume,
        "in",
        to="to",
        skip_same=True,
        notice=lambda copied: seen.update({copied.path: copied.was_there}),
    )
    assert (summary.files, summary.files_already_there) == (3, 1)
    assert seen == {"to/1": True, "to/2": False, "to/3": False, "to/4": False}
    assert {path: witness.read(path) for path in ("to/0", "to/1", "to/2", "to/3", "to/4")} == {
        "to/0": b"0",
        **dict.fromkeys(("to/1", "to/2", "to/3", "to/4"), b"same"),
    }


@_check()
async def a_folder_is_not_copied_into_itself(volume: Volume, witness: Witness) -> None:
    """Which would never end, nor onto itself; but beside itself."""
    _fill(witness, "a/1")
    for goal in ("a", "a/b"):
        await raised(ConfigError, volume.copy_to(volume, "a", to=goal))
    await raised(ConfigError, volume.folder("a").copy_to(volume, to="a/b"))
    await volume.copy_to(volume, "a", to="ab")
    assert witness.all_keys() == {"a/1", "ab/1"}

"""What the local folder does beyond the contract: what is on the disk, and when."""

import asyncio
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coatcheck.errors import ConfigError, Conflict, Corrupt, NotFound
from coatcheck.objects.local import LocalObjects
from coatcheck.runtime.aio import AsyncioRuntime
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.types import ByteRange, Digest, IfAbsent
from tests.objects.local_uses import AMPLE, every_use, get, keys, run

# The folder


def test_nothing_is_made_before_the_first_write(store, root):
    assert keys(store) == []
    run(store.delete("a/b"))
    assert run(store.delete_many(["a", "b/c"])) == []
    for read in (store.head("a"), store.get("a", limit_bytes=1), store.copy("a", "b")):
        with pytest.raises(NotFound):
            run(read)
    assert not root.exists()


def test_the_root_is_made_with_all_above_it(tmp_path):
    root = tmp_path / "not" / "yet" / "there"
    run(LocalObjects(root, BLOCKING).put("key", b"body"))
    assert (root / "key").read_bytes() == b"body"


def test_nobody_else_may_read_what_is_stored(store, root):
    run(store.put("folder/key", b"body"))
    run(store.copy("folder/key", "copy"))
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in root.rglob("*")}
    assert modes.pop("folder") == modes.pop(".coatcheck-tmp") == 0o700
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_relative_root_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LocalObjects(Path("root"), BLOCKING)
    run(store.put("key", b"body"))
    monkeypatch.chdir("/")
    assert get(store, "key") == b"body"


def test_the_location_is_a_url(tmp_path):
    assert LocalObjects(tmp_path / "a b", BLOCKING).location == f"file://{tmp_path}/a%20b"


def test_a_root_that_is_a_file_is_a_configuration_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = LocalObjects(tmp_path / "file", BLOCKING)
    for use in (*every_use(store, "key").values(), lambda: keys(store)):
        with pytest.raises(ConfigError, match="not a folder"):
            use()


def test_other_systems_are_refused_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "supports_dir_fd", set())
    with pytest.raises(ConfigError, match="WSL"):
        LocalObjects(Path("store"), BLOCKING)


def test_folders_that_a_delete_empties_are_removed_and_no_others(store, root):
    for key in ("a/b/c/1", "a/b/c/2", "a/x"):
        run(store.put(key, b""))
    run(store.delete("a/b/c/1"))
    assert (root / "a/b/c").is_dir()
    assert run(store.delete_many(["a/b/c/2"])) == []
    assert sorted(path.name for path in (root / "a").iterdir()) == ["x"]
    run(store.delete("a/x"))
    assert [path.name for path in root.iterdir()] == [".coatcheck-tmp"]


def test_deleting_a_folder_deletes_nothing(store):
    run(store.put("a/b", b"body"))
    run(store.delete("a"))
    assert run(store.delete_many(["a"])) == []
    assert get(store, "a/b") == b"body"


def test_folders_left_empty_are_no_objects_and_in_nobodys_way(store, root):
    (root / "a/b/c").mkdir(parents=True)
    (root / "a/d").mkdir()
    assert keys(store) == []
    run(store.put("a", b"body", condition=IfAbsent()))
    assert get(store, "a") == b"body"


def test_a_folder_that_fills_while_it_is_removed_stays(store, root, monkeypatch):
    (root / "a/b").mkdir(parents=True)
    rmdir = os.rmdir

    def fill_first(name, *, dir_fd):
        if name == b"a":
            run(store.put("a/c", b"body"))
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", fill_first)
    with pytest.raises(Conflict, match="cannot both be objects"):
        run(store.put("a", b""))
    assert keys(store) == ["a/c"]


def test_an_object_and_a_folder_of_one_name_are_a_conflict(store):
    run(store.put("a/b", b"body"))
    for condition in (None, IfAbsent()):
        with pytest.raises(Conflict, match="cannot both be objects"):
            run(store.put("a", b"", condition=condition))
        with pytest.raises(Conflict, match="cannot both be objects"):
            run(store.put("a/b/c", b"", condition=condition))
    with pytest.raises(Conflict, match="key=a/b/c"):
        run(store.copy("a/b", "a/b/c"))
    assert keys(store) == ["a/b"]


def test_a_segment_too_long_for_the_file_system_is_named(store):
    for key in ("good", "a/good"):
        run(store.put(key, b"body"))
    for key in ("a/" + "k" * 256, "k" * 256 + "/a", "\u00e9" * 128):
        for use in every_use(store, key).values():
            with pytest.raises(ConfigError, match=r"k{256}|é{128}"):
                use()
    run(store.put("a/" + "k" * 255, b""))


@pytest.mark.parametrize("key", [".coatcheck-tmp", ".coatcheck-tmp/lock-00", ".COATCHECK-tmp/x"])
def test_the_stores_own_folder_is_out_of_reach(store, key):
    run(store.put("good", b"body"))
    for use in every_use(store, key).values():
        with pytest.raises(ConfigError, match="needs itself"):
            use()
    with pytest.raises(ConfigError):
        run(store.delete_many(["good", key]))
    assert keys(store) == ["good"]


def test_the_stores_own_folder_is_not_listed(store, root):
    run(store.put("key", b""))
    (root / ".coatcheck-tmp" / "left-by-a-crash").write_bytes(b"half an obj")
    for prefix in ("", ".", ".coatcheck-tmp", ".coatcheck-tmp/", ".coatcheck-tmp/left"):
        assert keys(store, prefix) == (["key"] if not prefix else [])
    run(store.put("a/.coatcheck-tmp/b", b""))
    assert keys(store) == ["a/.coatcheck-tmp/b", "key"]


# Reading and listing


def test_objects_keep_their_etag_wherever_they_are_looked_at(store, root):
    put = run(store.put("key", b"body"))
    again = LocalObjects(root, BLOCKING)
    assert put == run(again.head("key"))
    assert put.etag == run(again.get("key", limit_bytes=AMPLE)).etag
    (root / "key").write_bytes(b"BODY")
    assert run(store.head("key")).etag != put.etag


def test_objects_are_dated_by_the_runtime(root):
    class Frozen(AsyncioRuntime):
        def wall_clock(self):
            return 1_000_000_000.5

    info = asyncio.run(LocalObjects(root, Frozen()).put("key", b""))
    assert info.last_modified == datetime(2001, 9, 9, 1, 46, 40, 500_000, UTC)


def test_etags_differ_even_where_inode_size_and_clock_are_the_same(root):
    class Frozen(AsyncioRuntime):
        def wall_clock(self):
            return 1_000_000_000.5

    async def write():
        store = LocalObjects(root, Frozen())
        return [(await store.put("key", b"body")).etag for _ in range(50)]

    assert len(set(asyncio.run(write()))) == 50


def test_a_prefix_is_no_path(store, root):
    (root.parent / "outside").write_bytes(b"secret")
    run(store.put("a/b", b""))
    for prefix in (
        "..",
        "../",
        "../outside",
        "/",
        "a//",
        "a/../a",
        "./a",
        "a/b/",
        "a\0",
        "k" * 2000,
    ):
        assert keys(store, prefix) == []


def test_names_that_are_no_keys_are_passed_over(store, root):
    run(store.put("good", b""))
    (Path(os.fsdecode(os.fsencode(root) + b"/not \xff utf-8"))).write_bytes(b"")
    deep = root
    for _ in range(6):
        deep /= "d" * 200
        deep.mkdir()
    (deep / "too deep").write_bytes(b"")
    assert keys(store) == ["good"]


def test_only_folders_that_can_match_are_read(store, root, monkeypatch):
    for key in ("a/x/1", "a/y/1", "a/z/1", "b/1", "c/d/e"):
        run(store.put(key, b""))
    read = []
    scandir = os.scandir

    def watched(folder):
        read.append(os.readlink(f"/proc/self/fd/{folder}"))
        return scandir(folder)

    if not Path("/proc/self/fd").exists():
        pytest.skip("no way here to see which folder is read")
    monkeypatch.setattr("coatcheck.objects.folder.os.scandir", watched)
    assert keys(store, "a/y/") == ["a/y/1"]
    assert read == [f"{root}/a/y"]
    read.clear()
    assert keys(store, "a/", after="a/y/0") == ["a/y/1", "a/z/1"]
    assert read == [f"{root}/a", f"{root}/a/y", f"{root}/a/z"]
    read.clear()
    assert keys(store, "c") == ["c/d/e"]
    assert read == [f"{root}", f"{root}/c", f"{root}/c/d"]


def test_a_listing_reads_no_further_than_it_is_followed(store, root, monkeypatch):
    for folder in range(5):
        (root / f"{folder}").mkdir(parents=True)
        for number in range(600):
            (root / f"{folder}/{number}").write_bytes(b"")
    read = []
    scandir = os.scandir

    def counted(folder):
        read.append(folder)
        return scandir(folder)

    monkeypatch.setattr("coatcheck.objects.folder.os.scandir", counted)

    async def first():
        return await anext(store.list())

    assert run(first()).key == "0/0"
    assert len(read) == 3  # the root, and two folders for a page of a thousand


def test_objects_deleted_meanwhile_are_left_out_of_a_listing(store, root):
    for number in range(1100):
        (root / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        (root / f"{number % 2}/{number:04}").write_bytes(b"")

    async def listed():
        seen: list[str] = []
        async for info in store.list():
            if not seen:
                await store.delete_many([f"1/{number:04}" for number in range(1, 1100, 2)][:-1])
            seen.append(info.key)
        return seen

    seen = run(listed())
    assert len(seen) == 1000 + 1
    assert seen[-1] == "1/1099"


def test_a_file_cut_while_it_is_read_is_corrupt(store, root, monkeypatch):
    run(store.put("key", b"0123456789"))
    pread = os.pread

    def cut_then_read(file, length, start):
        os.truncate(root / "key", 4)
        return pread(file, length, start)

    monkeypatch.setattr("coatcheck.objects.files.os.pread", cut_then_read)
    with pytest.raises(Corrupt):
        get(store, "key")


def test_reads_that_come_in_pieces_are_put_together(store, monkeypatch):
    body = bytes(range(256))
    run(store.put("key", body))
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(
        "coatcheck.objects.files.os.pread", lambda file, length, start: pread(file, 100, start)
    )
    monkeypatch.setattr(
        "coatcheck.objects.files.os.preadv",
        lambda file, buffers, start: preadv(file, [buffers[0][:7]], start),
    )
    assert get(store, "key") == body
    assert run(store.get("key", ByteRange(10, 200), limit_bytes=AMPLE)).body == body[10:210]
    buffer = bytearray(50)
    run(store.get_into("key", 20, memoryview(buffer)))
    assert buffer == body[20:70]


def test_writes_that_go_in_pieces_are_whole(store, monkeypatch):
    write = os.write
    monkeypatch.setattr(
        "coatcheck.objects.files.os.write", lambda file, data: write(file, data[:7])
    )
    body = bytes(range(256))
    run(store.put("key", body, digest=Digest.of(body)))
    assert get(store, "key") == body

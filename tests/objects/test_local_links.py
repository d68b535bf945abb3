"""Nothing in the folder leads the local store out of it, nor makes it wait."""

import os
import stat
import threading

import pytest

from coatcheck.errors import Forbidden, NotFound
from coatcheck.objects import folder
from coatcheck.objects.local import LocalObjects
from coatcheck.runtime.blocking import BLOCKING
from tests.objects.local_uses import every_use, get, keys, run


@pytest.fixture
def outside(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    return outside


@pytest.fixture
def planted(store, root, outside):
    """The store, with links in it that lead out of it."""
    run(store.put("good", b"good"))
    run(store.put("folder/good", b"good"))
    (root / "file-link").symlink_to(outside / "secret")
    (root / "dangling").symlink_to(outside / "new")
    (root / "folder-link").symlink_to(outside)
    (root / "folder/up").symlink_to("../..")
    (root / "inside").symlink_to("good")
    return store


@pytest.mark.parametrize(
    "key",
    [
        "file-link",
        "dangling",
        "folder-link",
        "folder-link/secret",
        "folder-link/new",
        "folder/up/outside/secret",
        "inside",
    ],
)
def test_no_link_is_followed(planted, outside, key):
    for name, use in every_use(planted, key).items():
        with pytest.raises(Forbidden, match="symbolic link") as caught:
            use()
        assert f"key={key}" in str(caught.value), name
    [failure] = run(planted.delete_many([key]))
    assert (failure.key, failure.code) == (key, "forbidden")
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}


def test_a_failure_does_not_keep_the_other_deletes_from_being_done(planted):
    [failure] = run(planted.delete_many(["good", "inside", "folder/good"]))
    assert failure.key == "inside"
    assert keys(planted) == []


def test_no_link_is_listed(planted):
    assert keys(planted) == ["folder/good", "good"]
    for prefix in ("folder-link/", "folder/up/", "folder/up/root/", "file-link", "inside"):
        assert keys(planted, prefix) == []


def test_a_link_in_place_of_the_stores_own_folder_is_not_followed(root, outside):
    root.mkdir()
    (root / ".coatcheck-tmp").symlink_to(outside)
    with pytest.raises(Forbidden, match="symbolic link"):
        run(LocalObjects(root, BLOCKING).put("key", b"body"))
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert not (root / "key").exists()


def test_links_on_the_way_to_the_root_are_the_operators_choice(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    store = LocalObjects(tmp_path / "data" / "root", BLOCKING)
    run(store.put("key", b"body"))
    assert get(store, "key") == b"body"
    assert (tmp_path / "disk" / "root" / "key").read_bytes() == b"body"


def test_a_link_swapped_in_while_the_store_works_leads_nowhere(store, root, outside):
    (root / "real").mkdir(parents=True)
    (root / "real" / "secret").write_bytes(b"good")
    (root / "link").symlink_to(outside)
    stop = threading.Event()

    def swap():
        # real and link take turns as root/folder.
        while not stop.is_set():
            for name in ("real", "link"):
                os.rename(root / name, root / "folder")
                os.rename(root / "folder", root / name)

    swapper = threading.Thread(target=swap)
    swapper.start()
    met: set[object] = set()
    try:
        for _ in range(2000):
            try:
                assert get(store, "folder/secret") == b"good"
                met.add("the object")
            except (NotFound, Forbidden) as error:
                met.add(type(error))
    finally:
        stop.set()
        swapper.join()
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}


@pytest.mark.timeout(20)
def test_a_fifo_is_neither_read_nor_written_nor_waited_for(store, root):
    run(store.put("good", b"good"))
    os.mkfifo(root / "fifo")
    for key in ("fifo", "fifo/key"):
        for use in every_use(store, key).values():
            with pytest.raises(Forbidden, match="special file"):
                use()
    assert keys(store) == ["good"]
    assert stat.S_ISFIFO((root / "fifo").lstat().st_mode)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("swap_in", "met"),
    [
        (os.mkfifo, "special file"),
        (lambda path: path.symlink_to("other"), "symbolic link"),
        (lambda path: path.mkdir(), "no such object"),
        (lambda path: None, "no such object"),
    ],
    ids=["fifo", "link", "folder", "nothing"],
)
def test_what_takes_the_place_of_a_file_after_the_look_is_not_read(
    store, root, monkeypatch, swap_in, met
):
    run(store.put("key", b"body"))
    run(store.put("other", b"other"))
    look = folder.look_at_file

    def look_and_swap(above, name):
        found = look(above, name)
        (root / "key").unlink()
        swap_in(root / "key")
        return found

    monkeypatch.setattr(folder, "look_at_file", look_and_swap)
    with pytest.raises((Forbidden, NotFound), match=met):
        get(store, "key")

"""What the local store does when others change its folder at the same time."""

import asyncio
import os
import threading

import pytest

from coatcheck.errors import Conflict, Unavailable
from coatcheck.objects import files
from coatcheck.objects.local import LocalObjects
from coatcheck.runtime.aio import ASYNCIO, AsyncioRuntime
from coatcheck.types import IfAbsent, IfMatch
from tests.objects.local_uses import AMPLE, get, run, temporary_files


def test_a_put_whose_folder_a_delete_removes_makes_it_again(store, root, monkeypatch):
    run(store.put("a/b/old", b""))
    place = files._place
    calls: list[str] = []

    def delete_then_place(staged, folder, name, condition):
        if not calls:
            calls.append(name)
            run(store.delete("a/b/old"))
            assert not (root / "a").exists()
        place(staged, folder, name, condition)

    monkeypatch.setattr(files, "_place", delete_then_place)
    for condition in (None, IfAbsent()):
        calls.clear()
        run(store.put("a/b/new", b"body", condition=condition))
        assert get(store, "a/b/new") == b"body"
        run(store.delete("a/b/new"))
        run(store.put("a/b/old", b""))


def test_a_put_that_never_finds_its_folder_gives_up(store, root, monkeypatch):
    def place(staged, folder, name, condition):
        raise FileNotFoundError

    monkeypatch.setattr(files, "_place", place)
    with pytest.raises(Unavailable, match="100 times"):
        run(store.put("a/b", b""))
    assert temporary_files(root) == set()


def test_a_put_that_is_sure_to_conflict_writes_nothing(store, monkeypatch):
    run(store.put("key", b"body"))

    def write(file, data):
        raise AssertionError("a body was written")

    monkeypatch.setattr(os, "write", write)
    for condition in (IfAbsent(), IfMatch('"1-1-1"')):
        with pytest.raises(Conflict):
            run(store.put("key", b"other", condition=condition))


def test_a_lost_reply_to_a_rename_is_not_taken_for_a_conflict(store, monkeypatch):
    link = os.link

    def link_and_lose_the_reply(*names, **folders):
        link(*names, **folders)
        raise FileExistsError

    monkeypatch.setattr("coatcheck.objects.files.os.link", link_and_lose_the_reply)
    run(store.put("key", b"body", condition=IfAbsent()))
    assert get(store, "key") == b"body"


def test_a_cancelled_put_leaves_nothing_half_done(root):
    started, go_on = threading.Event(), threading.Event()

    class Held(AsyncioRuntime):
        async def offload(self, work):
            def held():
                started.set()
                go_on.wait(30)
                return work()

            return await super().offload(held)

    async def cancel():
        put = asyncio.ensure_future(LocalObjects(root, Held()).put("key", b"body"))
        await asyncio.get_running_loop().run_in_executor(None, started.wait)
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        go_on.set()

    asyncio.run(cancel())
    store = LocalObjects(root, ASYNCIO)
    assert asyncio.run(store.get("key", limit_bytes=AMPLE)).body == b"body"
    assert temporary_files(root) == set()

"""What the memory store does beyond the contract: names, threads, forks, clocks."""

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from coatcheck.errors import ConfigError, Conflict, NotFound
from coatcheck.objects.memory import SHELVES, MemoryObjects, forget
from coatcheck.runtime.aio import ASYNCIO, AsyncioRuntime
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.types import Digest, IfMatch

run = BLOCKING.run


@pytest.fixture
def name():
    name = uuid4().hex
    yield name
    forget(name)


def get(store, key):
    return run(store.get(key, limit_bytes=1000)).body


def test_stores_of_one_name_have_the_same_contents_on_any_runtime(name):
    asyncio.run(MemoryObjects(name, ASYNCIO).put("key", b"body"))
    assert get(MemoryObjects(name, BLOCKING), "key") == b"body"


def test_stores_of_other_names_have_other_contents(name):
    run(MemoryObjects(name, BLOCKING).put("key", b"body"))
    with pytest.raises(NotFound):
        get(MemoryObjects(f"{name}2", BLOCKING), "key")


def test_what_is_forgotten_is_gone_for_stores_that_are_open_too(name):
    store = MemoryObjects(name, BLOCKING)
    run(store.put("key", b"body"))
    forget(name)
    forget(name)
    with pytest.raises(NotFound):
        get(store, "key")
    run(store.put("key", b"again"))
    assert get(MemoryObjects(name, BLOCKING), "key") == b"again"


def test_a_name_is_a_url():
    assert MemoryObjects("my tests/1", BLOCKING).location == "memory://my%20tests/1"


def test_reading_a_store_that_was_never_written_makes_nothing(name):
    store = MemoryObjects(name, BLOCKING)
    run(store.delete_many(["a", "b"]))
    with pytest.raises(NotFound):
        run(store.head("a"))
    assert name not in SHELVES


def test_an_etag_is_new_for_each_write_even_of_the_same_bytes(name):
    store = MemoryObjects(name, BLOCKING)
    first = run(store.put("key", b"body"))
    run(store.put("key", b"body"))
    assert first.etag is not None
    with pytest.raises(Conflict):
        run(store.put("key", b"other", condition=IfMatch(first.etag)))


def test_a_body_that_can_change_is_copied(name):
    store, body = MemoryObjects(name, BLOCKING), bytearray(b"before")
    run(store.put("key", body))  # type: ignore[arg-type] # not asked for, but done
    body[:] = b"after!"
    assert get(store, "key") == b"before"


def test_objects_are_dated_by_the_runtime(name):
    class Frozen(AsyncioRuntime):
        def wall_clock(self):
            return 1_000_000_000.5

    info = asyncio.run(MemoryObjects(name, Frozen()).put("key", b""))
    assert info.last_modified == datetime(2001, 9, 9, 1, 46, 40, 500_000, UTC)


def test_large_bodies_are_hashed_away_from_the_event_loop(name):
    hashed_on = []

    class Watching(AsyncioRuntime):
        async def offload(self, work):
            def watched():
                hashed_on.append(threading.current_thread())
                return work()

            return await super().offload(watched)

    store, body = MemoryObjects(name, Watching()), bytes(2**20 + 1)
    asyncio.run(store.put("large", body, digest=Digest.of(body)))
    asyncio.run(store.put("small", b"", digest=Digest.of(b"")))
    assert len(hashed_on) == 1
    assert hashed_on[0] is not threading.current_thread()


def test_there_is_nothing_before_the_first_byte(name):
    store = MemoryObjects(name, BLOCKING)
    run(store.put("key", b"body"))
    with pytest.raises(ValueError, match="offset -1"):
        run(store.get_into("key", -1, memoryview(bytearray(2))))


def test_keys_that_a_folder_could_not_hold_are_refused_here_too(name):
    store = MemoryObjects(name, BLOCKING)
    for key in ("a//b", "../a", "a/"):
        with pytest.raises(ConfigError):
            run(store.put(key, b""))


class SlowlyCompared(str):
    """Text that lets other threads run while it is compared."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        time.sleep(0.01)
        return str.__eq__(self, other)

    def __ne__(self, other):
        return not self == other


def test_a_condition_is_tested_and_the_object_written_in_one_step(name):
    store = MemoryObjects(name, BLOCKING)
    etag = run(store.put("key", b"before")).etag
    assert etag is not None
    ready = threading.Barrier(8)

    def wins(number):
        ready.wait(30)
        try:
            run(store.put("key", b"%d" % number, condition=IfMatch(SlowlyCompared(etag))))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(wins, range(8))) == 1


def test_changes_under_a_condition_are_not_lost_between_threads(name):
    store = MemoryObjects(name, BLOCKING)
    run(store.put("count", b"0"))
    ready = threading.Barrier(8)

    def count_to_fifty(_):
        ready.wait(30)
        for _ in range(50):
            while True:
                seen = run(store.get("count", limit_bytes=10))
                assert seen.etag is not None
                body = b"%d" % (int(seen.body) + 1)
                try:
                    run(store.put("count", body, condition=IfMatch(seen.etag)))
                    break
                except Conflict:
                    continue

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count_to_fifty, range(8)))
    assert get(store, "count") == b"400"


def test_a_listing_goes_on_while_others_write_and_delete(name):
    store = MemoryObjects(name, BLOCKING)
    for number in range(5):
        run(store.put(f"{number}", b""))

    async def listed():
        seen = []
        async for info in store.list():
            seen.append(info.key)
            await store.delete("3")
            await store.put("9", b"")
        return seen

    assert run(listed()) == ["0", "1", "2", "4"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # to fork among threads
def test_a_child_forked_while_threads_write_goes_on_with_a_copy(name):
    store = MemoryObjects(name, BLOCKING)
    run(store.put("mine", b"parent"))
    stop = threading.Event()

    def keep_writing():
        while not stop.is_set():
            run(store.put("busy", b"body"))

    writers = [threading.Thread(target=keep_writing) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(50):
            child = os.fork()
            if child == 0:
                try:
                    # Would wait for ever if the lock came along with a writer's hold on it.
                    signal.alarm(30)
                    run(store.put("mine", b"child"))
                    os._exit(0 if get(store, "mine") == b"child" else 1)
                finally:
                    os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert get(store, "mine") == b"parent"

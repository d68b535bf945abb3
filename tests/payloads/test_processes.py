"""One store in many hands: forked children, loops one after another, threads side by side."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

import coatcheck
from coatcheck import blocking
from coatcheck.payloads.keys import key_of
from coatcheck.types import Digest
from tests.payloads.support import PART, keys_of, payload

CHILD_SECONDS = 30
THREADS = 8


@pytest.fixture(params=["rclone", "local"])
def place(request, memory, tmp_path):
    """A URL with its arguments: on a server, or in a folder."""
    if request.param == "local":
        return f"file://{tmp_path}/root", {}
    server = request.getfixturevalue(request.param)
    bucket = f"processes-{memory}"[:40]
    server.create_bucket(bucket)
    return server.url(bucket), keys_of(server)


def in_a_child(work: Callable[[], bool]) -> bool:
    """Run `work` in a forked child; False if it fails or does not end."""
    child = os.fork()
    if child == 0:
        signal.alarm(CHILD_SECONDS)
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_child_uses_the_stores_of_its_parent_and_harms_none(place):
    url, arguments = place
    plain = blocking.open_store(url, part_size_bytes=PART, **arguments)
    awaited = coatcheck.open_store(url, part_size_bytes=PART, **arguments)
    small, large = payload(1000), payload(2 * PART + 1)
    claims = plain.put_many([small, large])

    async def get_all(chosen) -> bool:
        return await awaited.get_many(chosen) == [small, large]

    def use_both(seed: int) -> bool:
        own = payload(PART + seed, seed)
        stored = plain.get(plain.put(own)) == own
        return stored and plain.get_many(claims) == [small, large] and asyncio.run(get_all(claims))

    assert asyncio.run(get_all(claims))
    for seed in range(1, 5):
        assert in_a_child(partial(use_both, seed))
        assert use_both(seed + 10)


def test_a_child_of_a_child_works_too(place):
    url, arguments = place
    store = blocking.open_store(url, **arguments)
    claim = store.put(b"hello")
    assert in_a_child(lambda: in_a_child(lambda: store.get(claim) == b"hello"))
    assert store.get(claim) == b"hello"


def test_a_store_opened_before_the_fork_and_first_used_after_it_works(place):
    url, arguments = place
    store = blocking.open_store(url, **arguments)
    assert in_a_child(lambda: store.get(store.put(b"hello")) == b"hello")


def test_one_store_serves_loops_one_after_another(place):
    url, arguments = place
    store = coatcheck.open_store(url, part_size_bytes=PART, **arguments)

    async def there_and_back(seed: int) -> bool:
        data = payload(PART + seed, seed)
        return await store.get(await store.put(data)) == data

    for seed in range(5):
        assert asyncio.run(there_and_back(seed))


def test_eight_threads_share_a_blocking_store(place):
    url, arguments = place
    store = blocking.open_store(url, part_size_bytes=PART, **arguments)
    together = threading.Barrier(THREADS)
    common = payload(PART + 1, seed=99)

    def work(seed: int) -> bool:
        together.wait(10)
        own = [payload(100 * seed, seed), payload(PART + seed, seed), common]
        claims = store.put_many(own)
        return store.get_many(claims) == own and store.exists(claims[0])

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(work, range(THREADS)))
    keys = [found.key for found in store.list()]
    assert len(keys) == 2 * THREADS + 1
    assert key_of(Digest.of(common)) in keys


def test_eight_loops_in_threads_share_a_store(place):
    url, arguments = place
    store = coatcheck.open_store(url, part_size_bytes=PART, **arguments)
    together = threading.Barrier(THREADS)

    async def there_and_back(seed: int) -> bool:
        own = [payload(1000, seed), payload(PART + 1, seed=99)]
        return await store.get_many(await store.put_many(own)) == own

    def work(seed: int) -> bool:
        together.wait(10)
        return asyncio.run(there_and_back(seed))

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(work, range(THREADS)))


def test_opening_a_store_touches_nothing_and_starts_nothing(tmp_path):
    threads = threading.active_count()
    for open_at in (coatcheck.open_store, blocking.open_store):
        open_at(f"file://{tmp_path}/not/there")
        open_at("s3://bucket?endpoint=http://127.0.0.1:9")
        open_at("memory://untouched")
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads

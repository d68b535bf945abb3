"""Equal work under way is done once; its leader may fail or be cancelled, and no one suffers."""

import asyncio
import threading

from coatcheck import errors
from coatcheck.objects.memory import MemoryObjects
from coatcheck.payloads.claim import Claim
from coatcheck.payloads.flights import Flights
from coatcheck.payloads.store import PayloadStore
from coatcheck.runtime.aio import ASYNCIO
from tests.payloads.support import PART, Watched, payload
from tests.s3.support import both_faces

MANY = 20


def watched(face, memory) -> tuple[Watched, PayloadStore]:
    objects = Watched(MemoryObjects(memory, face.backend.runtime))
    return objects, PayloadStore(objects, part_size_bytes=PART)


@both_faces
def test_twenty_equal_puts_at_once_are_one_request(face, memory):
    objects, store = watched(face, memory)
    claims = face.run(store.put_many([bytes(bytearray(b"hello")) for _ in range(MANY)]))
    assert len(set(claims)) == 1
    assert objects.calls == ["put"]


@both_faces
def test_twenty_equal_gets_at_once_are_one_request_and_one_buffer(face, memory):
    objects, store = watched(face, memory)
    claim = face.run(store.put(payload(PART)))
    objects.calls.clear()
    found = face.run(store.get_many([claim] * MANY))
    assert objects.calls == ["get"]
    assert all(one is found[0] for one in found)


@both_faces
def test_different_payloads_do_not_wait_for_each_other(face, memory):
    objects, store = watched(face, memory)
    face.run(store.put_many([b"%d" % number for number in range(MANY)]))
    assert objects.calls == ["put"] * MANY


@both_faces
def test_the_same_work_again_later_is_done_again(face, memory):
    objects, store = watched(face, memory)
    for _ in range(2):
        face.run(store.put(b"hello"))
    assert objects.calls == ["put", "put", "head"]


@both_faces
def test_if_the_leader_fails_a_follower_does_the_work(face, memory):
    objects, store = watched(face, memory)
    runtime = face.backend.runtime
    outcomes: list[Claim | None] = []

    def fail_the_first(_name: str) -> None:
        if len(objects.calls) == 1:
            raise errors.Unavailable("down")

    async def one() -> None:
        try:
            outcomes.append(await store.put(b"hello"))
        except errors.Unavailable:
            outcomes.append(None)

    objects.before = fail_the_first
    face.run(runtime.gather([one] * MANY, limit=MANY))
    assert outcomes.count(None) == 1, "the failure is the leader's alone"
    assert objects.calls == ["put", "put"]


@both_faces
def test_if_all_fail_each_is_told(face, memory):
    objects, store = watched(face, memory)
    told = []

    def fail(_name: str) -> None:
        raise errors.Unavailable("down")

    async def one() -> None:
        try:
            await store.put(b"hello")
        except errors.Unavailable as error:
            told.append(error)

    objects.before = fail
    face.run(face.backend.runtime.gather([one] * 5, limit=5))
    assert len(told) == 5
    assert len(set(map(id, told))) == 5, "an error must not be raised twice"
    assert objects.calls == ["put"] * 5


def test_if_the_leader_is_cancelled_a_follower_does_the_work(memory):
    objects = Watched(MemoryObjects(memory, ASYNCIO))
    store = PayloadStore(objects)

    async def scene() -> None:
        tasks = [asyncio.ensure_future(store.put(b"hello")) for _ in range(5)]
        await asyncio.sleep(0)
        assert objects.calls == ["put"]
        tasks[0].cancel()
        claims = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(claims[0], asyncio.CancelledError)
        assert len(set(claims[1:])) == 1
        assert objects.calls[1:] in (["put"], ["put", "head"])

    asyncio.run(scene())


def test_a_cancelled_follower_disturbs_neither_the_leader_nor_the_others(memory):
    objects = Watched(MemoryObjects(memory, ASYNCIO))
    store = PayloadStore(objects)

    async def scene() -> None:
        tasks = [asyncio.ensure_future(store.put(b"hello")) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        claims = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(claims[2], asyncio.CancelledError)
        assert len({claim for claim in claims if claim is not claims[2]}) == 1
        assert objects.calls == ["put"]

    asyncio.run(scene())


def test_if_every_leader_is_cancelled_in_turn_the_last_still_finishes(memory):
    objects = Watched(MemoryObjects(memory, ASYNCIO))
    store = PayloadStore(objects)

    async def scene() -> None:
        tasks = [asyncio.ensure_future(store.put(b"hello")) for _ in range(6)]
        for task in tasks[:-1]:
            while not task.done():
                await asyncio.sleep(0)
                task.cancel()
        assert (await tasks[-1]).size_bytes == 5

    asyncio.run(scene())


def test_loops_in_different_threads_do_not_wait_for_each_other(memory):
    # The other loop may be closed before it has finished anything.
    objects = Watched(MemoryObjects(memory, ASYNCIO))
    store = PayloadStore(objects)
    inside, leave = threading.Event(), threading.Event()

    def hold_the_first(_name: str) -> None:
        if not inside.is_set():
            inside.set()
            leave.wait(10)

    objects.before = hold_the_first
    first = threading.Thread(target=lambda: asyncio.run(store.put(b"hello")))
    first.start()
    assert inside.wait(10)
    asyncio.run(store.put(b"hello"))
    leave.set()
    first.join()
    assert objects.calls.count("put") == 2


def test_a_loop_that_closes_in_the_midst_leaves_nothing_behind(memory):
    objects = Watched(MemoryObjects(memory, ASYNCIO))
    store = PayloadStore(objects)

    async def abandon() -> None:
        asyncio.ensure_future(store.put(b"hello"))  # noqa: RUF006 - it is to be abandoned
        asyncio.ensure_future(store.put(b"hello"))  # noqa: RUF006
        await asyncio.sleep(0)

    for _ in range(3):
        asyncio.run(abandon())
    objects.calls.clear()
    asyncio.run(store.put(b"hello"))
    assert objects.calls[0] == "put"
    assert store._transfer._stores._flights == {}


@both_faces
def test_what_flights_share_may_be_none(face):
    flights: Flights[None] = Flights()
    runtime = face.backend.runtime
    done = []

    async def work() -> None:
        done.append(1)
        await runtime.sleep(0)

    async def ask() -> None:
        await flights.share("name", work, runtime)

    face.run(runtime.gather([ask] * 5, limit=5))
    assert done == [1]

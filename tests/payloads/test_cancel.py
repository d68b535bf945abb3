"""Cancelled or interrupted anywhere: no open upload, no half object, no byte of the budget lost."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from coatcheck import errors
from coatcheck.objects.memory import MemoryObjects, forget
from coatcheck.payloads.store import PayloadStore
from coatcheck.payloads.transfer import Transfer
from coatcheck.runtime.budget import ByteBudget
from coatcheck.types import Digest
from tests.payloads.support import PART, TakesParts, Watched, payload, stored
from tests.s3.support import Face, both_faces

SMALL = payload(1000, seed=1)
LARGE = payload(2 * PART + 1, seed=2)
TURNS = 200
"""More turns than any operation here takes; reaching the end is asserted."""


class Stop(Exception):
    """What ends the sibling of the operation under test, and so cancels it."""


def cancel_after(face: Face, turns: int, job: Callable[[], Coroutine[Any, Any, object]]) -> bool:
    """Start `job` and cancel it after so many turns; return whether it was quicker."""
    finished = []

    async def run() -> None:
        await job()
        finished.append(True)

    async def on_asyncio() -> None:
        task = asyncio.ensure_future(run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def stop() -> None:
        for _ in range(turns):
            await face.backend.runtime.sleep(0)
        raise Stop

    if face.name == "asyncio":
        asyncio.run(on_asyncio())
    else:
        with pytest.raises(Stop):
            face.run(face.backend.runtime.gather([run, stop], limit=2))
    return bool(finished)


def sweep(face: Face, begin: Callable[[], tuple[Any, Callable[[bool], None]]]) -> int:
    """Cancel an operation after 0, 1, 2 ... turns until it is quicker; return how many that took.

    `begin` makes, anew each time, the operation and a function that checks what it has left.
    """
    for turns in range(TURNS):
        job, check = begin()
        finished = cancel_after(face, turns, job)
        check(finished)
        if finished:
            return turns
    raise AssertionError("the operation did not end")


@both_faces
@pytest.mark.parametrize("size", [0, 9, 10, 11, 95])
def test_a_transfer_cancelled_at_any_turn_leaves_all_or_nothing(face, memory, size):
    data = payload(size, seed=3)
    digest = Digest.of(data)
    budget = ByteBudget(25)
    shelf = MemoryObjects(memory, face.backend.runtime)

    def begin_store():
        face.run(shelf.delete("key"))
        objects = TakesParts(shelf)
        transfer = Transfer(objects, part_size_bytes=10, budget=budget)

        def check(finished: bool) -> None:
            assert objects.open_uploads == set()
            assert stored(memory).get("key", data) == data
            assert not finished or "key" in stored(memory)
            assert budget.free_bytes == 25
            assert transfer._stores._flights == {}

        return lambda: transfer.store("key", data, digest), check

    def begin_fetch():
        transfer = Transfer(TakesParts(shelf), part_size_bytes=10, budget=budget)

        def check(finished: bool) -> None:
            assert budget.free_bytes == 25
            assert transfer._fetches._flights == {}
            assert face.run(transfer.fetch("key", digest, limit_bytes=100)) == data

        return lambda: transfer.fetch("key", digest, limit_bytes=100), check

    assert sweep(face, begin_store) >= (2 if size <= 10 else 5), "it was cancelled in its midst"
    assert sweep(face, begin_fetch) >= 1


@both_faces
def test_a_batch_cancelled_at_any_turn_can_be_repeated(face, memory):
    data = [payload(100, seed) for seed in range(10)] * 2
    objects = Watched(MemoryObjects(memory, face.backend.runtime))
    store = PayloadStore(objects)

    def begin():
        def check(finished: bool) -> None:
            assert store._transfer._stores._flights == {}
            forget(memory)

        return lambda: store.put_many(data), check

    assert sweep(face, begin) >= 2
    assert face.run(store.get_many(face.run(store.put_many(data)))) == data


@both_faces
@pytest.mark.parametrize("failing", ["head", "begin_upload", "send_part", "complete"])
@pytest.mark.parametrize(
    "error", [errors.Unavailable, errors.Forbidden, KeyboardInterrupt, MemoryError]
)
def test_an_upload_that_fails_anywhere_is_aborted_and_the_failure_told(
    face, memory, failing, error
):
    objects = TakesParts(MemoryObjects(memory, face.backend.runtime))
    store = PayloadStore(objects, part_size_bytes=PART)

    def fail(name: str) -> None:
        if name == failing:
            raise error("it failed")

    objects.before = fail
    if (failing, error) == ("head", errors.Forbidden):
        face.run(store.put(LARGE))  # who may not look may still store
    else:
        with pytest.raises(error):
            face.run(store.put(LARGE))
        assert stored(memory) == {}
    if failing != "begin_upload":  # an upload whose id never arrived cannot be aborted by anybody
        assert objects.open_uploads == set()
    objects.before = lambda name: None
    assert face.run(store.get(face.run(store.put(LARGE)))) == LARGE


@both_faces
def test_an_abort_that_fails_does_not_hide_the_first_failure(face, memory, caplog):
    objects = TakesParts(MemoryObjects(memory, face.backend.runtime))
    store = PayloadStore(objects, part_size_bytes=PART)

    def fail(name: str) -> None:
        if name == "send_part":
            raise errors.Throttled("busy")
        if name == "abort":
            raise errors.Unavailable("down")

    objects.before = fail
    with pytest.raises(errors.Throttled):
        face.run(store.put(LARGE))
    assert "could not be aborted" in caplog.text


@both_faces
@pytest.mark.parametrize(
    "failing", [None, "put", "head", "get", "get_into", "send_part", "complete"]
)
def test_the_budget_is_whole_again_after_success_and_every_failure(face, memory, failing):
    budget = ByteBudget(2 * PART)
    objects = TakesParts(MemoryObjects(memory, face.backend.runtime))
    transfer = Transfer(objects, part_size_bytes=PART, budget=budget)
    lowest = []

    def fail(name: str) -> None:
        lowest.append(budget.free_bytes)
        if name == failing:
            raise errors.Unavailable("down")

    objects.before = fail
    for data in (SMALL, LARGE):
        digest = Digest.of(data)
        for job in (
            lambda digest=digest, data=data: transfer.store(digest.hex, data, digest),
            lambda digest=digest: transfer.fetch(digest.hex, digest, limit_bytes=10**9),
        ):
            try:
                face.run(job())
            except (errors.Unavailable, errors.NotFound):
                assert failing is not None
            assert budget.free_bytes == 2 * PART
    assert min(lowest) < 2 * PART, "it was used"


@both_faces
def test_no_more_than_the_budget_is_in_flight(face, memory):
    budget = ByteBudget(2 * PART)
    objects = TakesParts(MemoryObjects(memory, face.backend.runtime))
    transfer = Transfer(objects, part_size_bytes=PART, budget=budget)
    data = payload(6 * PART, seed=7)
    digest = Digest.of(data)
    held = []
    objects.before = lambda name: held.append(2 * PART - budget.free_bytes)

    async def there_and_back() -> bytes:
        await transfer.store("key", data, digest)
        return await transfer.fetch("key", digest, limit_bytes=len(data))

    assert face.run(there_and_back()) == data
    assert max(held) == 2 * PART


@both_faces
def test_a_part_larger_than_the_budget_is_served_alone(face, memory):
    transfer = Transfer(
        TakesParts(MemoryObjects(memory, face.backend.runtime)),
        part_size_bytes=PART,
        budget=ByteBudget(1000),
    )
    digest = Digest.of(LARGE)

    async def there_and_back() -> bytes:
        await transfer.store("key", LARGE, digest)
        return await transfer.fetch("key", digest, limit_bytes=len(LARGE))

    assert face.run(there_and_back()) == LARGE

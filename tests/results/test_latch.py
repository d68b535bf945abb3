"""The latch: opens once, whoever arrives when, however often, wherever it crashes."""

import random
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from coatcheck.errors import ConfigError
from coatcheck.objects.memory import forget
from coatcheck.objects.port import ObjectStore
from coatcheck.results import latch as latch_module
from coatcheck.results import scratch
from coatcheck.results.latch import FAN_IN, Arrival, Latch
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.testing import S3Server
from tests.results.support import Crash, Lax, Watched, crash_points, on_server, open_blocking

SIZES = [1, 2, FAN_IN - 1, FAN_IN, FAN_IN + 1, 2 * FAN_IN, FAN_IN**2, FAN_IN**2 + 1]

Wrap = Callable[[ObjectStore], ObjectStore]


@pytest.fixture
def objects() -> Iterator[ObjectStore]:
    name = uuid.uuid4().hex
    yield open_blocking(f"memory://{name}")
    forget(name)


@pytest.fixture(params=["strict", "lax"])
def any_objects(
    request: pytest.FixtureRequest, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> ObjectStore:
    """A store that keeps conditions, and one that does not."""
    monkeypatch.setattr(latch_module, "CLAIM_PAUSE_SECONDS", 0.0)
    return objects if request.param == "strict" else Lax(objects)


def keys(objects: ObjectStore) -> list[str]:
    async def listing() -> list[str]:
        return [info.key async for info in objects.list("")]

    return BLOCKING.run(listing())


def arrive_all(latch: Latch, order: list[int]) -> list[int]:
    """Let the parts arrive in this order; return the one that is told that it is the last."""
    return [part for part in order if BLOCKING.run(latch.arrive(part)) is not Arrival.EARLY]


@pytest.mark.parametrize("size", SIZES)
def test_opens_for_the_part_that_arrives_last(any_objects: ObjectStore, size: int) -> None:
    order = random.Random(size).sample(range(size), size)
    assert arrive_all(Latch(any_objects, "latch/", size), order) == [order[-1]]


def test_a_thousand_parts_take_little_more_than_two_requests_each(objects: ObjectStore) -> None:
    watched = Watched(objects)
    assert arrive_all(Latch(watched, "latch/", 1000), list(range(1000))) == [999]
    probe, claim, folders = 4, 1, 2 * 32
    assert len(watched.requests) == 2 * 1000 + folders + claim + probe


@pytest.mark.parametrize("size", [1, 3, FAN_IN + 1])
def test_parts_that_come_again_do_not_open_it_early_or_twice(
    any_objects: ObjectStore, size: int
) -> None:
    latch = Latch(any_objects, "latch/", size)
    for part in range(size - 1):
        assert arrive_all(latch, [part, part, 0]) == []
    assert arrive_all(latch, [size - 1]) == [size - 1]
    BLOCKING.run(latch.close(size - 1))
    assert arrive_all(latch, list(range(size)) * 2) == []


def test_leaves_one_object_when_closed(any_objects: ObjectStore) -> None:
    latch = Latch(any_objects, "latch/", FAN_IN + 1)
    arrive_all(latch, list(range(FAN_IN + 1)))
    BLOCKING.run(latch.close(FAN_IN))
    assert keys(any_objects) == ["latch/done"]


def test_the_last_part_is_told_again_until_it_has_acted(any_objects: ObjectStore) -> None:
    latch = Latch(any_objects, "latch/", 3)
    arrive_all(latch, [0, 1, 2])
    assert [BLOCKING.run(latch.arrive(part)) for part in (2, 0, 1, 2)] == [
        Arrival.LAST_AGAIN,
        Arrival.EARLY,
        Arrival.EARLY,
        Arrival.LAST_AGAIN,
    ]
    BLOCKING.run(latch.close(2))
    assert BLOCKING.run(latch.arrive(2)) is Arrival.EARLY


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("crashing", [0, 5, FAN_IN - 1, FAN_IN])
def test_a_part_that_crashes_anywhere_and_comes_again_opens_it(
    objects: ObjectStore, crashing: int, moment: str
) -> None:
    """Whichever part it is, and whichever request it crashes at, some part is told in the end.

    The crashing part acts when it is told; a crash in `close` counts as a crash after acting.
    """
    size = FAN_IN + 1
    points = []

    def run(hook: Callable[[str, str], None]) -> None:
        prefix = f"{uuid.uuid4().hex}/"
        healthy = Latch(objects, prefix, size)
        told = arrive_all(healthy, [part for part in range(size) if part != crashing])
        assert told == []
        watched = Watched(objects)
        setattr(watched, moment, hook)
        acted = []
        try:
            if BLOCKING.run(Latch(watched, prefix, size).arrive(crashing)) is not Arrival.EARLY:
                acted.append("first")
                BLOCKING.run(Latch(watched, prefix, size).close(crashing))
        except Crash:
            told = arrive_all(healthy, [crashing])
            acted += ["again" for _ in told]
            for part in told:
                BLOCKING.run(healthy.close(part))
            assert acted in (["again"], ["first", "again"], ["first"])
            assert arrive_all(healthy, list(range(size))) == []
            raise
        assert acted == ["first"]

    points = list(crash_points(run))
    assert len(points) >= 6


@pytest.mark.parametrize("seed", range(20))
def test_crashes_and_duplicates_in_any_order(objects: ObjectStore, seed: int) -> None:
    """Every part comes at least once without crashing; nobody acts before all have come."""
    chance = random.Random(seed)
    size = chance.choice([2, 5, FAN_IN, FAN_IN + 3])
    watched = Watched(objects)
    latch = Latch(watched, "latch/", size)
    arrived: set[int] = set()
    acted = 0

    def stumble(name: str, key: str) -> None:
        if chance.random() < 0.1:
            raise Crash

    watched.before = stumble
    waiting = list(range(size)) * 2
    chance.shuffle(waiting)
    while waiting:
        part = waiting.pop()
        arrived.add(part)  # a crash may come after its mark was written
        try:
            if BLOCKING.run(latch.arrive(part)) is not Arrival.EARLY:
                assert len(arrived) == size
                acted += 1
                BLOCKING.run(latch.close(part))
        except Crash:
            waiting.insert(chance.randrange(len(waiting) + 1), part)
    assert acted >= 1


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_of_parts_that_arrive_at_once_one_is_told(s3_server: S3Server, bucket: str) -> None:
    size = 40
    for _ in range(2):
        prefix = f"{uuid.uuid4().hex}/"
        told: list[int] = []
        gate = threading.Barrier(8)

        def work(
            first: int, gate: threading.Barrier = gate, prefix: str = prefix, told: list[int] = told
        ) -> None:
            latch = Latch(on_server(s3_server, bucket), prefix, size)
            gate.wait()
            told += arrive_all(latch, list(range(first, size, 8)))

        threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == 1


def test_two_that_claim_at_once_without_conditions_agree_on_one(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen that nobody has claimed yet, and both have written: the later write stands."""
    monkeypatch.setattr(latch_module, "CLAIM_PAUSE_SECONDS", 0.3)
    lax = Lax(objects)
    arrive_all(Latch(lax, "latch/", 3), [0])
    told: list[int] = []
    both_have_looked = threading.Barrier(2)

    def work(part: int) -> None:
        watched = Watched(lax)
        watched.after = lambda name, key: None

        def before(name: str, key: str) -> None:
            if name == "list" or (name == "put" and key.endswith("done")):
                both_have_looked.wait()

        latch = Latch(watched, "latch/", 3)
        BLOCKING.run(scratch.compares(watched, "latch/"))
        watched.before = before
        told.extend(arrive_all(latch, [part]))

    threads = [threading.Thread(target=work, args=(part,)) for part in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1


@pytest.mark.parametrize("part", [-1, 3])
def test_a_part_that_is_not_of_the_latch_is_refused(objects: ObjectStore, part: int) -> None:
    with pytest.raises(ConfigError, match="of 3"):
        BLOCKING.run(Latch(objects, "latch/", 3).arrive(part))


def test_a_latch_without_parts_is_refused(objects: ObjectStore) -> None:
    with pytest.raises(ConfigError, match="0 parts"):
        Latch(objects, "latch/", 0)

"""Groups, chains and chords in every combination, run by real workers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import Celery, chain, chord, group

from tests.integrations.celery.tasks import (
    add,
    die,
    fail,
    note,
    replaced_by_chord,
    report_progress,
    succeed_on_third,
    total,
)
from tests.integrations.celery.workers import Worker

WAIT_SECONDS = 60

pytestmark = pytest.mark.parametrize("served", ["moto", "rclone"], indirect=True)

Served = tuple[Celery, Worker]


def run(served: Served, signature: Any) -> Any:
    """Send `signature` and return its result, or the exception that it ended with."""
    sent = signature.apply_async()
    return sent.get(timeout=WAIT_SECONDS, interval=0.05)


inner = chord([add.s(1, 1), add.s(2, 2)], total.s())

GOOD: dict[str, tuple[Callable[[], Any], Any]] = {
    "a task": (lambda: add.s(1, 2), 3),
    "a task that is retried": (lambda: succeed_on_third.s(), 2),
    "a task that tells its progress": (lambda: report_progress.s(), "done"),
    "a group": (lambda: group(add.s(n, n) for n in range(40)), [2 * n for n in range(40)]),
    "a chord": (lambda: chord([add.s(n, n) for n in range(10)], total.s()), 90),
    "a chord of over one folder of marks": (
        lambda: chord([add.s(n) for n in range(70)], total.s()),
        sum(range(70)),
    ),
    "a chord of one": (lambda: chord([add.s(1, 1)], total.s()), 2),
    "a chord of a generator": (lambda: chord((add.s(n) for n in range(5)), total.s()), 10),
    "groups in a chain": (
        lambda: chain(
            group(add.s(1), add.s(2)), total.s(), group(add.s(n) for n in range(3)), total.s()
        ),
        12,
    ),
    "a chord in a header": (lambda: chord([inner, add.s(1, 1)], total.s()), 8),
    "a chord in a header in a header": (
        lambda: chord([chord([inner, add.s(1)], total.s()), add.s(1)], total.s()),
        8,
    ),
    "a group in a header": (
        lambda: chord([group([add.s(n, n) for n in range(3)]), add.s(1, 1)], total.s()),
        8,
    ),
    "a group in a generator": (
        lambda: chord(iter([group([add.s(n, n) for n in range(3)]), add.s(1, 1)]), total.s()),
        8,
    ),
    "a chord with a group as body, in a header": (
        lambda: chord(
            [chord([add.s(n, n) for n in range(3)], group(total.s(), total.s())), add.s(1, 1)],
            total.s(),
        ),
        14,
    ),
    "a chain in a header": (
        lambda: chord([chain(add.s(1, 1), add.s(5), add.s(7)), add.s(1, 1)], total.s()),
        16,
    ),
    "a chord in a chain in a header": (
        lambda: chord(
            [chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s()), add.s(1, 1)], total.s()
        ),
        9,
    ),
    "a chain as body": (lambda: chord([add.s(1, 1)] * 3, chain(total.s(), add.s(1))), 7),
    "a chord as body": (
        lambda: chord([add.s(1, 1)] * 3, chord([total.s(), total.s()], total.s())),
        12,
    ),
    "a task that becomes a chord, in a header": (
        lambda: chord([replaced_by_chord.s(3), add.s(1, 1)], total.s()),
        8,
    ),
}

BAD: dict[str, Callable[[], Any]] = {
    "a part": lambda: chord([add.s(1, 1), fail.s()], total.s()),
    "every part": lambda: chord([fail.s()] * 5, total.s()),
    "the body": lambda: chord([add.s(1, 1)] * 2, fail.si()),
    "a part of an inner chord": lambda: chord(
        [chord([add.s(1, 1), fail.s()], total.s()), add.s(1, 1)], total.s()
    ),
    "a part of an inner chord with a chain as body": lambda: chord(
        [chord([add.s(1, 1), fail.s()], chain(total.s(), add.s(1))), add.s(1, 1)], total.s()
    ),
    "a part of an inner chord with a group as body": lambda: chord(
        [chord([add.s(1, 1), fail.s()], group(total.s(), total.s())), add.s(1, 1)], total.s()
    ),
    "a part whose body is a chord": lambda: chord(
        [add.s(1, 1), fail.s()], chord([total.s()] * 2, total.s())
    ),
    "the body of an inner chord": lambda: chord(
        [chord([add.s(1, 1)], fail.si()), add.s(1, 1)], total.s()
    ),
    "the middle of a chain in a header": lambda: chord(
        [chain(add.s(1, 1), fail.si(), add.s(1)), add.s(1, 1)], total.s()
    ),
}


HANGS_BEFORE = {
    "a part of an inner chord with a chain as body": (5, 7),
    "a part of an inner chord with a group as body": (5, 6),
}
"""The versions of Celery until which the failure is lost, whatever the backend."""


@pytest.mark.parametrize("name", GOOD)
def test_comes_to_its_result(served: Served, name: str) -> None:
    make, expected = GOOD[name]
    assert run(served, make()) == expected


@pytest.mark.parametrize("name", BAD)
def test_ends_with_the_error_of(served: Served, name: str) -> None:
    if HANGS_BEFORE.get(name, (0,)) > celery.VERSION:
        pytest.skip("this version of Celery loses the failure, with its own backend too")
    with pytest.raises(Exception, match="on purpose"):
        run(served, BAD[name]())


def test_a_process_that_is_killed_is_a_failure_and_not_a_wait(served: Served) -> None:
    """The parent stores it: it uses the backend after it has forked."""
    with pytest.raises(Exception, match="signal 9"):
        run(served, chord([die.s(), add.s(1, 1)], total.s()))


def test_a_chord_of_a_thousand_runs_its_body_once(served: Served, tmp_path: Path) -> None:
    path = str(tmp_path / "bodies")
    header = [add.s(n) for n in range(1000)]
    assert run(served, chord(header, chain(total.s(), note.s(path)))) == sum(range(1000))
    assert Path(path).read_text() == f"{sum(range(1000))}\n"


def test_a_group_of_a_thousand_is_joined(served: Served) -> None:
    assert run(served, group(add.s(n, 1) for n in range(1000))) == [n + 1 for n in range(1000)]


def test_no_task_polls_for_a_chord(served: Served) -> None:
    run(served, chord([add.s(1)], total.s()))
    assert "chord_unlock[" not in served[1].log()

"""Chords counted without workers: duplicates, redeliveries, and crashes before any request."""

import uuid
from typing import Any

import celery
import pytest
from celery import Celery, states
from celery.app.task import Context
from celery.result import GroupResult

from coatcheck.integrations.celery import S3Backend
from tests.results.support import Crash, Watched, crash_points

SIZE = 3


class Counted:
    """A chord of three parts in memory, and the bodies that were sent for it."""

    def __init__(self) -> None:
        app = Celery("tests", set_as_current=False)
        app.conf.update(
            broker_url="memory://", result_backend=f"coatcheck+memory://{uuid.uuid4().hex}"
        )
        backend = app.backend
        assert isinstance(backend, S3Backend)
        self.app, self.backend = app, backend
        self.gid, self.ids = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(SIZE)]
        self.body = app.signature("body", task_id=str(uuid.uuid4()))
        self.sent: list[dict[str, Any]] = []
        app.send_task = self._send
        self.requests = Watched(backend._results._store._objects)
        backend._results._store._objects = self.requests

    def _send(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        self.sent.append({"name": name, "args": tuple(args), "task_id": options["task_id"]})
        return self.app.AsyncResult(options["task_id"])

    def begin(self) -> "Counted":
        results = [self.app.AsyncResult(task_id) for task_id in self.ids]
        self.backend.apply_chord((self.gid, results), self.body)
        return self

    def finish(self, number: int, state: str = states.SUCCESS) -> None:
        """Do what a worker does when a part has come to its end."""
        request = Context(
            id=self.ids[number],
            group=self.gid,
            group_index=number,
            chord=dict(self.body),
            delivery_info={},
            retries=0,
        )
        if state == states.SUCCESS:
            self.backend.mark_as_done(request.id, number, request)
        else:
            self.backend.mark_as_failure(request.id, ValueError("on purpose"), request=request)

    def values(self) -> list[Any]:
        return [body["args"] for body in self.sent]


def test_the_body_gets_the_values_in_order() -> None:
    chord = Counted().begin()
    for number in (2, 0, 1):
        assert chord.sent == []
        chord.finish(number)
    assert chord.sent == [
        {"name": "body", "args": ([0, 1, 2],), "task_id": chord.body.options["task_id"]}
    ]


@pytest.mark.skipif(celery.VERSION < (5, 6), reason="Celery 5.5 does not number all parts")
def test_a_part_is_two_requests_beside_its_result() -> None:
    chord = Counted().begin()
    chord.finish(0)
    chord.requests.requests.clear()
    chord.finish(1)
    assert chord.requests.requests == ["put", "put", "list"]


def test_parts_that_return_many_times_send_the_body_once() -> None:
    chord = Counted().begin()
    for number in (0, 0, 1, 0, 1, 2, 2, 0, 1, 2):
        chord.finish(number)
    assert len(chord.sent) == 1


def test_where_nothing_tells_the_number_the_header_does() -> None:
    chord = Counted().begin()
    chord.body.pop("chord_size", None)
    for number in range(SIZE):
        chord.finish(number)
    assert len(chord.sent) == 1


def test_a_failed_part_fails_the_body() -> None:
    chord = Counted().begin()
    for number in range(SIZE):
        chord.finish(number, states.FAILURE if number == 1 else states.SUCCESS)
    assert chord.sent == []
    assert chord.backend.get_state(chord.body.options["task_id"]) == states.FAILURE


def test_a_process_that_is_lost_after_its_result_was_stored_still_counts() -> None:
    """The parent returns the part as failed; its result is there, and stays."""
    chord = Counted().begin()
    chord.finish(0)
    chord.finish(1)
    stored = Context(id=chord.ids[2], delivery_info={}, retries=0)
    chord.backend.store_result(chord.ids[2], 2, states.SUCCESS, request=stored)
    chord.finish(2, states.FAILURE)
    assert chord.values() == [([0, 1, 2],)]


def test_a_user_who_saved_the_header_finds_it_again() -> None:
    chord = Counted().begin()
    chord.backend.save_group(
        chord.gid, GroupResult(chord.gid, [chord.app.AsyncResult(i) for i in chord.ids])
    )
    for number in range(SIZE):
        chord.finish(number)
    assert [r.id for r in chord.backend.restore_group(chord.gid)] == chord.ids


def test_a_part_of_no_chord_of_ours_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """One that Celery's own backend began, and watches by polling."""
    chord = Counted()
    chord.finish(0)
    assert chord.sent == []
    assert "returned to no header" in caplog.text


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("runs_at_once", [False, True])
def test_a_crash_anywhere_in_the_last_part_sends_the_body_when_it_comes_again(
    moment: str, runs_at_once: bool
) -> None:
    """Killed at any request and redelivered: always sent; again only with the same task id."""
    counts = []

    def run(hook: Any) -> None:
        chord = Counted().begin()
        chord.finish(0)
        chord.finish(1)
        setattr(chord.requests, moment, hook)
        try:
            chord.finish(2)
        except Crash:
            setattr(chord.requests, moment, lambda name, key: None)
            if chord.sent and runs_at_once:
                chord.backend.store_result(chord.sent[0]["task_id"], 3, states.SUCCESS)
            chord.finish(2)
            raise
        finally:
            counts.append(len(chord.sent))
            assert {body["task_id"] for body in chord.sent} == {chord.body.options["task_id"]}
            assert {str(body["args"]) for body in chord.sent} == {"([0, 1, 2],)"}

    points = list(crash_points(run))
    assert len(points) >= 9
    assert set(counts) <= ({1} if runs_at_once else {1, 2})

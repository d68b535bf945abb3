"""Cancelled or interrupted at each request of an operation: nothing more is sent, nothing stays."""

import asyncio
import gc
import time

import pytest

from coatcheck.errors import Unsupported
from coatcheck.objects.blocking import BlockingObjectStore
from coatcheck.testing import reply
from coatcheck.types import IfAbsent
from tests.s3.support import FACES, all_of, interrupting

ASYNCIO, BLOCKING = FACES
OK = reply(200, headers={"ETag": '"e"', "x-amz-request-id": "R"})
LOST = OK.reset()
SCRIPTS = {
    "in the first attempt": ([OK.stalled()], 1),
    "while it asks what was done": ([LOST, OK.stalled()], 2),
    "in the second attempt": ([LOST, reply(404), OK.stalled()], 3),
}
where = pytest.mark.parametrize(("script", "requests"), SCRIPTS.values(), ids=SCRIPTS)


@where
def test_a_cancelled_task_ends_at_once_and_hangs_up(fault_server, script, requests):
    _, hurried = ASYNCIO.hurried()
    objects = hurried.objects(fault_server.endpoint)

    async def cancelled() -> None:
        fault_server.play(script)
        task = asyncio.ensure_future(objects.put("k", b"data", condition=IfAbsent()))
        await asyncio.to_thread(fault_server.wait_for_requests, requests)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 0.5
        await asyncio.to_thread(fault_server.wait_for_disconnect)
        assert len(fault_server.requests) == requests
        fault_server.play(OK)
        await objects.put("k", b"data", condition=IfAbsent())

    asyncio.run(cancelled())
    assert len(fault_server.requests) == requests + 1


def test_a_task_cancelled_in_its_pause_sends_no_more(fault_server):
    fault_server.play(reply(503, headers={"Retry-After": "60"}))
    objects = ASYNCIO.objects(fault_server.endpoint)

    async def cancelled() -> None:
        task = asyncio.ensure_future(objects.head("k"))
        await asyncio.to_thread(fault_server.wait_for_requests, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.05)

    asyncio.run(cancelled())
    assert len(fault_server.requests) == 1


class Interruption(Exception):
    """What a signal handler raises, as Celery's does for the soft time limit."""


@where
@pytest.mark.parametrize("error", [Interruption, KeyboardInterrupt])
def test_an_interrupted_call_ends_at_once_and_hangs_up(fault_server, script, requests, error):
    _, hurried = BLOCKING.hurried()
    objects = hurried.objects(fault_server.endpoint)
    fault_server.play(script)
    started = time.monotonic()
    with interrupting(fault_server, requests, error), pytest.raises(error):
        hurried.run(objects.put("k", b"data", condition=IfAbsent()))
    assert time.monotonic() - started < 2
    fault_server.wait_for_disconnect()
    assert len(fault_server.requests) == requests
    fault_server.play(OK)
    hurried.run(objects.put("k", b"data", condition=IfAbsent()))


def test_a_call_interrupted_in_its_pause_sends_no_more(fault_server):
    fault_server.play(reply(503, headers={"Retry-After": "60"}))
    started = time.monotonic()
    with interrupting(fault_server, 1, Interruption), pytest.raises(Interruption):
        BLOCKING.run(BLOCKING.objects(fault_server.endpoint).head("k"))
    assert time.monotonic() - started < 2
    assert len(fault_server.requests) == 1


def test_a_listing_that_is_left_early_sends_no_more_and_leaves_nothing_open(fault_server):
    page = (
        b"<R><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        b"<Contents><Key>a</Key><Size>1</Size></Contents></R>"
    )
    fault_server.play(reply(200, page))

    async def first() -> str:
        async for info in ASYNCIO.objects(fault_server.endpoint).list():
            return info.key
        return ""

    assert asyncio.run(first()) == "a"
    plain = BlockingObjectStore(BLOCKING.objects(fault_server.endpoint))
    assert next(plain.list()).key == "a"
    gc.collect()  # an iterator that is thrown away must not warn
    assert len(fault_server.requests) == 2


def test_a_listing_that_repeats_itself_is_refused(fault_server):
    page = b"<R><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></R>"
    fault_server.play(reply(200, page))
    for face in FACES:
        with pytest.raises(Unsupported, match="does not go on"):
            face.run(all_of(face.objects(fault_server.endpoint).list()))
    assert len(fault_server.requests) == 4

"""How often, after what pause, and for how long the client tries: counted at a real server."""

import asyncio
import socket
import time
from email.utils import formatdate

import pytest

from coatcheck import errors
from coatcheck.s3 import operations
from coatcheck.s3.errors import Again, Failure
from coatcheck.s3.retries import LONGEST_PAUSE_SECONDS, RetryBudget, pause_seconds
from coatcheck.testing import garbage, reply, s3_error
from coatcheck.testing.servers import free_port
from tests.s3.support import FACES, both_faces

ASYNCIO = FACES[0]
OK = reply(200, b"body", {"ETag": '"e"'})
GET = operations.get_object("key", None, limit_bytes=1000, headers={})
PUT = operations.put_object("key", b"data", payload_hash=None, headers={})
BUSY = s3_error(503, "SlowDown")
FAILED = s3_error(500, "InternalError")


def methods(server) -> list[str]:
    return [request.method for request in server.requests]


@both_faces
@pytest.mark.parametrize(
    "trouble",
    [
        FAILED,
        BUSY,
        reply(500),
        reply(502, b"<html>Bad Gateway</html>"),
        reply(503),
        reply(504),
        reply(429),
        reply(408),
        s3_error(409, "ConditionalRequestConflict"),
        s3_error(409, "OperationAborted"),
        s3_error(400, "RequestTimeout"),
        s3_error(400, "BadDigest"),
        OK.closed(),
        OK.reset(),
        OK.closed(after_body_bytes=0),
        OK.closed(after_body_bytes=2),
        OK.reset(after_body_bytes=2),
        garbage(),
    ],
)
def test_trouble_that_may_pass_is_tried_again_and_passes(face, fault_server, trouble):
    _, hurried = face.hurried()
    fault_server.play([trouble, trouble, OK])
    fetched = hurried.run(hurried.client(fault_server.endpoint).send("bucket", GET))
    assert fetched is not None
    assert fetched.body == b"body"
    assert methods(fault_server) == ["GET"] * 3


@both_faces
def test_a_retried_put_sends_the_same_bytes_again(face, fault_server):
    _, hurried = face.hurried()
    fault_server.play([FAILED, OK.reset(), reply(200, headers={"ETag": '"e"'})])
    hurried.run(hurried.client(fault_server.endpoint).send("bucket", PUT))
    assert [request.body for request in fault_server.requests] == [b"data"] * 3


@both_faces
@pytest.mark.parametrize("behaviour", [s3_error(404, "NoSuchKey"), reply(403), reply(412)])
def test_what_will_not_pass_is_asked_once(face, fault_server, behaviour):
    runtime, hurried = face.hurried()
    fault_server.play(behaviour)
    with pytest.raises(errors.CoatcheckError):
        hurried.run(hurried.client(fault_server.endpoint).send("bucket", GET))
    assert len(fault_server.requests) == 1
    assert runtime.pauses == []


@both_faces
@pytest.mark.parametrize("max_attempts", [1, 2, 7])
def test_attempts_are_counted_exactly_and_told(face, fault_server, max_attempts):
    runtime, hurried = face.hurried()
    fault_server.play(FAILED)
    client = hurried.client(fault_server.endpoint, max_attempts=max_attempts)
    with pytest.raises(errors.Unavailable) as caught:
        hurried.run(client.send("bucket", GET))
    assert len(fault_server.requests) == max_attempts
    assert len(runtime.pauses) == max_attempts - 1
    assert caught.value.diagnostics.attempts == max_attempts


@both_faces
def test_a_server_that_is_down_is_tried_again_and_then_told_as_unavailable(face):
    runtime, hurried = face.hurried()
    client = hurried.client(f"http://127.0.0.1:{free_port()}", max_attempts=3)
    with pytest.raises(errors.Unavailable, match="no reply") as caught:
        hurried.run(client.send("bucket", GET))
    assert isinstance(caught.value, ConnectionError)
    assert "server runs" in caught.value.remedy
    assert len(runtime.pauses) == 2


@both_faces
def test_a_retry_after_a_lost_connection_uses_a_new_one(face, fault_server):
    _, hurried = face.hurried()
    fault_server.play([OK, OK.reset(), OK])
    client = hurried.client(fault_server.endpoint)

    async def twice():
        await client.send("bucket", GET)
        await client.send("bucket", GET)

    hurried.run(twice())
    first, second, third = (request.connection for request in fault_server.requests)
    assert first == second != third


@both_faces
@pytest.mark.parametrize(
    ("trouble", "ceilings"),
    [(FAILED, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8]), (BUSY, [0.5, 1, 2, 4, 8, 16, 20, 20])],
)
@pytest.mark.parametrize("chance", [0.0, 0.25, 0.999999])
def test_pauses_are_the_whole_range_up_to_a_doubling_ceiling(
    face, fault_server, trouble, ceilings, chance
):
    runtime, hurried = face.hurried()
    runtime.chance = chance
    fault_server.play(trouble)
    client = hurried.client(fault_server.endpoint, max_attempts=9)
    with pytest.raises(errors.CoatcheckError):
        hurried.run(client.send("bucket", GET))
    drawn = [chance * ceiling for ceiling in ceilings]
    # A pause of nothing is none.
    assert runtime.pauses == pytest.approx([pause for pause in drawn if pause])


def test_the_thousandth_pause_is_no_longer_than_the_longest():
    runtime, _ = ASYNCIO.hurried()
    failure = Failure(errors.Throttled("busy"), Again.LATER)
    assert pause_seconds(failure, 5000, runtime) == LONGEST_PAUSE_SECONDS


@both_faces
def test_retry_after_in_seconds_is_obeyed(face, fault_server):
    runtime, hurried = face.hurried()
    runtime.chance = 0.0
    fault_server.play([reply(503, headers={"Retry-After": "7"}), OK])
    hurried.run(hurried.client(fault_server.endpoint).send("bucket", GET))
    assert runtime.pauses == [7.0]


@both_faces
def test_retry_after_as_a_date_is_obeyed(face, fault_server):
    runtime, hurried = face.hurried()
    runtime.chance = 0.0
    when = formatdate(time.time() + 30, usegmt=True)
    fault_server.play([reply(429, headers={"Retry-After": when}), OK])
    hurried.run(hurried.client(fault_server.endpoint).send("bucket", GET))
    assert runtime.pauses == [pytest.approx(30, abs=2)]


@both_faces
@pytest.mark.parametrize("wait", ["100", "999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_beyond_the_deadline_ends_the_call_at_once(face, fault_server, wait):
    runtime, hurried = face.hurried()
    fault_server.play(reply(503, headers={"Retry-After": wait}))
    client = hurried.client(fault_server.endpoint, request_timeout_seconds=60)
    started = time.monotonic()
    with pytest.raises(errors.Throttled):
        hurried.run(client.send("bucket", GET))
    assert runtime.pauses == []
    assert len(fault_server.requests) == 1
    assert time.monotonic() - started < 5


@both_faces
def test_a_storm_costs_a_hundred_retries_and_then_one_request_for_each_call(face, fault_server):
    runtime, hurried = face.hurried()
    fault_server.play(BUSY)
    client = hurried.client(fault_server.endpoint, max_attempts=5)

    async def storm(calls: int) -> None:
        for _ in range(calls):
            with pytest.raises(errors.Throttled):
                await client.send("bucket", GET)

    hurried.run(storm(25))
    assert len(fault_server.requests) == 25 + 100
    hurried.run(storm(15))
    assert len(fault_server.requests) == 40 + 100
    assert len(runtime.pauses) == 100


@both_faces
def test_after_a_storm_successes_pay_for_retries_again(face, fault_server):
    _, hurried = face.hurried()
    client = hurried.client(fault_server.endpoint, max_attempts=50)

    async def call() -> bool:
        try:
            return await client.send("bucket", GET) is not None
        except errors.Throttled:
            return False

    async def calls(count: int) -> list[bool]:
        return [await call() for _ in range(count)]

    fault_server.play(BUSY)
    hurried.run(calls(5))
    spent = len(fault_server.requests)
    assert spent == 5 + 100
    fault_server.play(OK)
    assert hurried.run(calls(5)) == [True] * 5
    fault_server.play([BUSY, OK])
    assert hurried.run(calls(1)) == [True], "five successes pay for one retry"


def test_the_budget_never_holds_more_than_it_began_with():
    budget = RetryBudget()
    for _ in range(1000):
        budget.refund()
    assert sum(budget.draw() for _ in range(1000)) == 100


@both_faces
@pytest.mark.parametrize(
    "silence", [OK.stalled(), OK.stalled(after_body_bytes=0), OK.stalled(after_body_bytes=2)]
)
def test_a_server_that_never_ends_its_answer_costs_the_deadline_and_no_more(
    face, fault_server, silence
):
    fault_server.play(silence)
    client = face.client(fault_server.endpoint, request_timeout_seconds=0.4)
    started = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded) as caught:
        face.run(client.send("bucket", GET))
    elapsed = time.monotonic() - started
    assert 0.4 <= elapsed < 0.9
    assert isinstance(caught.value, TimeoutError)
    assert "request_timeout_seconds" in caught.value.remedy
    assert caught.value.diagnostics.key == "key"
    assert len(fault_server.requests) == 1


@both_faces
def test_a_black_hole_costs_the_deadline_and_no_more(face):
    # A listener whose queue is full answers no further connection.
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        port = hole.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        client = face.client(f"http://127.0.0.1:{port}", request_timeout_seconds=0.4)
        started = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            face.run(client.send("bucket", GET))
        assert 0.4 <= time.monotonic() - started < 0.9
        for filler in fillers:
            filler.close()


@both_faces
def test_pauses_and_attempts_together_keep_the_deadline(face, fault_server):
    fault_server.play(reply(500))
    client = face.client(fault_server.endpoint, request_timeout_seconds=0.5, max_attempts=1000)
    started = time.monotonic()
    with pytest.raises(errors.CoatcheckError) as caught:
        face.run(client.send("bucket", GET))
    assert time.monotonic() - started < 1.0
    assert caught.value.transient


@both_faces
def test_a_stalled_attempt_is_given_up_and_the_next_one_works(face, fault_server):
    fault_server.play([OK.stalled(after_body_bytes=2), OK])
    client = face.client(fault_server.endpoint, stall_timeout_seconds=1)
    fetched = face.run(client.send("bucket", GET))
    assert fetched is not None
    assert fetched.body == b"body"
    assert len({request.connection for request in fault_server.requests}) == 2


def test_the_deadline_counts_from_the_call_not_from_the_construction(fault_server):
    fault_server.play(OK)
    client = ASYNCIO.client(fault_server.endpoint, request_timeout_seconds=0.3)

    async def late() -> None:
        await asyncio.sleep(0.35)
        await client.send("bucket", GET)

    asyncio.run(late())
    assert len(fault_server.requests) == 1

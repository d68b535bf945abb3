"""Done, not done, unknown: what the client finds out when the reply to a write is lost.

A real server (moto, which honours conditions) carries the requests out; a fault server in front
of it loses the replies. Afterwards boto3 says what is really there.
"""

import time
from dataclasses import replace

import pytest

from coatcheck import errors
from coatcheck.objects.s3 import S3Objects
from coatcheck.testing import Reply, forward, reply, s3_error
from coatcheck.types import IfAbsent, IfMatch
from tests.s3.support import both_faces

pytestmark = pytest.mark.parametrize("s3_server", ["moto"], indirect=True)

ABSENT = IfAbsent()
LOST = reply(200).reset()
"""A request that reaches nobody: the connection breaks before it is handed on."""


class Case:
    """A bucket behind a fault server, and boto3's view of it."""

    def __init__(self, face, server, faults, bucket) -> None:
        self.runtime, self.face = face.hurried()
        self.faults = faults
        self.bucket = bucket
        self.through = forward(server.endpoint)
        self.witness = server.witness()

    def objects(self, **settings) -> S3Objects:
        return self.face.objects(self.faults.endpoint, self.bucket, **settings)

    def put(self, script, *, condition=ABSENT, body=b"ours", **settings):
        self.faults.play(script)
        return self.face.run(self.objects(**settings).put("k", body, condition=condition))

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.faults.requests]

    @property
    def stored(self) -> bytes:
        return self.witness.get_object(Bucket=self.bucket, Key="k")["Body"].read()

    def others_first(self) -> None:
        self.witness.put_object(Bucket=self.bucket, Key="k", Body=b"another's")


@pytest.fixture
def case(face, s3_server, fault_server, bucket):
    made = Case(face, s3_server, fault_server, bucket)
    yield made
    made.witness.close()


@both_faces
def test_a_put_whose_reply_was_lost_is_settled_by_one_head(case):
    info = case.put([case.through.closed(), case.through])
    assert case.methods == ["PUT", "HEAD"]
    assert (info.key, info.size_bytes) == ("k", 4)
    assert info.etag is not None
    assert case.stored == b"ours"


@both_faces
def test_a_put_that_was_not_done_is_sent_again(case):
    case.put([LOST, case.through, case.through])
    assert case.methods == ["PUT", "HEAD", "PUT"]
    assert case.stored == b"ours"


@both_faces
def test_who_may_not_look_sends_again_and_is_told(case):
    denied = s3_error(403, "AccessDenied")
    with pytest.raises(errors.Conflict):
        case.put([case.through.closed(), denied, case.through, denied])
    assert case.methods == ["PUT", "HEAD", "PUT", "HEAD"]
    assert case.stored == b"ours"


@both_faces
def test_anothers_object_is_not_taken_for_ours(case):
    case.others_first()
    with pytest.raises(errors.Conflict):
        case.put([LOST, case.through, case.through, case.through], body=b"same size")
    assert case.methods == ["PUT", "HEAD", "PUT", "HEAD"]
    assert case.stored == b"another's"


@both_faces
@pytest.mark.parametrize("question_fails", [reply(503), reply(500), LOST, reply(200, b"").closed()])
def test_a_question_that_failed_too_is_asked_again_before_conflict_is_reported(
    case, question_fails
):
    # The put was done; nobody could tell us; sent again, it meets its own object.
    info = case.put([case.through.closed(), question_fails, case.through, case.through])
    assert case.methods == ["PUT", "HEAD", "PUT", "HEAD"]
    assert info.size_bytes == 4


@both_faces
def test_a_put_that_arrives_later_than_its_successor_is_known_again(case):
    # Held up on its way, the first request is carried out between the question and the second.
    def straggler_and_second(request):
        case.through.source(request)
        return case.through.source(request)

    both = replace(case.through, source=straggler_and_second)
    info = case.put([LOST, case.through, both, case.through])
    assert case.methods == ["PUT", "HEAD", "PUT", "HEAD"]
    assert info.size_bytes == 4


@both_faces
def test_the_last_attempt_is_settled_as_well(case):
    info = case.put([case.through.closed(), case.through], max_attempts=1)
    assert case.methods == ["PUT", "HEAD"]
    assert info.size_bytes == 4


@both_faces
def test_a_last_attempt_that_was_not_done_is_reported_after_the_question(case):
    with pytest.raises(errors.Unavailable) as caught:
        case.put([LOST, case.through], max_attempts=1)
    assert case.methods == ["PUT", "HEAD"]
    assert caught.value.diagnostics.operation == "PutObject"


@both_faces
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_failing_server_may_have_done_it(case, status):
    failing = case.through.changed(lambda answer: Reply(status))
    info = case.put([failing, case.through])
    assert case.methods == ["PUT", "HEAD"]
    assert info.size_bytes == 4


@both_faces
def test_a_throttled_put_was_not_begun_and_is_not_asked_about(case):
    case.put([reply(503), case.through])
    assert case.methods == ["PUT", "PUT"]


@both_faces
def test_a_put_that_replaces_a_version_is_settled_the_same_way(case):
    case.others_first()
    etag = case.witness.head_object(Bucket=case.bucket, Key="k")["ETag"]
    case.put([case.through.closed(), case.through], condition=IfMatch(etag))
    assert case.methods == ["PUT", "HEAD"]
    assert case.stored == b"ours"


@both_faces
def test_without_a_condition_a_lost_put_is_just_sent_again(case):
    case.put([case.through.closed(), case.through], condition=None)
    assert case.methods == ["PUT", "PUT"]
    assert case.stored == b"ours"


@both_faces
def test_out_of_time_nothing_more_is_asked(case):
    started = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        case.put(case.through.stalled(), request_timeout_seconds=0.3)
    assert time.monotonic() - started < 0.8
    assert case.methods == ["PUT"]


@both_faces
def test_an_unreadable_answer_settles_nothing(case):
    # 200 without ETag, time or request id: a login page for HEAD.
    page = reply(200, headers={"Content-Type": "text/html"})
    info = case.put([case.through.closed(), page, case.through, case.through])
    assert case.methods == ["PUT", "HEAD", "PUT", "HEAD"]
    assert info.size_bytes == 4


@both_faces
def test_two_writers_have_different_marks(case):
    case.runtime.chance = 0.25
    case.put(case.through, condition=None)
    marks = set()
    for chance in (0.1, 0.7):
        case.runtime.chance = chance
        with pytest.raises(errors.Conflict):
            case.put(case.through)
        marks.add(case.faults.requests[-1].headers["x-amz-meta-coatcheck-write"])
    assert len(marks) == 2


async def _uploaded(objects: S3Objects):
    upload = await objects.begin_upload("k")
    await upload.send_part(1, b"ours")
    return await upload.complete()


@both_faces
def test_a_completion_whose_reply_was_lost_is_settled_by_one_head(case):
    case.faults.play([case.through, case.through, case.through.closed(), case.through])
    info = case.face.run(_uploaded(case.objects()))
    assert case.methods == ["POST", "PUT", "POST", "HEAD"]
    assert info.size_bytes == 4
    assert case.stored == b"ours"


@both_faces
def test_a_completion_that_was_not_done_is_sent_again(case):
    case.faults.play([case.through, case.through, LOST, case.through, case.through])
    info = case.face.run(_uploaded(case.objects()))
    assert case.methods == ["POST", "PUT", "POST", "HEAD", "POST"]
    assert info.size_bytes == 4
    assert case.stored == b"ours"


@both_faces
@pytest.mark.parametrize("body", [b"<Error><Code>InternalError</Code></Error>", b""])
def test_a_completion_that_failed_with_200_may_have_been_done(case, body):
    late_failure = case.through.with_body(body)
    case.faults.play([case.through, case.through, late_failure, case.through])
    info = case.face.run(_uploaded(case.objects()))
    assert case.methods == ["POST", "PUT", "POST", "HEAD"]
    assert info.size_bytes == 4


@both_faces
def test_an_object_of_another_upload_does_not_settle_a_completion(case):
    case.others_first()
    case.faults.play([case.through, case.through, LOST, case.through, case.through])
    case.face.run(_uploaded(case.objects()))
    assert case.methods == ["POST", "PUT", "POST", "HEAD", "POST"]
    assert case.stored == b"ours"

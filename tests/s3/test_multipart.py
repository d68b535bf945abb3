"""Multipart uploads: completed or aborted on every way out, as boto3 sees it on a real server."""

import asyncio
import random
import threading

import pytest

from coatcheck import errors
from coatcheck.objects.s3 import S3Objects
from coatcheck.payloads.transfer import Transfer
from coatcheck.testing import forward, reply, s3_error
from coatcheck.types import Digest, IfAbsent
from tests.s3.support import FACES, both_faces, interrupting

ASYNCIO, BLOCKING = FACES
PART = 5 * 1024 * 1024
DATA = random.Random(1).randbytes(PART + 1000)
DIGEST = Digest.of(DATA)
LOST = reply(200).reset()

pytestmark = pytest.mark.parametrize("s3_server", ["moto"], indirect=True)


class Case:
    """A bucket behind a fault server, and boto3's view of what was left in it."""

    def __init__(self, server, faults, bucket) -> None:
        self.faults, self.bucket = faults, bucket
        self.through = forward(server.endpoint)
        self.witness = server.witness()
        faults.play(self.through)

    def objects(self, face, **settings) -> S3Objects:
        return face.objects(self.faults.endpoint, self.bucket, **settings)

    def store(self, face, script):
        """A coroutine that stores DATA in two parts, over a server that keeps to the script."""
        self.faults.play(script)
        transfer = Transfer(self.objects(face), part_size_bytes=PART)
        return transfer.store("k", DATA, DIGEST)

    @property
    def open_uploads(self) -> list[str]:
        listed = self.witness.list_multipart_uploads(Bucket=self.bucket)
        return [upload["Key"] for upload in listed.get("Uploads", [])]

    @property
    def keys(self) -> list[str]:
        listed = self.witness.list_objects_v2(Bucket=self.bucket)
        return [item["Key"] for item in listed.get("Contents", [])]

    @property
    def methods(self) -> list[str]:
        return [step_of(request) for request in self.faults.requests]


def step_of(request) -> str:
    """What a request is in an upload: look, begin, part 1, complete, abort ..."""
    if request.method == "POST":
        return "complete" if "uploadId" in request.target else "begin"
    if request.method == "PUT":
        number = request.target.partition("partNumber=")[2].partition("&")[0]
        return f"part {number}" if number else "put"
    return {"HEAD": "look", "DELETE": "abort", "GET": "get"}[request.method]


@pytest.fixture
def case(s3_server, fault_server, bucket):
    made = Case(s3_server, fault_server, bucket)
    yield made
    made.witness.close()


@both_faces
def test_parts_in_any_order_sent_again_and_side_by_side_make_the_object(case, face):
    objects = case.objects(face)

    async def upload():
        upload = await objects.begin_upload("k")
        jobs = [
            lambda: upload.send_part(2, DATA[PART:]),
            lambda: upload.send_part(1, b"x" * PART),
        ]
        await objects.runtime.gather(jobs, limit=2)
        assert case.keys == [], "it appears when it is complete, or not at all"
        await upload.send_part(1, DATA[:PART])
        return await upload.complete()

    info = face.run(upload())
    assert info.size_bytes == len(DATA)
    assert case.witness.get_object(Bucket=case.bucket, Key="k")["Body"].read() == DATA
    assert info.etag == case.witness.head_object(Bucket=case.bucket, Key="k")["ETag"]
    assert case.open_uploads == []


@both_faces
def test_aborting_twice_or_after_completion_is_no_error(case, face):
    objects = case.objects(face)

    async def upload():
        aborted = await objects.begin_upload("aborted")
        await aborted.send_part(1, b"data")
        for _ in range(2):
            await aborted.abort()
        completed = await objects.begin_upload("completed")
        await completed.send_part(1, b"data")
        await completed.complete()
        await completed.abort()

    face.run(upload())
    assert case.open_uploads == []
    assert case.keys == ["completed"]


@both_faces
def test_a_condition_on_completion_that_does_not_hold_is_a_conflict(case, face):
    case.witness.put_object(Bucket=case.bucket, Key="k", Body=b"first")
    objects = case.objects(face)

    async def upload():
        upload = await objects.begin_upload("k")
        await upload.send_part(1, b"second")
        try:
            await upload.complete(condition=IfAbsent())
        finally:
            await upload.abort()

    with pytest.raises(errors.Conflict):
        face.run(upload())
    assert case.witness.get_object(Bucket=case.bucket, Key="k")["Body"].read() == b"first"


@both_faces
@pytest.mark.parametrize("step", ["begin", "part 1", "part 2", "complete"])
@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [(s3_error(403, "AccessDenied"), errors.Forbidden), (s3_error(400, "Odd"), errors.Unsupported)],
)
def test_a_step_that_is_refused_ends_the_upload_and_aborts_it(case, face, step, behaviour, kind):
    def refuse(request):
        return behaviour if step_of(request) == step else case.through

    with pytest.raises(kind):
        face.run(case.store(face, refuse))
    assert case.open_uploads == []
    assert case.keys == []
    assert ("abort" in case.methods) is (step != "begin")


@both_faces
@pytest.mark.parametrize("step", ["look", "part 1", "part 2", "complete"])
def test_a_step_that_failed_once_or_whose_reply_was_lost_is_mended(case, face, step):
    troubles = [LOST, s3_error(500, "InternalError"), case.through.closed()]

    def spoil(request):
        if step_of(request) == step and troubles:
            return troubles.pop(0)
        return case.through

    _, hurried = face.hurried()
    hurried.run(case.store(hurried, spoil))
    assert troubles == []
    assert case.open_uploads == []
    assert case.witness.get_object(Bucket=case.bucket, Key="k")["Body"].read() == DATA


@both_faces
def test_an_abort_whose_reply_was_lost_is_sent_again_and_is_no_error(case, face, caplog):
    aborts = [case.through.closed()]

    def spoil(request):
        step = step_of(request)
        if step == "part 2":
            return s3_error(403, "AccessDenied")
        return aborts.pop() if step == "abort" and aborts else case.through

    with pytest.raises(errors.Forbidden):
        face.run(case.store(face, spoil))
    assert case.methods.count("abort") == 2
    assert case.open_uploads == []
    assert "could not be aborted" not in caplog.text


@both_faces
def test_an_upload_that_somebody_else_ended_is_told_as_such(case, face):
    def end_first(request):
        return s3_error(404, "NoSuchUpload") if step_of(request) == "part 2" else case.through

    with pytest.raises(errors.NotFound, match="no such multipart upload") as caught:
        face.run(case.store(face, end_first))
    assert "bucket rule" in caught.value.remedy


STEPS = ["look", "begin", "part 1", "part 2", "complete"]


def stalling(case, step):
    """A script that carries a step out and keeps its reply to itself, the first time."""
    held: list[object] = []

    def script(request):
        if step_of(request) == step and not held:
            held.append(request)
            return case.through.stalled()
        return case.through

    return script


def requests_until(case, step) -> int:
    """How many requests have arrived when this step has: parts go side by side."""
    return {"look": 1, "begin": 2, "part 1": 4, "part 2": 4, "complete": 5}[step]


@pytest.mark.parametrize("step", STEPS)
def test_a_cancelled_upload_is_aborted_wherever_it_was(case, step):
    async def cancelled() -> None:
        task = asyncio.ensure_future(case.store(ASYNCIO, stalling(case, step)))
        await asyncio.to_thread(case.faults.wait_for_requests, requests_until(case, step))
        task.cancel()
        if step == "begin":
            # Only the reply tells the id by which the upload can be aborted: it is waited for.
            await asyncio.sleep(0)
            case.faults.release()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert case.open_uploads == []
    # A completion that is under way may be quicker than the abort that follows it.
    assert case.keys in ([[], ["k"]] if step == "complete" else [[]])


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_upload_is_aborted_wherever_it_was(case, step, error):
    release = threading.Timer(0.3, case.faults.release)
    if step == "begin":
        release.start()
    with interrupting(case.faults, requests_until(case, step), error), pytest.raises(error):
        BLOCKING.run(case.store(BLOCKING, stalling(case, step)))
    assert case.open_uploads == []
    # A completion that is under way may be quicker than the abort that follows it.
    assert case.keys in ([[], ["k"]] if step == "complete" else [[]])
    if step == "begin":
        release.join()


def test_an_upload_out_of_time_is_aborted(case):
    case.faults.play(stalling(case, "part 2"))
    objects = case.objects(ASYNCIO, request_timeout_seconds=1.0)
    with pytest.raises(errors.DeadlineExceeded):
        ASYNCIO.run(Transfer(objects, part_size_bytes=PART).store("k", DATA, DIGEST))
    assert case.open_uploads == []
    assert case.keys == []

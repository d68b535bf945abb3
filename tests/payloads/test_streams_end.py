"""Whatever way an upload ends, nothing is left of it; killed, what is left can be found."""

import asyncio
import sys
import textwrap
from datetime import UTC, datetime

import pytest

import coatcheck
from coatcheck import errors
from coatcheck.objects.memory import MemoryObjects
from coatcheck.objects.opening import open_on
from coatcheck.objects.port import DraftStore
from coatcheck.payloads.store import PayloadStore
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.testing import forward, s3_error
from coatcheck.types import NO_ATTRIBUTES
from tests.payloads.support import PART, Watched, keys_of, payload, stored
from tests.s3.support import FACES, both_faces

DATA = payload(3 * PART + 9)


def chunks(data=DATA, size=1_000_003):
    for start in range(0, len(data), size):
        yield data[start : start + size]


class Drafting(Watched):
    """A watched store whose drafts are watched too."""

    inner: MemoryObjects

    def __init__(self, inner):
        super().__init__(inner)
        self.drafts = []

    def begin_draft(self, key, *, part_bytes, attributes=NO_ATTRIBUTES):
        draft = WatchedDraft(self, self.inner.begin_draft(key, part_bytes=part_bytes))
        self.drafts.append(draft)
        return draft

    def leftovers(self, prefix):
        return self.inner.leftovers(prefix)

    async def remove_leftover(self, leftover):
        await self.inner.remove_leftover(leftover)


class WatchedDraft:
    def __init__(self, store, inner):
        self._store, self.inner, self.discarded = store, inner, False

    async def send_part(self, number, body, *, digest=None):
        await self._store.enter("send_part")
        await self.inner.send_part(number, body, digest=digest)

    async def publish(self, key, *, condition=None):
        await self._store.enter("publish")
        return await self.inner.publish(key, condition=condition)

    async def discard(self):
        await self._store.enter("discard")
        await self.inner.discard()
        self.discarded = True


@both_faces
@pytest.mark.parametrize("number", range(9))
def test_a_failure_at_any_request_discards_the_draft(face, number, memory):
    objects = Drafting(MemoryObjects(memory, face.backend.runtime))
    store = PayloadStore(objects, part_size_bytes=PART)

    def fail_at(name):
        if len(objects.calls) == number + 1 and name != "discard":
            raise errors.Unavailable("just now")

    objects.before = fail_at
    try:
        claim = face.run(store.put_stream(chunks()))
    except errors.Unavailable:
        keys = [*stored(memory)]
        # Once the payload is under its key, others may have found it there: it stays.
        assert [key.split("/")[1] for key in keys] in ([], ["sha256"])
        published = "publish" in objects.calls[:number]
        assert bool(keys) == published
    else:
        objects.before = lambda name: None
        assert number >= len(objects.calls) or objects.calls[number] == "discard"
        assert face.run(store.get(claim)) == DATA
    assert all(draft.discarded for draft in objects.drafts)
    assert objects.calls.count("discard") == len(objects.drafts)


@pytest.mark.parametrize("number", range(12))
async def test_a_cancellation_at_any_request_discards_the_draft(number, memory):
    objects = Drafting(MemoryObjects(memory, ASYNCIO))
    store = PayloadStore(objects, part_size_bytes=PART)
    upload = asyncio.ensure_future(store.put_stream(chunks()))

    def cancel_at(name):
        if len(objects.calls) == number + 1:
            upload.cancel()

    objects.before = cancel_at
    done, _ = await asyncio.wait([upload])
    assert done
    assert all(draft.discarded for draft in objects.drafts)
    left = [key for key in stored(memory) if "/sha256/" not in key]
    assert left == [] or not upload.cancelled()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_a_draft_that_cannot_be_discarded_spoils_nothing(memory, caplog):
    objects = Drafting(MemoryObjects(memory, ASYNCIO))

    def refuse(name):
        if name == "discard":
            raise errors.Forbidden("no deleting here")

    objects.before = refuse
    store = PayloadStore(objects, part_size_bytes=PART)
    claim = await store.put_stream(chunks())
    assert await store.get(claim) == DATA
    assert "could not be removed" in caplog.text


def _store(server, bucket):
    return coatcheck.open_store(
        f"s3://{bucket}?endpoint={server.endpoint}&region=us-east-1",
        part_size_bytes=PART,
        access_key_id="coatcheck-test",
        secret_access_key="coatcheck-test-secret",
        max_attempts=2,
    )


def _left_in(moto, bucket):
    witness = moto.witness()
    uploads = witness.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    objects = witness.list_objects_v2(Bucket=bucket).get("Contents", [])
    witness.close()
    return [upload["Key"] for upload in uploads], [item["Key"] for item in objects]


STEPS = {
    "the first part": lambda r: "partNumber=1&" in r.target,
    "a later part": lambda r: "partNumber=3&" in r.target,
    "completing": lambda r: r.method == "POST" and "uploadId=" in r.target,
    "copying": lambda r: "x-amz-copy-source" in r.headers,
}


@pytest.mark.parametrize("step", STEPS)
async def test_s3_is_left_clean_when_the_server_refuses(step, fault_server, moto, bucket_on_moto):
    def script(request):
        refused = STEPS[step](request)
        return s3_error(403, "AccessDenied") if refused else forward(moto.endpoint)

    fault_server.play(script)
    with pytest.raises(errors.Forbidden):
        await _store(fault_server, bucket_on_moto).put_stream(chunks())
    assert _left_in(moto, bucket_on_moto) == ([], [])


@pytest.mark.parametrize("step", [*STEPS, "beginning"])
async def test_s3_is_left_clean_when_it_is_cancelled(step, fault_server, moto, bucket_on_moto):
    chosen = STEPS.get(step, lambda r: r.method == "POST" and r.target.endswith("?uploads="))
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(request):
        if chosen(request) and not seen.is_set():
            loop.call_soon_threadsafe(seen.set)
            return forward(moto.endpoint).dripped(64, 0.05)
        return forward(moto.endpoint)

    fault_server.play(script)
    upload = asyncio.ensure_future(_store(fault_server, bucket_on_moto).put_stream(chunks()))
    await seen.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    uploads, keys = _left_in(moto, bucket_on_moto)
    assert uploads == []
    # The copy may have been made before its reply was given up.
    assert [key for key in keys if not key.startswith("v1/sha256/")] == []


@pytest.mark.parametrize("step", ["completing", "copying", "a later part"])
async def test_a_lost_reply_is_settled(step, fault_server, moto, bucket_on_moto):
    lost: list[str] = []

    def script(request):
        if STEPS[step](request) and not lost:
            lost.append(request.target)
            return forward(moto.endpoint).closed()
        return forward(moto.endpoint)

    fault_server.play(script)
    store = _store(fault_server, bucket_on_moto)
    claim = await store.put_stream(chunks())
    assert lost
    assert await store.get(claim) == DATA
    assert _left_in(moto, bucket_on_moto)[0] == []


async def test_an_error_in_a_copy_s_200_is_an_error(fault_server, moto, bucket_on_moto):
    failed: list[bool] = []

    def script(request):
        if STEPS["copying"](request) and not failed:
            failed.append(True)
            return s3_error(200, "InternalError")
        return forward(moto.endpoint)

    fault_server.play(script)
    store = _store(fault_server, bucket_on_moto)
    claim = await store.put_stream(chunks())
    assert failed
    assert await store.get(claim) == DATA


async def test_after_kill_9_what_is_left_is_found_and_removed(moto, bucket_on_moto):
    script = f"""
        import itertools, os, signal, coatcheck.blocking
        store = coatcheck.blocking.open_store(
            {moto.url(bucket_on_moto, "p")!r}, part_size_bytes={PART},
            access_key_id="a", secret_access_key="b")
        def source():
            for number in itertools.count():
                if number == 14:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield bytes({PART})
        store.put_stream(source())
    """
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(script))
    assert await child.wait() == -9
    uploads, keys = _left_in(moto, bucket_on_moto)
    assert len(uploads) == 1
    assert uploads[0].startswith(f"p/staging/{datetime.now(UTC):%Y%m%d}/")
    assert keys == []
    objects = open_on(FACES[0].backend, moto.url(bucket_on_moto, "p"), keys_of(moto))
    assert isinstance(objects, DraftStore)
    found = [leftover async for leftover in objects.leftovers("staging/")]
    assert [(leftover.kind, f"p/{leftover.key}") for leftover in found] == [("upload", uploads[0])]
    assert found[0].begun is not None
    for leftover in found:
        await objects.remove_leftover(leftover)
        await objects.remove_leftover(leftover)
    assert _left_in(moto, bucket_on_moto) == ([], [])


async def test_local_leftovers_are_found_and_removed(tmp_path):
    objects = coatcheck.open_objects(f"file://{tmp_path}/root")
    assert isinstance(objects, DraftStore)
    draft = objects.begin_draft("staging/x", part_bytes=PART)
    await draft.send_part(2, b"second")
    found = [leftover async for leftover in objects.leftovers("staging/")]
    assert len(found) == 1
    assert found[0].begun is not None
    assert abs((datetime.now(UTC) - found[0].begun).total_seconds()) < 60
    await objects.remove_leftover(found[0])
    assert [leftover async for leftover in objects.leftovers("")] == []
    await objects.remove_leftover(found[0])


@pytest.fixture
def bucket_on_moto(moto, memory):
    name = f"ends-{memory}"[:40]
    moto.create_bucket(name)
    return name


async def test_a_part_that_comes_late_makes_no_file_anew(tmp_path):
    objects = coatcheck.open_objects(f"file://{tmp_path}/root")
    assert isinstance(objects, DraftStore)
    draft = objects.begin_draft("staging/x", part_bytes=PART)
    await draft.send_part(1, b"first")
    await draft.discard()
    await draft.send_part(2, b"a thread that nobody waited for")
    assert [leftover async for leftover in objects.leftovers("")] == []

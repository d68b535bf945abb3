"""A canary in every secret: it must not sing in messages, logs, reprs, pickles or tracebacks."""

import asyncio
import logging
import pickle
import traceback
from typing import Any

import pytest

import coatcheck
from coatcheck import blocking, errors
from coatcheck.s3.credentials import ChainCredentials, ExplicitCredentials
from coatcheck.s3.sign import Credentials
from coatcheck.settings import S3Settings
from coatcheck.testing import garbage, reply, s3_error, web_page
from coatcheck.testing.servers import free_port
from coatcheck.types import ByteRange
from tests.s3.support import FACES, both_faces

CANARY = "CanaryInTheMine"
SECRETS: Any = {
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": f"{CANARY}Key",
    "session_token": f"{CANARY}Token",
    "extra_headers": {"x-amz-server-side-encryption-customer-key": f"{CANARY}Customer"},
}


def everything_told(error: BaseException) -> str:
    """All that a log, an error tracker or another process may get to see of an error."""
    told: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        shown = traceback.TracebackException.from_exception(seen, capture_locals=True)
        # Our own frames hold the canaries, of course.
        shown.stack[:] = [frame for frame in shown.stack if frame.filename != __file__]
        told += [*shown.stack.format(), repr(seen), str(seen), repr(vars(seen)), repr(seen.args)]
        seen = seen.__cause__ or seen.__context__
    return "".join(told)


def quiet(text: str) -> None:
    at = text.find(CANARY)
    assert at < 0, text[max(0, at - 300) : at + 60]


@both_faces
@pytest.mark.parametrize(
    "behaviour",
    [
        s3_error(403, "SignatureDoesNotMatch"),
        s3_error(400, "ExpiredToken"),
        s3_error(403, "RequestTimeTooSkewed"),
        s3_error(500, "InternalError"),
        reply(503),
        web_page(403),
        garbage(),
        reply(200).reset(),
        reply(200, b"x" * 5000),
        reply(206, b"x", {"Content-Range": "lies"}),
    ],
)
def test_no_failure_of_a_request_tells_a_secret(face, fault_server, behaviour, caplog):
    caplog.set_level(logging.DEBUG)
    _, hurried = face.hurried()
    fault_server.play(behaviour)
    objects = hurried.objects(fault_server.endpoint, max_attempts=2, **SECRETS)
    with pytest.raises(errors.CoatcheckError) as caught:
        hurried.run(objects.get("k", ByteRange(1, 5), limit_bytes=5))
    quiet(everything_told(caught.value))
    quiet(repr(pickle.dumps(caught.value)))
    quiet(caplog.text)


@both_faces
def test_no_failure_before_a_request_tells_a_secret(face, caplog):
    caplog.set_level(logging.DEBUG)
    _, hurried = face.hurried()
    for settings in (
        {"extra_headers": {"Authorization": "mine"}},
        {"extra_headers": {"x-a": "two\nlines"}},
        {"ca_bundle": "/no/such/file", "endpoint_url": f"https://127.0.0.1:{free_port()}"},
        {"proxy": f"http://me:{CANARY}@127.0.0.1:{free_port()}"},
        {"proxy": f"http://me:{CANARY}@nowhere.invalid:1"},
        {"proxy": f"me:{CANARY}@nowhere.invalid:1"},
    ):
        given = {"endpoint_url": f"http://127.0.0.1:{free_port()}", **SECRETS, **settings}
        endpoint = given.pop("endpoint_url")
        objects = hurried.objects(endpoint, max_attempts=1, **given)
        with pytest.raises(errors.CoatcheckError) as caught:
            hurried.run(objects.head("k"))
        quiet(everything_told(caught.value))
    quiet(caplog.text)


def test_a_cancelled_request_tells_no_secret(fault_server):
    fault_server.play(reply(200).stalled())
    objects = FACES[0].objects(fault_server.endpoint, **SECRETS)

    async def cancelled() -> str:
        task = asyncio.ensure_future(objects.head("k"))
        await asyncio.to_thread(fault_server.wait_for_requests)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            return everything_told(error)
        raise AssertionError("it was not cancelled")

    quiet(asyncio.run(cancelled()))


def test_no_public_object_shows_a_secret(fault_server):
    url = f"s3://bucket/prefix?endpoint={fault_server.endpoint}"
    settings = S3Settings(**SECRETS, proxy=f"http://me:{CANARY}@proxy")
    keys = Credentials("AKIDEXAMPLE", f"{CANARY}Key", f"{CANARY}Token")
    for shown in (
        settings,
        keys,
        ExplicitCredentials(keys),
        ChainCredentials(),
        FACES[0].client(fault_server.endpoint, **SECRETS),
        FACES[0].objects(fault_server.endpoint, **SECRETS),
        coatcheck.open_objects(url, **SECRETS),
        coatcheck.open_store(url, **SECRETS),
        blocking.open_objects(url, **SECRETS),
        blocking.open_store(url, **SECRETS),
    ):
        quiet(repr(shown))
        quiet(str(shown))
        quiet(f"{shown}")
        location = getattr(shown, "location", "")
        quiet(location)
        assert location in ("", "s3://bucket/prefix", "s3://bucket")


def test_no_public_object_pickles_its_secrets(fault_server):
    url = f"s3://bucket/prefix?endpoint={fault_server.endpoint}"
    for held in (
        S3Settings(**SECRETS),
        FACES[1].client(fault_server.endpoint, **SECRETS),
        FACES[1].objects(fault_server.endpoint, **SECRETS),
        coatcheck.open_store(url, **SECRETS),
        blocking.open_store(url, **SECRETS),
        blocking.open_objects(url, **SECRETS),
    ):
        with pytest.raises(TypeError) as caught:
            pickle.dumps(held)
        quiet(str(caught.value))


def test_the_secret_key_never_travels(fault_server):
    fault_server.play(reply(200, b"abc", {"ETag": '"e"'}))
    FACES[1].run(FACES[1].objects(fault_server.endpoint, **SECRETS).get("k", limit_bytes=9))
    request = fault_server.requests[0]
    assert f"{CANARY}Key" not in request.target + repr(request.headers)
    assert request.headers["x-amz-security-token"] == f"{CANARY}Token"

"""Who asks, where, by whose clock: keys that expire, clocks that differ, settings found late."""

import asyncio
import threading
import time
from calendar import timegm
from email.utils import formatdate

import pytest

from coatcheck import errors
from coatcheck.s3 import operations
from coatcheck.s3.sign import Credentials
from coatcheck.testing import reply, s3_error
from tests.s3.support import FACES, both_faces

ASYNCIO = FACES[0]
OK = reply(200, b"body", {"ETag": '"e"'})
GET = operations.get_object("key", None, limit_bytes=1000, headers={})
FROM_THE_CHAIN = {"access_key_id": None, "secret_access_key": None}


@pytest.fixture
def keys_in_environment(monkeypatch):
    """Give the environment these keys, and remember which ones requests were signed with."""

    def give(name: str) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"AKID{name}")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"secret-{name}")
        monkeypatch.setenv("AWS_SESSION_TOKEN", f"token-{name}")

    give("OLD")
    return give


def signers(server) -> list[str]:
    found = []
    for request in server.requests:
        name = request.headers["authorization"].split("Credential=AKID")[1].split("/")[0]
        assert request.headers["x-amz-security-token"] == f"token-{name}"
        found.append(name)
    return found


@both_faces
@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"])
def test_refused_keys_are_renewed_once_and_the_request_is_sent_again(
    face, fault_server, keys_in_environment, code
):
    def renew_when_refused(request):
        if "AKIDOLD" in request.headers["authorization"]:
            keys_in_environment("NEW")
            return s3_error(400, code)
        return OK

    runtime, hurried = face.hurried()
    fault_server.play(renew_when_refused)
    client = hurried.client(fault_server.endpoint, **FROM_THE_CHAIN)
    hurried.run(client.send("bucket", GET))
    assert signers(fault_server) == ["OLD", "NEW"]
    assert runtime.pauses == []
    hurried.run(client.send("bucket", GET))
    assert signers(fault_server)[2:] == ["NEW"]


@both_faces
def test_keys_that_stay_refused_end_the_call_after_exactly_two_requests(
    face, fault_server, keys_in_environment
):
    _, hurried = face.hurried()
    fault_server.play(s3_error(400, "ExpiredToken"))
    with pytest.raises(errors.Forbidden, match="expired") as caught:
        hurried.run(hurried.client(fault_server.endpoint, **FROM_THE_CHAIN).send("bucket", GET))
    assert len(fault_server.requests) == 2
    assert isinstance(caught.value, PermissionError)


class Counting:
    """Keys that are new every time they are loaded, by one thread for all that wait."""

    def __init__(self) -> None:
        self.loads = 0
        self.held: Credentials | None = None
        self.lock = threading.Lock()

    def current(self, now: float) -> Credentials | None:
        return self.held

    def load(self, now: float) -> Credentials:
        with self.lock:
            if self.held is None:
                self.loads += 1
                self.held = Credentials(f"AKID{self.loads}", "secret", "token")
            return self.held

    def invalidate(self, refused: Credentials) -> None:
        if self.held == refused:
            self.held = None


def test_sixteen_requests_with_expired_keys_cost_one_renewal(fault_server):
    # A late reply about the old keys must not throw away the new ones.
    def refuse_the_first_keys(request):
        refused = "AKID1/" in request.headers["authorization"]
        return s3_error(400, "ExpiredToken") if refused else OK

    fault_server.play(refuse_the_first_keys)
    client = ASYNCIO.client(fault_server.endpoint)
    source = client._credentials = Counting()

    async def sixteen() -> None:
        await asyncio.gather(*(client.send("bucket", GET) for _ in range(16)))

    asyncio.run(sixteen())
    assert source.loads == 2
    assert len(fault_server.requests) == 32


@both_faces
def test_keys_are_looked_up_at_the_first_request_and_not_before(face, fault_server, monkeypatch):
    client = face.client(fault_server.endpoint, **FROM_THE_CHAIN)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDLATE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    fault_server.play(OK)
    face.run(client.send("bucket", GET))
    assert "AKIDLATE" in fault_server.requests[0].headers["authorization"]


@both_faces
def test_without_any_keys_nothing_is_sent_and_the_remedy_names_the_ways(face, fault_server):
    client = face.client(fault_server.endpoint, **FROM_THE_CHAIN)
    with pytest.raises(errors.ConfigError) as caught:
        face.run(client.send("bucket", GET))
    assert "AWS_ACCESS_KEY_ID" in caught.value.remedy
    assert fault_server.requests == []


@both_faces
def test_region_and_endpoint_come_from_the_environment_at_the_first_request(
    face, fault_server, monkeypatch
):
    client = face.client(None, region=None)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fault_server.endpoint)
    monkeypatch.setenv("AWS_REGION", "eu-central-7")
    fault_server.play(OK)
    face.run(client.send("bucket", GET))
    assert "/eu-central-7/s3/aws4_request" in fault_server.requests[0].headers["authorization"]


def signed_at(request) -> float:
    return timegm(time.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ"))


@both_faces
@pytest.mark.parametrize("offset_seconds", [-7200.0, 3600.0 * 24 * 400])
def test_a_wrong_clock_is_set_by_the_servers_once_and_stays_set(face, fault_server, offset_seconds):
    runtime, hurried = face.hurried()
    runtime.clock_offset_seconds = offset_seconds

    def strict(request):
        now = time.time()
        headers = {"Date": formatdate(now, usegmt=True)}
        if abs(signed_at(request) - now) > 900:
            return s3_error(403, "RequestTimeTooSkewed").with_header("Date", headers["Date"])
        return reply(200, b"body", headers)

    fault_server.play(strict)
    client = hurried.client(fault_server.endpoint)
    hurried.run(client.send("bucket", GET))
    assert len(fault_server.requests) == 2
    hurried.run(client.send("bucket", GET))
    assert len(fault_server.requests) == 3
    assert runtime.pauses == []


@both_faces
def test_a_clock_that_cannot_be_mended_is_told_after_two_requests(face, fault_server):
    _, hurried = face.hurried()
    fault_server.play(s3_error(403, "RequestTimeTooSkewed"))
    with pytest.raises(errors.Forbidden, match="clock") as caught:
        hurried.run(hurried.client(fault_server.endpoint).send("bucket", GET))
    assert len(fault_server.requests) == 2
    assert caught.value.remedy == "Set the clock"


@both_faces
def test_each_mend_is_tried_once_in_a_call(face, fault_server, keys_in_environment):
    _, hurried = face.hurried()
    expired, skewed = s3_error(400, "ExpiredToken"), s3_error(403, "RequestTimeTooSkewed")
    fault_server.play([expired, skewed, expired])
    client = hurried.client(fault_server.endpoint, **FROM_THE_CHAIN)
    with pytest.raises(errors.Forbidden, match="expired"):
        hurried.run(client.send("bucket", GET))
    assert len(fault_server.requests) == 3


@both_faces
def test_an_impossible_bucket_costs_no_request(face, fault_server):
    client = face.client(fault_server.endpoint)
    with pytest.raises(errors.ConfigError):
        face.run(client.send("no/such bucket", GET))
    assert fault_server.requests == []

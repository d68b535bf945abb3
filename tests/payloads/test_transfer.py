"""Payloads through a server that fails, lies and loses: right bytes, or a typed error, never less.

moto carries the requests out, a fault server in front of it spoils them; each request is counted.
"""

import pickle
import time
from dataclasses import replace

import pytest

from coatcheck import errors
from coatcheck.payloads.claim import Claim
from coatcheck.payloads.keys import key_of
from coatcheck.payloads.store import PayloadStore
from coatcheck.testing import forward, reply, s3_error, web_page
from coatcheck.types import Digest
from tests.payloads.support import PART, open_payloads, payload
from tests.s3.support import KEYS, both_faces

on_moto = pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
LOST = reply(200).reset()
SMALL = payload(1000, seed=1)
LARGE = payload(2 * PART + 1000, seed=2)


class Case:
    """A payload store behind a fault server, and boto3's view of its bucket."""

    def __init__(self, face, server, faults, bucket) -> None:
        self.runtime, self.face = face.hurried()
        self.faults, self.bucket = faults, bucket
        self.through = forward(server.endpoint)
        self.witness = server.witness()
        self.store = self.open()
        self.seen = 0
        faults.play(self.through)

    def open(self, **settings) -> PayloadStore:
        url = f"s3://{self.bucket}?endpoint={self.faults.endpoint}&region=us-east-1"
        return open_payloads(self.face, url, {**KEYS, **settings})

    def put(self, data: bytes, script=None) -> Claim:
        self.faults.play(script or self.through)
        return self.face.run(self.store.put(data))

    def get(self, claim: Claim, script=None) -> bytes:
        self.faults.play(script or self.through)
        return self.face.run(self.store.get(claim))

    def stored(self, claim: Claim) -> bytes:
        return self.witness.get_object(Bucket=self.bucket, Key=key_of(claim.digest))["Body"].read()

    def put_behind(self, claim: Claim, body: bytes) -> None:
        self.witness.put_object(Bucket=self.bucket, Key=key_of(claim.digest), Body=body)

    def methods(self) -> list[str]:
        """What was asked since the last call of this."""
        new = self.faults.requests[self.seen :]
        self.seen += len(new)
        return [request.method for request in new]


@pytest.fixture
def case(face, s3_server, fault_server, bucket):
    made = Case(face, s3_server, fault_server, bucket)
    yield made
    made.witness.close()


@both_faces
@on_moto
def test_storing_is_one_put_and_fetching_one_get(case):
    claim = case.put(SMALL)
    assert case.methods() == ["PUT"]
    assert case.get(claim) == SMALL
    assert case.methods() == ["GET"]
    assert case.put(SMALL) == claim
    assert case.methods() == ["PUT", "HEAD"], "412, and a look at the size"


@both_faces
@pytest.mark.parametrize("s3_server", ["rclone"], indirect=True)
def test_a_server_without_conditions_overwrites_with_the_same_bytes(face, s3_server, bucket):
    store = open_payloads(
        face,
        s3_server.url(bucket),
        {
            "access_key_id": s3_server.access_key_id,
            "secret_access_key": s3_server.secret_access_key,
        },
    )
    claims = [face.run(store.put(SMALL)) for _ in range(3)]
    assert len(set(claims)) == 1
    assert face.run(store.get(claims[0])) == SMALL


@both_faces
@on_moto
def test_parts_cost_one_request_each_and_three_around_them(case):
    claim = case.put(LARGE)
    assert case.methods() == ["HEAD", "POST", "PUT", "PUT", "PUT", "POST"]
    assert case.get(claim) == LARGE
    assert case.methods() == ["GET"] * 3
    assert case.put(LARGE) == claim
    assert case.methods() == ["HEAD"]


@both_faces
@on_moto
def test_a_put_whose_reply_was_lost_is_a_put(case):
    claim = case.put(SMALL, [case.through.closed(), case.through])
    assert case.methods() == ["PUT", "HEAD"]
    assert case.stored(claim) == SMALL


@both_faces
@on_moto
def test_a_put_whose_reply_was_lost_is_a_put_also_for_who_may_not_read(case):
    def write_only(request):
        if request.method == "HEAD":
            return s3_error(403, "AccessDenied")
        first = not case.faults.requests
        return case.through.closed() if first else case.through

    claim = case.put(SMALL, write_only)
    assert [request.method for request in case.faults.requests].count("PUT") == 2
    assert case.stored(claim) == SMALL


@both_faces
@on_moto
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one part", "parts"])
def test_bytes_damaged_on_the_way_once_are_read_again(case, data):
    claim = case.put(data)
    damage = case.through.with_flipped_bit(8 * 500)
    case.methods()
    gets = -(-len(data) // PART)
    assert case.get(claim, [damage, *[case.through] * 10]) == data
    assert case.methods() == ["GET"] * 2 * gets


@both_faces
@on_moto
def test_a_later_range_that_was_damaged_once_is_read_again_too(case):
    claim = case.put(LARGE)
    spoilt: list[object] = []

    def spoil_one(request):
        if request.headers["range"].startswith(f"bytes={PART}-") and not spoilt:
            spoilt.append(request)
            return case.through.with_flipped_bit(8 * PART - 1)
        return case.through

    assert case.get(claim, spoil_one) == LARGE
    assert len(spoilt) == 1


@both_faces
@on_moto
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one part", "parts"])
def test_bytes_damaged_every_time_are_withheld_after_two_readings(case, data):
    claim = case.put(data)
    case.methods()
    with pytest.raises(errors.Corrupt, match="does not match its digest") as caught:
        case.get(claim, case.through.with_flipped_bit(99))
    assert case.methods() == ["GET"] * 2 * -(-len(data) // PART)
    assert isinstance(caught.value, ValueError)


@both_faces
@on_moto
@pytest.mark.parametrize(
    "wrong", [SMALL[:-1], SMALL + b"x", b"", SMALL[:10], b"<html>login</html>", SMALL * 200]
)
def test_a_reply_of_another_size_is_read_again_and_then_withheld(case, wrong):
    claim = case.put(SMALL)
    case.methods()
    spoilt = case.through.with_body(wrong)
    assert case.get(claim, [spoilt, case.through]) == SMALL
    assert case.methods() == ["GET", "GET"]
    with pytest.raises(errors.Corrupt):
        case.get(claim, spoilt)
    assert case.methods() == ["GET", "GET"]


@both_faces
@on_moto
@pytest.mark.parametrize("after", [0, 10, 999])
def test_a_connection_that_breaks_in_the_body_is_tried_again(case, after):
    claim = case.put(SMALL)
    broken = [case.through.reset(after), case.through.closed(after), case.through]
    assert case.get(claim, broken) == SMALL


@both_faces
@on_moto
def test_a_false_content_length_is_not_believed(case):
    claim = case.put(SMALL)
    assert case.get(claim, [case.through.declaring(len(SMALL) + 5), case.through]) == SMALL
    assert case.get(claim, [case.through.declaring(len(SMALL) - 5), case.through]) == SMALL
    assert case.get(claim, case.through.declaring(None)) == SMALL
    assert case.get(claim, case.through.chunked(100)) == SMALL


@both_faces
@on_moto
def test_a_web_page_is_neither_the_payload_nor_its_absence(case):
    claim = case.put(SMALL)
    with pytest.raises(errors.Corrupt):
        case.get(claim, web_page(200))
    with pytest.raises(errors.Unavailable, match="does not come from an S3 server"):
        case.get(claim, web_page(404))
    assert case.get(claim, [web_page(503), case.through]) == SMALL


@both_faces
@on_moto
def test_a_web_page_in_reply_to_a_put_is_not_a_claim(case):
    with pytest.raises(errors.Unsupported, match="does not come from an S3 server"):
        case.put(SMALL, web_page(200))
    with pytest.raises(errors.Unsupported):
        case.put(LARGE, web_page(200))


@both_faces
@on_moto
@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (s3_error(404, "NoSuchBucket"), errors.BucketNotFound),
        (s3_error(403, "AccessDenied"), errors.Forbidden),
        (s3_error(403, "SignatureDoesNotMatch"), errors.Forbidden),
        (s3_error(503, "SlowDown"), errors.Throttled),
        (s3_error(500, "InternalError"), errors.Unavailable),
        (LOST, errors.Unavailable),
    ],
)
def test_what_the_server_says_is_what_the_caller_gets(case, behaviour, kind):
    claim = Claim(Digest.of(SMALL), len(SMALL))
    case.faults.play(behaviour)
    for job in (case.store.get(claim), case.store.put(SMALL)):
        with pytest.raises(errors.CoatcheckError) as caught:
            case.face.run(job)
        assert type(caught.value) is kind
        assert caught.value.diagnostics.key == key_of(claim.digest)
        assert caught.value.diagnostics.bucket == case.bucket


@both_faces
@on_moto
def test_a_payload_that_is_not_there_is_not_found_after_one_request(case):
    missing = Claim(Digest.of(SMALL), len(SMALL))
    with pytest.raises(errors.NotFound) as caught:
        case.get(missing)
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.diagnostics.key == key_of(missing.digest)
    assert case.methods() == ["GET"]
    assert case.face.run(case.store.exists(missing)) is False
    assert case.methods() == ["HEAD"]


@both_faces
@on_moto
def test_an_object_replaced_by_the_same_bytes_while_it_is_read_is_read_again(case):
    # In one piece instead of in parts it has another ETag: the ranges must not be mixed.
    claim = case.put(LARGE)
    replaced: list[object] = []

    def replace_after_the_first(request):
        if not request.headers["range"].startswith("bytes=0-") and not replaced:
            replaced.append(request)
            case.put_behind(claim, LARGE)
        return case.through

    assert case.get(claim, replace_after_the_first) == LARGE
    assert len(replaced) == 1


@both_faces
@on_moto
def test_an_object_replaced_by_other_bytes_while_it_is_read_is_withheld(case):
    claim = case.put(LARGE)
    replaced: list[object] = []

    def replace_after_the_first(request):
        if not request.headers["range"].startswith("bytes=0-") and not replaced:
            replaced.append(request)
            case.put_behind(claim, payload(len(LARGE), seed=3))
        return case.through

    with pytest.raises(errors.Corrupt, match="digest"):
        case.get(claim, replace_after_the_first)


@both_faces
@on_moto
def test_an_object_that_is_replaced_all_the_time_is_a_conflict(case):
    claim = case.put(LARGE)
    turns: list[object] = []

    def replace_each_time(request):
        if request.headers["range"].startswith("bytes=0-"):
            turns.append(request)
            case.put_behind(claim, payload(len(LARGE), seed=10 + len(turns)))
            return case.through.with_header("ETag", '"older"')
        return case.through

    with pytest.raises(errors.Conflict):
        case.get(claim, replace_each_time)
    assert len(turns) == 2


@both_faces
@on_moto
def test_an_object_deleted_while_it_is_read_is_not_found(case):
    claim = case.put(LARGE)

    def delete_after_the_first(request):
        if not request.headers["range"].startswith("bytes=0-"):
            case.witness.delete_object(Bucket=case.bucket, Key=key_of(claim.digest))
        return case.through

    with pytest.raises(errors.NotFound):
        case.get(claim, delete_after_the_first)


@both_faces
@on_moto
def test_a_server_without_etags_is_read_by_ranges_and_verified(case):
    claim = case.put(LARGE)

    def without_etag(answer):
        kept = tuple(pair for pair in answer.headers if pair[0].lower() != "etag")
        return replace(answer, headers=kept)

    assert case.get(claim, case.through.changed(without_etag)) == LARGE
    assert all("if-match" not in request.headers for request in case.faults.requests)


@both_faces
@on_moto
def test_a_server_that_ignores_ranges_is_told_as_such(case):
    small, large = case.put(SMALL), case.put(LARGE)
    through = case.through

    def whole(request):
        headers = {name: value for name, value in request.headers.items() if name != "range"}
        return through.source(replace(request, headers=headers))

    ignoring = replace(through, source=whole)
    assert case.get(small, ignoring) == SMALL
    with pytest.raises(errors.Unsupported, match="ignores ranges") as caught:
        case.get(large, ignoring)
    assert "part_size_bytes" in caught.value.remedy


@both_faces
@on_moto
def test_a_forged_claim_of_another_size_is_corrupt_and_costs_at_most_one_part(case):
    claim = case.put(SMALL)
    for size in (0, len(SMALL) - 1, len(SMALL) + 1, PART + 1, 2**30):
        with pytest.raises(errors.Corrupt):
            case.get(Claim(claim.digest, size))
    largest = max(len(request.headers.get("range", "")) for request in case.faults.requests)
    assert largest <= len(f"bytes=0-{PART - 1}")


@both_faces
@on_moto
def test_the_deadline_holds_for_payloads_in_parts(case):
    claim = case.put(LARGE)
    store = case.open(request_timeout_seconds=0.5)
    case.faults.play(case.through.stalled(after_body_bytes=100))
    started = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        case.face.run(store.get(claim))
    assert time.monotonic() - started < 1.5


@both_faces
@on_moto
def test_an_error_tells_where_and_what_and_pickles(case):
    claim = case.put(SMALL)
    case.put_behind(claim, SMALL[::-1])
    with pytest.raises(errors.Corrupt) as caught:
        case.get(claim)
    back = pickle.loads(pickle.dumps(caught.value))
    assert str(back) == str(caught.value)
    assert back.diagnostics.bucket == f"s3://{case.bucket}"
    assert back.diagnostics.key == key_of(claim.digest)

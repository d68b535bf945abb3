"""Failures: what ends a workflow for good, what is tried again, and what both say."""

import pickle

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, PayloadConverter, StorageDriverClaim
from temporalio.exceptions import ApplicationError

from coatcheck import errors
from coatcheck.integrations.temporal import (
    ClaimRefused,
    PayloadCorrupt,
    PayloadLost,
    PayloadTooLarge,
    PermanentFailure,
    S3StorageDriver,
    new_client,
)
from coatcheck.testing import (
    Behaviour,
    FaultServer,
    S3Server,
    forward,
    free_port,
    reply,
    s3_error,
    web_page,
)
from coatcheck.types import Digest
from tests.integrations.temporal.subjects import (
    OF_OURS,
    OURS,
    OURS_ON_AIOBOTO3,
    MemoryClient,
    Subject,
    payload,
    retrieve,
    store,
)

PERMANENT = [
    (PayloadLost, RuntimeError, "not_found"),
    (PayloadCorrupt, ValueError, "corrupt"),
    (PayloadTooLarge, ValueError, "too_large"),
    (ClaimRefused, ValueError, "claim_rejected"),
]


@pytest.mark.parametrize(("kind", "builtin", "code"), PERMANENT)
def test_a_permanent_failure_is_what_temporal_and_what_users_catch(
    kind: type[PermanentFailure], builtin: type[Exception], code: str
):
    error = kind("S3StorageDriver failed")
    assert isinstance(error, ApplicationError)
    assert isinstance(error, builtin)
    assert error.non_retryable
    assert error.type == code
    assert str(error) == error.message == "S3StorageDriver failed"


@pytest.mark.parametrize(("kind", "builtin", "code"), PERMANENT)
def test_a_permanent_failure_survives_pickling_and_temporals_conversion(
    kind: type[PermanentFailure], builtin: type[Exception], code: str
):
    again = pickle.loads(pickle.dumps(kind("text")))
    assert type(again) is kind
    assert (str(again), again.type, again.non_retryable) == ("text", code, True)

    error = kind("text")
    error.__cause__ = errors.NotFound("there is no such object")
    failure = Failure()
    converter = DefaultFailureConverter()
    converter.to_failure(error, PayloadConverter.default, failure)
    assert failure.message == "text"
    assert failure.application_failure_info.type == code
    assert failure.application_failure_info.non_retryable
    assert failure.cause.application_failure_info.type == "NotFound"
    assert "there is no such object" in failure.cause.message
    returned = converter.from_failure(failure, PayloadConverter.default)
    assert isinstance(returned, ApplicationError)
    assert returned.non_retryable


@pytest.mark.parametrize("s3_server", ["rclone", "moto"], indirect=True)
@pytest.mark.parametrize("subject", [OURS, OURS_ON_AIOBOTO3], ids=str)
async def test_a_payload_that_was_deleted_is_lost_for_good(
    subject: Subject, s3_server: S3Server, bucket: str
):
    async with subject.client(s3_server) as client:
        driver = subject.driver(client, bucket)
        [claim] = await store(driver, payload())
        witness = s3_server.witness()
        witness.delete_object(Bucket=bucket, Key=claim.claim_data["key"])
        witness.close()
        with pytest.raises(PayloadLost) as lost:
            await retrieve(driver, [claim])
    assert str(lost.value) == (
        f"S3StorageDriver retrieve failed [bucket={bucket}, key={claim.claim_data['key']}, "
        "client_region=us-east-1]"
    )
    assert lost.value.__cause__ is not None


@pytest.mark.parametrize("subject", OF_OURS, ids=str)
async def test_altered_bytes_are_withheld_and_so_is_their_digest(
    subject: Subject, rclone: S3Server, bucket: str
):
    altered = payload(b"altered").SerializeToString()
    async with subject.client(rclone) as client:
        driver = subject.driver(client, bucket)
        [claim] = await store(driver, payload())
        key = claim.claim_data["key"]
        await client.put_object(bucket=bucket, key=key, data=altered)
        with pytest.raises(PayloadCorrupt) as corrupt:
            await retrieve(driver, [claim])
    assert str(corrupt.value) == (
        f"S3StorageDriver integrity check failed [bucket={bucket}, key={key}]: "
        f"expected sha256:{claim.claim_data['hash_value']}, got sha256:(withheld)"
    )
    assert Digest.of(altered).hex not in repr(corrupt.value) + str(corrupt.value.__cause__)


@pytest.mark.parametrize("length", [0, 5, 2000])
async def test_shorter_and_longer_objects_are_corrupt(rclone: S3Server, bucket: str, length: int):
    async with OURS.client(rclone) as client:
        driver = S3StorageDriver(client, bucket)
        [claim] = await store(driver, payload(b"x" * 1000))
        witness = rclone.witness()
        witness.put_object(Bucket=bucket, Key=claim.claim_data["key"], Body=b"x" * length)
        witness.close()
        with pytest.raises(PayloadCorrupt):
            await retrieve(driver, [claim])


async def test_bytes_that_are_no_payload_are_corrupt():
    client = MemoryClient()
    body = b"\xff\xff not a message"
    digest = Digest.of(body)
    key = f"v0/d/sha256/{digest.hex}"
    await client.put_object(bucket="bucket", key=key, data=body)
    claim = StorageDriverClaim(
        {"bucket": "bucket", "key": key, "hash_algorithm": "sha256", "hash_value": digest.hex}
    )
    with pytest.raises(PayloadCorrupt):
        await retrieve(S3StorageDriver(client, "bucket"), [claim])


def driver_on(server: FaultServer, bucket: str = "payloads") -> S3StorageDriver:
    client = new_client(
        region="us-east-1",
        endpoint_url=server.endpoint,
        access_key_id="key",
        secret_access_key="canary-secret",
        max_attempts=1,
    )
    return S3StorageDriver(client, bucket)


CLAIM = StorageDriverClaim(
    {
        "bucket": "payloads",
        "key": f"v0/d/sha256/{Digest.of(b'').hex}",
        "hash_algorithm": "sha256",
        "hash_value": Digest.of(b"").hex,
    }
)
MENDABLE = {
    "throttled": (s3_error(503, "SlowDown"), errors.Throttled),
    "failing": (s3_error(500, "InternalError"), errors.Unavailable),
    "denied": (s3_error(403, "AccessDenied"), errors.Forbidden),
    "unknown key": (s3_error(403, "InvalidAccessKeyId"), errors.Forbidden),
    "expired token": (s3_error(400, "ExpiredToken"), errors.Forbidden),
    "missing bucket": (s3_error(404, "NoSuchBucket"), errors.BucketNotFound),
    "wrong region": (s3_error(301, "PermanentRedirect"), errors.ConfigError),
    "a proxy's page": (web_page(404), errors.CoatcheckError),
    "a bare 404": (reply(404), errors.CoatcheckError),
    "a dropped line": (reply().closed(), errors.Unavailable),
}


@pytest.mark.parametrize("verb", ["store", "retrieve"])
@pytest.mark.parametrize(("behaviour", "cause"), MENDABLE.values(), ids=MENDABLE)
async def test_what_an_operator_can_mend_is_tried_again(
    behaviour: Behaviour, cause: type[Exception], verb: str
):
    with FaultServer(behaviour) as server:
        driver = driver_on(server)
        with pytest.raises(
            RuntimeError, match=rf"^S3StorageDriver {verb} failed \[bucket=payloads, key=v0/"
        ) as failed:
            await (store(driver, payload()) if verb == "store" else retrieve(driver, [CLAIM]))
    assert type(failed.value) is RuntimeError
    assert str(failed.value).endswith(", client_region=us-east-1]")
    assert isinstance(failed.value.__cause__, cause)
    assert "canary" not in f"{failed.value}{failed.value.__cause__}"


async def test_a_server_that_is_down_is_tried_again():
    client = new_client(
        endpoint_url=f"http://127.0.0.1:{free_port()}",
        access_key_id="key",
        secret_access_key="secret",
        max_attempts=1,
    )
    with pytest.raises(RuntimeError) as failed:
        await store(S3StorageDriver(client, "payloads"), payload())
    assert type(failed.value) is RuntimeError
    assert isinstance(failed.value.__cause__, errors.Unavailable)


async def test_a_body_damaged_on_its_way_out_is_tried_again():
    """Corrupt is permanent for what is stored, not for what never was."""
    damaged = s3_error(400, "XAmzContentSHA256Mismatch")
    with FaultServer(damaged) as server, pytest.raises(RuntimeError) as failed:
        await store(driver_on(server), payload())
    assert type(failed.value) is RuntimeError
    assert isinstance(failed.value.__cause__, errors.Corrupt)


async def test_a_bit_flipped_on_its_way_in_is_fetched_again(rclone: S3Server, bucket: str):
    honest = forward(rclone.endpoint)
    async with OURS.client(rclone) as client:
        claims = await store(S3StorageDriver(client, bucket), payload())
    with FaultServer([honest.with_flipped_bit(20), honest]) as server:
        client = new_client(
            region=rclone.region,
            endpoint_url=server.endpoint,
            access_key_id=rclone.access_key_id,
            secret_access_key=rclone.secret_access_key,
        )
        assert await retrieve(S3StorageDriver(client, bucket), claims) == [payload()]


async def test_a_lost_reply_to_a_put_is_settled_not_reported(rclone: S3Server, bucket: str):
    honest = forward(rclone.endpoint)
    with FaultServer([honest.closed(), honest, honest]) as server:
        client = new_client(
            region=rclone.region,
            endpoint_url=server.endpoint,
            access_key_id=rclone.access_key_id,
            secret_access_key=rclone.secret_access_key,
        )
        driver = S3StorageDriver(client, bucket)
        claims = await store(driver, payload())
        assert await retrieve(driver, claims) == [payload()]

"""What either driver has stored, the other reads: a bucket can change hands both ways."""

import json

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.contrib.aws.s3driver import S3StorageDriver as OfficialDriver
from temporalio.converter import DataConverter, ExternalStorage, StorageDriverClaim

from coatcheck.integrations.temporal import S3StorageDriver
from coatcheck.testing import S3Server
from tests.integrations.temporal.subjects import (
    ALL,
    OFFICIAL,
    OURS,
    OURS_ON_AIOBOTO3,
    MemoryClient,
    Subject,
    activity,
    payload,
    retrieve,
    store,
    stored_keys,
    workflow,
)

AnyDriver = type[OfficialDriver] | type[S3StorageDriver]

SENT = [payload(), Payload(), payload(bytes(100_000)), payload("é".encode())]


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("s3_server", ["rclone", "moto"], indirect=True)
@pytest.mark.parametrize("ours", [OURS, OURS_ON_AIOBOTO3], ids=str)
async def test_each_driver_reads_what_the_other_wrote(
    ours: Subject, s3_server: S3Server, bucket: str
):
    async with OFFICIAL.client(s3_server) as their_client, ours.client(s3_server) as our_client:
        their_driver = OfficialDriver(their_client, bucket)
        our_driver = S3StorageDriver(our_client, bucket)
        large = payload(b"large" * 2_000_000)
        for context in (
            workflow(id="a/b~", type="T"),
            activity(run_id="r"),
            workflow(id="x" * 999),
        ):
            theirs = await store(their_driver, *SENT, context=context)
            assert await retrieve(our_driver, theirs) == SENT
            ours_now = await store(our_driver, *SENT, context=context)
            assert ours_now == theirs
        # The other way round, with payloads that the official driver has not seen before.
        claims = await store(our_driver, large, payload(b"ours"))
        assert await retrieve(their_driver, claims) == [large, payload(b"ours")]
        [large_theirs] = await store(their_driver, payload(b"theirs" * 2_000_000))
        assert await retrieve(our_driver, [large_theirs]) == [payload(b"theirs" * 2_000_000)]
    assert len(stored_keys(s3_server, bucket)) == 3 * len(SENT) + 3


@pytest.mark.parametrize("subject", ALL, ids=str)
async def test_a_payload_makes_the_way_through_temporals_converter(
    subject: Subject, rclone: S3Server, bucket: str
):
    async with subject.client(rclone) as client:
        converter = DataConverter(
            external_storage=ExternalStorage([subject.driver(client, bucket)], None, 0)
        )
        [reference] = await converter.encode(["x" * 1000])
        claim = json.loads(reference.data)
        assert claim["driverName"] == "aws.s3driver"
        assert set(claim["claimData"]) == {"bucket", "key", "hash_algorithm", "hash_value"}
        assert await converter.decode([reference]) == ["x" * 1000]


@pytest.mark.parametrize(
    ("writer", "reader"), [(OfficialDriver, S3StorageDriver), (S3StorageDriver, OfficialDriver)]
)
async def test_histories_of_one_driver_resolve_to_the_other_by_its_name(
    writer: AnyDriver, reader: AnyDriver
):
    client = MemoryClient()
    writing = DataConverter(external_storage=ExternalStorage([writer(client, "bucket")], None, 0))
    reading = DataConverter(external_storage=ExternalStorage([reader(client, "bucket")], None, 0))
    assert await reading.decode(await writing.encode(["kept"])) == ["kept"]


async def test_a_claim_of_the_typescript_sdk_is_fetched(rclone: S3Server, bucket: str):
    async with OFFICIAL.client(rclone) as client:
        [claim] = await store(OfficialDriver(client, bucket), payload())
    spelled = StorageDriverClaim(
        {
            "bucket": bucket,
            "key": claim.claim_data["key"],
            "hashAlgorithm": "sha256",
            "hashValue": claim.claim_data["hash_value"],
        }
    )
    async with OURS.client(rclone) as client:
        assert await retrieve(S3StorageDriver(client, bucket), [spelled]) == [payload()]

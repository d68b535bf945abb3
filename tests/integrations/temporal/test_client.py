"""Our client: few requests, and a client for the official driver too."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from temporalio.contrib.aws.s3driver import S3StorageDriver as OfficialDriver
from temporalio.contrib.aws.s3driver import S3StorageDriverClient

from coatcheck.errors import BucketNotFound, ConfigError, Corrupt, NotFound
from coatcheck.integrations.temporal import DriverClient, S3StorageDriver, new_client
from coatcheck.testing import FaultServer, Request, S3Server, forward, s3_error
from coatcheck.testing.behaviours import Behaviour
from coatcheck.types import Digest
from tests.integrations.temporal.subjects import (
    coatcheck_client,
    payload,
    payloads,
    retrieve,
    store,
    stored_keys,
)

MIB = 1024 * 1024


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultServer]:
    """A server that hands every request on to `s3_server`, and counts."""
    with FaultServer(forward(s3_server.endpoint)) as server:
        yield server


def requests(proxy: FaultServer) -> list[str]:
    return [request.method for request in proxy.requests]


both_servers = pytest.mark.parametrize("s3_server", ["rclone", "moto"], indirect=True)


@both_servers
async def test_storing_is_one_put_and_retrieving_is_one_get(
    s3_server: S3Server, bucket: str, proxy: FaultServer
):
    driver = S3StorageDriver(coatcheck_client(s3_server, proxy.endpoint), bucket)
    claims = await store(driver, payload(b"x" * 300_000))
    assert requests(proxy) == ["PUT"]
    assert proxy.requests[0].headers["if-none-match"] == "*"
    assert await retrieve(driver, claims) == [payload(b"x" * 300_000)]
    assert requests(proxy) == ["PUT", "GET"]


async def test_equal_payloads_of_a_batch_are_one_put(
    s3_server: S3Server, bucket: str, proxy: FaultServer
):
    driver = S3StorageDriver(coatcheck_client(s3_server, proxy.endpoint), bucket)
    # More than fit side by side, so that some come when their like is stored already.
    await store(driver, *[payload(), payload(b"other")] * 100)
    assert requests(proxy) == ["PUT", "PUT"]


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
async def test_a_payload_that_is_there_costs_one_request_more(
    s3_server: S3Server, bucket: str, proxy: FaultServer
):
    driver = S3StorageDriver(coatcheck_client(s3_server, proxy.endpoint), bucket)
    await store(driver, payload())
    await store(driver, payload())
    assert requests(proxy) == ["PUT", "PUT", "HEAD"]


async def test_more_than_a_part_is_retrieved_in_ranges(
    s3_server: S3Server, bucket: str, proxy: FaultServer
):
    large = payload(bytes(range(256)) * (17 * 4096))
    [claim] = await store(S3StorageDriver(coatcheck_client(s3_server), bucket), large)
    driver = S3StorageDriver(coatcheck_client(s3_server, proxy.endpoint), bucket)
    assert await retrieve(driver, [claim]) == [large]
    size = large.ByteSize()
    ranges = [request.headers["range"] for request in proxy.requests]
    assert sorted(ranges) == [
        f"bytes=0-{8 * MIB - 1}",
        f"bytes={16 * MIB}-{size - 1}",
        f"bytes={8 * MIB}-{16 * MIB - 1}",
    ]


async def test_inside_the_official_driver_it_is_two_requests_and_one(
    s3_server: S3Server, bucket: str, proxy: FaultServer
):
    driver = OfficialDriver(coatcheck_client(s3_server, proxy.endpoint), bucket)
    claims = await store(driver, payload())
    assert await retrieve(driver, claims) == [payload()]
    assert requests(proxy) == ["HEAD", "PUT", "GET"]


def only(server: S3Server, *allowed: str) -> FaultServer:
    """A server on which the caller has the permission for these methods alone."""
    honest, denied = forward(server.endpoint), s3_error(403, "AccessDenied")

    def choose(head: Request) -> Behaviour:
        return honest if head.method in allowed else denied

    return FaultServer(choose)


@both_servers
@pytest.mark.parametrize("driver", [OfficialDriver, S3StorageDriver])
async def test_permission_to_put_is_enough_to_store(
    driver: type[OfficialDriver] | type[S3StorageDriver], s3_server: S3Server, bucket: str
):
    with only(s3_server, "PUT") as server:
        client = coatcheck_client(s3_server, server.endpoint)
        first = await store(driver(client, bucket), *payloads(3))
        assert await store(driver(client, bucket), *payloads(3)) == first
    assert len(stored_keys(s3_server, bucket)) == 3


async def test_permission_to_get_is_enough_to_retrieve(s3_server: S3Server, bucket: str):
    sent = [payload(), payload(b"x" * (9 * MIB))]
    claims = await store(S3StorageDriver(coatcheck_client(s3_server), bucket), *sent)
    with only(s3_server, "GET") as server:
        driver = S3StorageDriver(coatcheck_client(s3_server, server.endpoint), bucket)
        assert await retrieve(driver, claims) == sent


@both_servers
async def test_it_keeps_the_sdks_contract_for_keys_of_any_kind(s3_server: S3Server, bucket: str):
    client = coatcheck_client(s3_server)
    for key in ("plain", "a b/c~d+é%", f"v0/d/sha256/{Digest.of(b'first').hex}"):
        assert not await client.object_exists(bucket=bucket, key=key)
        with pytest.raises(NotFound):
            await client.get_object(bucket=bucket, key=key)
        await client.put_object(bucket=bucket, key=key, data=b"first")
        assert await client.object_exists(bucket=bucket, key=key)
        assert await client.get_object(bucket=bucket, key=key) == b"first"
    await client.put_object(bucket=bucket, key="plain", data=b"second")
    assert await client.get_object(bucket=bucket, key="plain") == b"second"


async def test_bytes_that_the_key_does_not_mean_are_not_returned(s3_server: S3Server, bucket: str):
    client = coatcheck_client(s3_server)
    key = f"v0/d/sha256/{Digest.of(b'meant').hex}"
    await client.put_object(bucket=bucket, key=key, data=b"other")
    with pytest.raises(Corrupt):
        await client.get_object(bucket=bucket, key=key)


async def test_a_bucket_that_is_missing_is_told_apart(s3_server: S3Server):
    client = coatcheck_client(s3_server)
    assert not await client.object_exists(bucket="does-not-exist", key="key")
    with pytest.raises(BucketNotFound):
        await client.put_object(bucket="does-not-exist", key="key", data=b"")
    with pytest.raises(BucketNotFound):
        await client.get_object(bucket="does-not-exist", key="key")


def test_it_describes_the_region_where_that_is_known(monkeypatch: pytest.MonkeyPatch):
    assert new_client(region="ap-southeast-1").describe() == {"client_region": "ap-southeast-1"}
    assert new_client().describe() == {}
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert new_client().describe() == {"client_region": "eu-west-1"}


def test_it_is_one_of_the_sdks_clients():
    assert isinstance(new_client(), S3StorageDriverClient)
    assert isinstance(new_client(), DriverClient)


def test_a_setting_that_does_not_exist_is_named_with_its_neighbour():
    with pytest.raises(ConfigError, match=r"'reigon'.*Did you mean region"):
        new_client(reigon="eu-west-1")  # type: ignore[call-arg] # the mistake


def test_the_stack_that_it_replaces_need_not_be_installed():
    script = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"aioboto3", "aiobotocore", "boto3", "botocore", "aiohttp",
                                      "types_aiobotocore_s3"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from coatcheck.integrations.temporal import S3StorageDriver, new_client
driver = S3StorageDriver(new_client(region="eu-west-1"), "bucket")
assert driver.name() == "aws.s3driver"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)

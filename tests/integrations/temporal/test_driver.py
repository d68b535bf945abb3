"""What the driver promises, asked of both drivers with every kind of client."""

import asyncio
import hashlib
import pickle
from collections.abc import Awaitable, Callable

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.contrib.aws.s3driver import S3StorageDriver as OfficialDriver
from temporalio.contrib.aws.s3driver import S3StorageDriverClient
from temporalio.converter import (
    DataConverter,
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverStoreContext,
)

from coatcheck.errors import ConfigError
from coatcheck.integrations.temporal import PayloadTooLarge, S3StorageDriver, new_client
from coatcheck.testing import S3Server
from tests.integrations.temporal.subjects import (
    ALL,
    OF_OURS,
    ON_A_SERVER,
    OURS,
    MemoryClient,
    Subject,
    payload,
    payloads,
    retrieve,
    store,
    stored_keys,
    workflow,
)

every_subject = pytest.mark.parametrize("subject", ALL, ids=str)
every_subject_on_a_server = pytest.mark.parametrize("subject", ON_A_SERVER, ids=str)
every_driver = pytest.mark.parametrize("driver", [OfficialDriver, S3StorageDriver])
both_servers = pytest.mark.parametrize("s3_server", ["rclone", "moto"], indirect=True)

AnyDriver = type[OfficialDriver] | type[S3StorageDriver]


@every_driver
def test_names_and_types_are_those_of_the_official_driver(driver: AnyDriver):
    assert driver(MemoryClient(), "b").name() == "aws.s3driver"
    assert driver(MemoryClient(), "b", driver_name="my-s3").name() == "my-s3"
    assert driver(MemoryClient(), "b", driver_name="").name() == "aws.s3driver"
    assert driver(MemoryClient(), "b", driver_name="my-s3").type() == "aws.s3driver"


@every_driver
def test_arguments_are_taken_in_the_official_order_and_under_the_official_names(driver: AnyDriver):
    positional = driver(MemoryClient(), "b", "mine", 10)
    named = driver(client=MemoryClient(), bucket="b", driver_name="mine", max_payload_size=10)
    assert positional.name() == named.name() == "mine"


@every_driver
@pytest.mark.parametrize("size", [0, -1])
def test_a_cap_must_be_positive(driver: AnyDriver, size: int):
    with pytest.raises(ValueError, match=r"^max_payload_size must be greater than zero"):
        driver(MemoryClient(), "b", max_payload_size=size)


def test_a_bucket_that_cannot_be_is_refused_before_anything_is_stored():
    for buckets in ({"bucket": "no/bucket"}, {"bucket": "good", "allowed_buckets": ["no bucket"]}):
        with pytest.raises(ConfigError, match="cannot be a bucket"):
            S3StorageDriver(new_client(), **buckets)
    with pytest.raises(ConfigError, match="allowed_buckets is the text 'one'"):
        S3StorageDriver(new_client(), "good", allowed_buckets="one")


def test_an_access_point_is_a_bucket():
    arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/payloads"
    assert S3StorageDriver(new_client(region="eu-west-1"), arn).name() == "aws.s3driver"


def test_temporal_takes_it_for_a_storage_driver():
    driver = S3StorageDriver(MemoryClient(), "b")
    assert isinstance(driver, StorageDriver)
    assert {driver: 1}[driver] == 1
    converter = DataConverter(external_storage=ExternalStorage(drivers=[driver]))
    assert converter.external_storage is not None


@every_subject
async def test_a_claim_says_bucket_key_and_digest_and_nothing_else(
    subject: Subject, rclone: S3Server, bucket: str
):
    async with subject.client(rclone) as client:
        [claim] = await store(subject.driver(client, bucket), payload())
    digest = hashlib.sha256(payload().SerializeToString()).hexdigest()
    assert claim.claim_data == {
        "bucket": bucket,
        "key": f"v0/d/sha256/{digest}",
        "hash_algorithm": "sha256",
        "hash_value": digest,
    }


@every_subject
async def test_payloads_come_back_in_order(subject: Subject, rclone: S3Server, bucket: str):
    sent = [*payloads(5), Payload(), payload(b""), payload(b"\0" * 1000)]
    async with subject.client(rclone) as client:
        driver = subject.driver(client, bucket)
        claims = await store(driver, *sent, context=workflow(id="a/b #~é", namespace="n/s"))
        assert await retrieve(driver, claims) == sent
        assert await retrieve(driver, claims[::-1]) == sent[::-1]


@every_subject
async def test_nothing_stored_is_nothing_claimed(subject: Subject, rclone: S3Server, bucket: str):
    async with subject.client(rclone) as client:
        driver = subject.driver(client, bucket)
        assert await store(driver) == []
        assert await retrieve(driver, []) == []


# aioboto3 sends parts of 8 MiB as aiohttp would rather not have them.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@both_servers
@every_subject_on_a_server
async def test_more_than_a_part_is_stored_in_parts(
    subject: Subject, s3_server: S3Server, bucket: str
):
    large = payload(bytes(range(256)) * (9 * 4096))
    async with subject.client(s3_server) as client:
        driver = subject.driver(client, bucket)
        [claim] = await store(driver, large)
        assert await retrieve(driver, [claim]) == [large]
    witness = s3_server.witness()
    head = witness.head_object(Bucket=bucket, Key=claim.claim_data["key"])
    witness.close()
    assert head["ContentLength"] == large.ByteSize()
    # rclone makes ETags of its own, without a mark for the parts.
    assert s3_server.root is not None or "-" in head["ETag"]


@every_subject_on_a_server
async def test_equal_payloads_are_one_object_and_one_claim(
    subject: Subject, rclone: S3Server, bucket: str
):
    async with subject.client(rclone) as client:
        driver = subject.driver(client, bucket)
        [first, second] = await store(driver, payload(), payload())
        [third] = await store(driver, payload())
        assert first == second == third
        assert await retrieve(driver, [third]) == [payload()]
    assert stored_keys(rclone, bucket) == [first.claim_data["key"]]


async def test_a_foreign_client_is_asked_once_for_equal_payloads():
    client = MemoryClient()
    driver = S3StorageDriver(client, "bucket")
    # 200 equal ones do not fit side by side: those that come later must be known as well.
    claims = await store(driver, *[payload()] * 200)
    assert len(claims) == 200
    assert client.calls == ["exists", "put"]
    await store(driver, payload())
    assert client.calls == ["exists", "put", "exists"]


async def test_equal_payloads_under_way_through_a_foreign_client_are_uploaded_once():
    class Unhurried(MemoryClient):
        async def object_exists(self, *, bucket: str, key: str) -> bool:
            await asyncio.sleep(0)
            return await super().object_exists(bucket=bucket, key=key)

    client = Unhurried()
    driver = S3StorageDriver(client, "bucket")
    await asyncio.gather(*(store(driver, payload(), payload()) for _ in range(3)))
    assert client.calls == ["exists", "put"]


@every_driver
async def test_the_bucket_function_is_called_once_for_each_payload_with_temporals_context(
    driver: AnyDriver,
):
    asked: list[tuple[StorageDriverStoreContext, Payload]] = []

    def choose(context: StorageDriverStoreContext, payload: Payload) -> str:
        asked.append((context, payload))
        return f"bucket-{len(asked)}"

    context = workflow()
    claims = await driver(MemoryClient(), choose).store(context, [*payloads(2), payload()])
    assert [claim.claim_data["bucket"] for claim in claims] == ["bucket-1", "bucket-2", "bucket-3"]
    assert all(given is context for given, _ in asked)
    assert [given for _, given in asked] == [*payloads(2), payload()]


@every_driver
async def test_what_the_bucket_function_raises_comes_through_as_it_is(driver: AnyDriver):
    class Unroutable(Exception):
        pass

    def choose(context: StorageDriverStoreContext, payload: Payload) -> str:
        raise Unroutable("no bucket for this")

    with pytest.raises(Unroutable, match=r"^no bucket for this$"):
        await store(driver(MemoryClient(), choose), payload())


@every_subject
async def test_a_payload_of_the_largest_size_passes_and_one_byte_more_does_not(
    subject: Subject, rclone: S3Server, bucket: str
):
    size = payload().ByteSize()
    text = f"Payload size {size} bytes exceeds the configured max_payload_size of {size - 1} bytes"
    async with subject.client(rclone) as client:
        exact = subject.driver(client, bucket, max_payload_size=size)
        assert await retrieve(exact, await store(exact, payload())) == [payload()]
        tight = subject.driver(client, bucket, max_payload_size=size - 1)
        with pytest.raises(ValueError, match=f"^{text}$"):
            await store(tight, payload())


async def test_all_payloads_are_measured_before_any_is_sent():
    client = MemoryClient()
    driver = S3StorageDriver(client, "bucket", max_payload_size=100)
    with pytest.raises(PayloadTooLarge):
        await store(driver, *payloads(3), payload(b"x" * 101))
    assert client.calls == []


@pytest.mark.parametrize("subject", OF_OURS, ids=str)
async def test_the_cap_holds_for_reading_too(subject: Subject, rclone: S3Server, bucket: str):
    large = payload(b"x" * 1000)
    async with subject.client(rclone) as client:
        claims = await store(subject.driver(client, bucket), large)
        with pytest.raises(PayloadTooLarge, match="max_payload_size of 999 bytes") as refused:
            await retrieve(subject.driver(client, bucket, max_payload_size=999), claims)
    assert f"[bucket={bucket}, key={claims[0].claim_data['key']}]" in str(refused.value)


class Meeting(MemoryClient):
    """Lets nobody pass until `parties` calls are under way."""

    def __init__(self, parties: int) -> None:
        super().__init__()
        self._barrier = asyncio.Barrier(parties)

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        await self._barrier.wait()
        await super().put_object(bucket=bucket, key=key, data=data)

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        await self._barrier.wait()
        return await super().get_object(bucket=bucket, key=key)


@every_driver
async def test_payloads_travel_side_by_side(driver: AnyDriver):
    async with asyncio.timeout(10):
        subject = driver(Meeting(5), "bucket")
        claims = await store(subject, *payloads(5))
        assert await retrieve(subject, claims) == payloads(5)


async def test_no_more_than_64_payloads_travel_at_once():
    class Counting(MemoryClient):
        under_way = most = 0

        async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0)
            self.under_way -= 1

    client = Counting()
    await store(S3StorageDriver(client, "bucket"), *payloads(300))
    assert client.most == 64


class Failing(MemoryClient):
    """Fails the first call of `method`, once all `parties` are under way; the others hang."""

    def __init__(self, method: str, parties: int) -> None:
        super().__init__()
        self._method = method
        self._barrier = asyncio.Barrier(parties)
        self._failed = False
        self.cancelled = 0

    async def _hang(self, method: str) -> None:
        if method != self._method:
            return
        try:
            await self._barrier.wait()
            if not self._failed:
                self._failed = True
                raise ConnectionError("the line is dead")
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            # Whoever cancels waits for the end, not only for the beginning of it.
            await asyncio.sleep(0.01)
            self.cancelled += 1
            raise

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        await self._hang("object_exists")
        return await super().object_exists(bucket=bucket, key=key)

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        await self._hang("put_object")
        await super().put_object(bucket=bucket, key=key, data=data)

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        await self._hang("get_object")
        return await super().get_object(bucket=bucket, key=key)


@every_driver
@pytest.mark.parametrize("method", ["object_exists", "put_object"])
async def test_the_first_failure_to_store_cancels_the_rest(driver: AnyDriver, method: str):
    client = Failing(method, parties=3)
    with pytest.raises(
        RuntimeError, match=r"S3StorageDriver store failed \[bucket=bucket, key=v0/d/sha256/"
    ) as failed:
        await store(driver(client, "bucket"), *payloads(3))
    assert str(failed.value.__cause__) == "the line is dead"
    assert client.cancelled == 2


@every_driver
async def test_the_first_failure_to_retrieve_cancels_the_rest(driver: AnyDriver):
    client = Failing("get_object", parties=3)
    claims = await store(driver(client, "bucket"), *payloads(3))
    with pytest.raises(RuntimeError, match=r"S3StorageDriver retrieve failed \[bucket=bucket, "):
        await retrieve(driver(client, "bucket"), claims)
    assert client.cancelled == 2


@pytest.mark.parametrize("verb", ["store", "retrieve"])
async def test_being_cancelled_cancels_the_children_and_waits_for_them(verb: str):
    claims = await store(S3StorageDriver(MemoryClient(), "bucket"), *payloads(3))
    # The fourth party is the test itself, so that all three are under way when it cancels.
    client = Failing("put_object" if verb == "store" else "get_object", parties=4)
    client._failed = True
    driver = S3StorageDriver(client, "bucket")
    work: Callable[[], Awaitable[object]] = (
        (lambda: store(driver, *payloads(3)))
        if verb == "store"
        else lambda: retrieve(driver, claims)
    )
    task = asyncio.ensure_future(work())
    await client._barrier.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.cancelled == 3


@every_subject
async def test_a_missing_bucket_is_a_failure_to_store_that_names_it(
    subject: Subject, moto: S3Server
):
    async with subject.client(moto) as client:
        driver = subject.driver(client, "does-not-exist")
        with pytest.raises(RuntimeError) as failed:
            await store(driver, payload())
        region = ", client_region=us-east-1" if client.describe() else ""
    digest = hashlib.sha256(payload().SerializeToString()).hexdigest()
    key = f"v0/d/sha256/{digest}"
    assert str(failed.value) == (
        f"S3StorageDriver store failed [bucket=does-not-exist, key={key}{region}]"
    )
    assert type(failed.value) is RuntimeError
    assert failed.value.__cause__ is not None


@every_subject
async def test_a_missing_bucket_is_a_failure_to_retrieve_that_names_it(
    subject: Subject, moto: S3Server
):
    digest = hashlib.sha256(b"").hexdigest()
    fields = {"bucket": "does-not-exist", "key": f"v0/d/sha256/{digest}"}
    hashed = {"hash_algorithm": "sha256", "hash_value": digest}
    async with subject.client(moto) as client:
        with pytest.raises(RuntimeError) as failed:
            await retrieve(
                subject.driver(client, "does-not-exist"), [StorageDriverClaim(fields | hashed)]
            )
        region = ", client_region=us-east-1" if client.describe() else ""
    assert str(failed.value) == (
        f"S3StorageDriver retrieve failed [bucket=does-not-exist, key=v0/d/sha256/{digest}{region}]"
    )
    assert type(failed.value) is RuntimeError
    assert failed.value.__cause__ is not None


async def test_a_client_whose_description_fails_does_not_hide_the_failure():
    class Undescribable(MemoryClient):
        def describe(self) -> dict[str, str]:
            raise RuntimeError("not now")

    driver = S3StorageDriver(Undescribable(), "does-not-exist")
    with pytest.raises(RuntimeError, match=r"store failed \[bucket=does-not-exist, key=[^,]+\]$"):
        await store(driver, payload())


async def test_one_driver_serves_several_event_loops(rclone: S3Server, bucket: str):
    async with OURS.client(rclone) as client:
        driver = S3StorageDriver(client, bucket)
    claims = await store(driver, payload())
    fetched = await asyncio.to_thread(lambda: asyncio.run(retrieve(driver, claims)))
    assert fetched == [payload()]


def test_no_secret_is_in_what_is_printed():
    client: S3StorageDriverClient = new_client(
        access_key_id="AKIDEXAMPLE", secret_access_key="canary-secret"
    )
    driver = S3StorageDriver(client, "bucket")
    for shown in (repr(client), repr(driver), str(dict(client.describe()))):
        assert "canary" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(driver)

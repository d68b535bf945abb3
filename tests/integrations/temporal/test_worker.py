"""The driver at work: a real Temporal server, real workers, a real S3 server."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import chain, repeat
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.converter import DataConverter, ExternalStorage, StorageDriver
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Replayer, Worker

from coatcheck.integrations.temporal import S3StorageDriver, new_client
from coatcheck.testing import FaultServer, S3Server, TemporalServer, forward, reply, s3_error
from tests.integrations.temporal.subjects import (
    OFFICIAL,
    OURS,
    Subject,
    coatcheck_client,
    stored_keys,
)
from tests.integrations.temporal.workflows import (
    ACTIVITIES,
    BRIEF,
    LARGE,
    LARGER,
    WORKFLOWS,
    Echo,
    Handover,
    Make,
    Parent,
    Relay,
    Talk,
    echo,
)

THRESHOLD_BYTES = 256

both_drivers = pytest.mark.parametrize("subject", [OFFICIAL, OURS], ids=str)


async def connect(temporal: TemporalServer, driver: StorageDriver) -> Client:
    storage = ExternalStorage(drivers=[driver], payload_size_threshold=THRESHOLD_BYTES)
    return await Client.connect(
        temporal.address, data_converter=replace(DataConverter.default, external_storage=storage)
    )


@asynccontextmanager
async def worker(client: Client, queue: str) -> AsyncIterator[None]:
    async with Worker(
        client, task_queue=queue, workflows=WORKFLOWS, activities=ACTIVITIES, max_cached_workflows=0
    ):
        yield


@asynccontextmanager
async def at_work(
    temporal: TemporalServer, server: S3Server, bucket: str, subject: Subject = OURS
) -> AsyncIterator[Client]:
    """A client and a worker, on a task queue named as the bucket."""
    async with subject.client(server) as s3:
        client = await connect(temporal, subject.driver(s3, bucket))
        async with worker(client, bucket):
            yield client


@pytest.fixture
def name() -> str:
    """A workflow's id."""
    return f"wf-{uuid.uuid4()}"


def prefixes(server: S3Server, bucket: str, run_id: str | None = None) -> list[str]:
    """What stands before the digest in the keys that are stored, the run's id named "RUN"."""
    keys = stored_keys(server, bucket)
    cut = [key.removeprefix("v0/ns/default/").partition("/d/sha256/")[0] for key in keys]
    return sorted(key.replace(run_id or "no run", "RUN") for key in cut)


@both_drivers
async def test_inputs_lie_under_no_run_and_results_under_the_run(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str, subject: Subject
):
    async with at_work(temporal, rclone, bucket, subject) as client:
        handle = await client.start_workflow(Echo.run, LARGE, id=name, task_queue=bucket)
        assert await handle.result() == LARGE
    # The client does not know the run yet; the activity's input and result, and the workflow's
    # result, are the same bytes under the same run.
    assert prefixes(rclone, bucket, handle.result_run_id) == [
        f"wt/Echo/wi/{name}/ri/RUN",
        f"wt/Echo/wi/{name}/ri/null",
    ]


@both_drivers
async def test_an_activitys_result_lies_under_its_workflow(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str, subject: Subject
):
    async with at_work(temporal, rclone, bucket, subject) as client:
        handle = await client.start_workflow(Make.run, 1, id=name, task_queue=bucket)
        assert await handle.result() == LARGE
    assert prefixes(rclone, bucket, handle.result_run_id) == [f"wt/Make/wi/{name}/ri/RUN"]


@both_drivers
async def test_an_activity_of_its_own_lies_under_itself(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str, subject: Subject
):
    async with at_work(temporal, rclone, bucket, subject) as client:
        handle = await client.start_activity(
            echo, LARGE, id=name, task_queue=bucket, start_to_close_timeout=BRIEF
        )
        assert await handle.result() == LARGE
    assert prefixes(rclone, bucket, handle.run_id) == [
        f"at/echo/ai/{name}/ri/RUN",
        f"at/echo/ai/{name}/ri/null",
    ]


@both_drivers
async def test_signals_queries_and_updates(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str, subject: Subject
):
    async with at_work(temporal, rclone, bucket, subject) as client:
        handle = await client.start_workflow(Talk.run, id=name, task_queue=bucket)
        assert await handle.query(Talk.ask, LARGE) == LARGE
        assert await handle.execute_update(Talk.change, LARGER) == LARGER
        await handle.signal(Talk.tell, LARGE)
        assert await handle.result() == LARGE
    # The client knows no type; it stores the arguments, LARGE for two of them.
    assert prefixes(rclone, bucket, handle.result_run_id) == [
        f"wt/Talk/wi/{name}/ri/RUN",
        f"wt/Talk/wi/{name}/ri/RUN",
        f"wt/null/wi/{name}/ri/null",
        f"wt/null/wi/{name}/ri/null",
    ]


@both_drivers
async def test_a_childs_input_lies_under_the_child_and_its_result_under_the_parent(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str, subject: Subject
):
    async with at_work(temporal, rclone, bucket, subject) as client:
        handle = await client.start_workflow(Parent.run, LARGE, id=name, task_queue=bucket)
        assert await handle.result() == LARGE[::-1]
    # The child knows its parent's id and run, but not its type.
    assert prefixes(rclone, bucket, handle.result_run_id) == [
        f"wt/Child/wi/{name}-child/ri/null",
        f"wt/Parent/wi/{name}/ri/RUN",
        f"wt/Parent/wi/{name}/ri/null",
        f"wt/null/wi/{name}/ri/RUN",
    ]


async def test_megabytes_travel_through_continue_as_new(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str
):
    megabytes = "0123456789abcdef" * (3 * 65536)
    async with at_work(temporal, rclone, bucket) as client:
        result = await client.execute_workflow(
            Relay.run, args=[megabytes, 2], id=name, task_queue=bucket
        )
    assert result == megabytes


async def test_a_history_replays_with_the_driver_and_says_what_it_lacks_without(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str
):
    async with at_work(temporal, rclone, bucket) as client:
        handle = await client.start_workflow(Echo.run, LARGE, id=name, task_queue=bucket)
        await handle.result()
        history = await handle.fetch_history()
    assert len(history.to_json()) < 2 * len(LARGE)
    replayer = Replayer(workflows=[Echo], data_converter=client.data_converter)
    assert (await replayer.replay_workflow(history)).replay_failure is None
    bare = await Replayer(workflows=[Echo]).replay_workflow(history, raise_on_replay_failure=False)
    assert "TMPRL1105" in str(bare.replay_failure)


@pytest.mark.parametrize("begun_with", [OFFICIAL, OURS], ids=str)
async def test_a_worker_with_the_other_driver_goes_on_with_the_workflow(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str, begun_with: Subject
):
    continued_with = OURS if begun_with is OFFICIAL else OFFICIAL
    async with at_work(temporal, rclone, bucket, begun_with) as client:
        handle = await client.start_workflow(Handover.run, LARGE, id=name, task_queue=bucket)
        await handle.execute_update(Handover.wait_for_first_half)
    async with at_work(temporal, rclone, bucket, continued_with) as client:
        handle = client.get_workflow_handle_for(Handover.run, name)
        await handle.signal(Handover.resume)
        assert await handle.result() == LARGE + LARGE


async def failure_of(handle: WorkflowHandle[Any, str]) -> BaseException | None:
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    return failed.value.cause


async def test_a_lost_payload_fails_the_workflow_for_good(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str
):
    async with OURS.client(rclone) as s3:
        client = await connect(temporal, S3StorageDriver(s3, bucket))
        handle = await client.start_workflow(Echo.run, LARGE, id=name, task_queue=bucket)
        [key] = stored_keys(rclone, bucket)
        witness = rclone.witness()
        witness.delete_object(Bucket=bucket, Key=key)
        witness.close()
        async with worker(client, bucket):
            cause = await failure_of(handle)
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.non_retryable) == ("not_found", True)
    assert cause.message == (
        f"S3StorageDriver retrieve failed [bucket={bucket}, key={key}, client_region=us-east-1]"
    )
    assert "there is no such object" in str(cause.cause)


async def test_a_claim_for_a_foreign_bucket_fails_the_workflow_and_fetches_nothing(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str
):
    async with OURS.client(rclone) as s3:
        client = await connect(temporal, S3StorageDriver(s3, bucket))
        handle = await client.start_workflow(Echo.run, LARGE, id=name, task_queue=bucket)
    with FaultServer() as untouched:
        driver = S3StorageDriver(coatcheck_client(rclone, untouched.endpoint), "another-bucket")
        async with worker(await connect(temporal, driver), bucket):
            cause = await failure_of(handle)
        assert untouched.connections == 0
    assert isinstance(cause, ApplicationError)
    assert cause.type == "claim_rejected"
    assert f"allowed_buckets=['{bucket}']" in cause.message


@pytest.fixture(
    params=[
        s3_error(503, "SlowDown"),
        s3_error(403, "AccessDenied"),
        s3_error(404, "NoSuchBucket"),
        reply().closed(),
    ],
    ids=["throttled", "denied", "no bucket", "down"],
)
def broken(request: pytest.FixtureRequest, rclone: S3Server) -> Iterator[FaultServer]:
    """A line to rclone that fails for the first two requests, and works from then on."""
    behaviours = chain(repeat(request.param, 2), repeat(forward(rclone.endpoint)))
    with FaultServer(behaviours) as server:
        yield server


async def test_an_outage_is_sat_out(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str, broken: FaultServer
):
    async with OURS.client(rclone) as s3:
        starter = await connect(temporal, S3StorageDriver(s3, bucket))
        # A task that failed twice is tried again when its time is up: 10 s unless it is said here.
        handle = await starter.start_workflow(
            Echo.run, LARGE, id=name, task_queue=bucket, task_timeout=timedelta(seconds=1)
        )
    # One attempt of ours for each of Temporal's: what is shown here is that Temporal tries again.
    s3 = new_client(
        region=rclone.region,
        endpoint_url=broken.endpoint,
        access_key_id=rclone.access_key_id,
        secret_access_key=rclone.secret_access_key,
        max_attempts=1,
    )
    client = await connect(temporal, S3StorageDriver(s3, bucket))
    async with worker(client, bucket):
        assert await handle.result() == LARGE
    assert len(broken.requests) > 2


@both_drivers
async def test_a_failure_to_store_is_told_in_the_history_in_the_official_words(
    temporal: TemporalServer, moto: S3Server, name: str, subject: Subject
):
    async with subject.client(moto) as s3:
        client = await connect(temporal, subject.driver(s3, "does-not-exist"))
        async with worker(client, name):
            handle = await client.start_workflow(Make.run, 1, id=name, task_queue=name)
            cause = await failure_of(handle)
    assert isinstance(cause, ActivityError)
    told = cause.cause
    assert isinstance(told, ApplicationError)
    assert told.type == "RuntimeError"
    assert told.message.startswith(
        "S3StorageDriver store failed [bucket=does-not-exist, "
        f"key=v0/ns/default/wt/Make/wi/{name}/ri/{handle.result_run_id}/d/sha256/"
    )
    assert told.message.endswith(", client_region=us-east-1]")
    assert told.cause is not None


async def test_a_payload_over_the_cap_is_not_computed_again(
    temporal: TemporalServer, rclone: S3Server, bucket: str, name: str
):
    async with OURS.client(rclone) as s3:
        client = await connect(temporal, S3StorageDriver(s3, bucket, max_payload_size=1000))
        async with worker(client, bucket):
            # 0 attempts: as many as it takes. It takes one.
            handle = await client.start_workflow(Make.run, 0, id=name, task_queue=bucket)
            cause = await failure_of(handle)
    assert isinstance(cause, ActivityError)
    assert isinstance(cause.cause, ApplicationError)
    assert cause.cause.type == "too_large"
    assert stored_keys(rclone, bucket) == []

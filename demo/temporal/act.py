"""Runs a workflow with megabytes in and out, and looks at what was left where."""

import asyncio
import hashlib
from collections.abc import Iterator

from temporalio.client import Client, WorkflowHandle
from temporalio.converter import DataConverter, ExternalStorage
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from coatcheck.integrations.temporal import DriverClient, S3StorageDriver, new_client
from coatcheck.testing import S3Server, start_temporal
from demo.stage import Failed, Stage
from demo.temporal.activities import bind, typeset, write_manuscript
from demo.temporal.history import references_in
from demo.temporal.outcome import Moved, StoredObject, TemporalOutcome
from demo.temporal.stopwatch import Stopwatch
from demo.temporal.workflow import Publish

BUCKET = "payloads"
TASK_QUEUE = "publishing"
WORKFLOW_ID = "the-cloakroom"
OUT_OF_TIME_SECONDS = 60


def play(stage: Stage) -> TemporalOutcome:
    """Run the act. Raises Failed if the workflow hangs, what Temporal raises if it fails."""
    temporal = stage.start("Temporal", start_temporal)
    stage.s3.create_bucket(BUCKET)
    driver = Stopwatch(S3StorageDriver(_client_for(stage.s3), BUCKET))
    return stage.interruption.run(lambda: _play(stage, temporal.address, driver))


def _client_for(s3: S3Server) -> DriverClient:
    return new_client(
        endpoint_url=s3.endpoint,
        region=s3.region,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        proxy="",  # the server is on this machine, whatever the environment says of the way out
    )


async def _play(stage: Stage, address: str, driver: Stopwatch) -> TemporalOutcome:
    manuscript = write_manuscript("The Cloakroom")
    # Temporal's own words about the payloads that it refuses would only be in the way here.
    quiet = LoggingConfig(TelemetryFilter(core_level="OFF", other_level="OFF"))
    runtime = Runtime(telemetry=TelemetryConfig(logging=quiet))
    plain = await Client.connect(address, runtime=runtime)
    client = await Client.connect(
        address,
        runtime=runtime,
        data_converter=DataConverter(external_storage=ExternalStorage(drivers=[driver])),
    )
    with stage.screen.step("Trying the workflow without external storage"):
        refusal = await _refusal(plain, manuscript)
    with stage.screen.step("Running the workflow with coatcheck"):
        book = await _publish(stage, client, manuscript)
    with stage.screen.step("Looking at what is where"):
        # Through the client without external storage, so that references stay references.
        handle = plain.get_workflow_handle(WORKFLOW_ID)
        history = await handle.fetch_history()
        description = await handle.describe()
        return TemporalOutcome(
            moved=[
                Moved(
                    reference,
                    store_seconds=driver.stores[reference.key].popleft(),
                    retrieve_seconds=driver.retrievals[reference.key].popleft(),
                )
                for reference in references_in(history.events)
            ],
            objects=list(_objects_under(stage.s3, BUCKET)),
            history_bytes=description.raw_description.workflow_execution_info.history_size_bytes,
            refusal=refusal,
            result_sha256=hashlib.sha256(book).hexdigest(),
            expected_sha256=hashlib.sha256(await bind(await typeset(manuscript))).hexdigest(),
        )


async def _publish(stage: Stage, client: Client, manuscript: bytes) -> bytes:
    worker = Worker(client, task_queue=TASK_QUEUE, workflows=[Publish], activities=[typeset, bind])
    async with worker:
        try:
            async with asyncio.timeout(OUT_OF_TIME_SECONDS):
                handle = await _start(client, manuscript)
                return await handle.result()
        except TimeoutError:
            raise Failed(f"the workflow did not end within {OUT_OF_TIME_SECONDS} s") from None
        finally:
            # A worker that is cancelled while it shuts down may wait for its pollers for ever.
            stage.interruption.hold()


async def _start(client: Client, manuscript: bytes) -> WorkflowHandle[Publish, bytes]:
    return await client.start_workflow(
        Publish.run, manuscript, id=WORKFLOW_ID, task_queue=TASK_QUEUE
    )


async def _refusal(plain: Client, manuscript: bytes) -> str | None:
    """Start the workflow with its payload in the request; return why the server did not."""
    try:
        handle = await _start(plain, manuscript)
    except RPCError as refused:
        if refused.status is not RPCStatusCode.INVALID_ARGUMENT:
            raise
        return refused.message
    await handle.terminate("the demo only wanted to see it start")
    return None


def _objects_under(s3: S3Server, bucket: str) -> Iterator[StoredObject]:
    """Read what the server has written to its disk: a look past everything that was just used."""
    assert s3.root is not None
    folder = s3.root / bucket
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            yield StoredObject(
                path.relative_to(folder).as_posix(),
                len(content),
                hashlib.sha256(content).hexdigest(),
            )

"""Workflows whose every kind of payload is large. Imports the driver, as users' modules do."""

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from coatcheck.integrations.temporal import S3StorageDriver

LARGE = "large" * 1000
LARGER = "larger" * 1000
BRIEF = timedelta(seconds=20)

DRIVER_NAME = S3StorageDriver.name


@activity.defn
async def echo(data: str) -> str:
    return data


@activity.defn
async def make(data: str) -> str:
    """Turn a small word into a large payload."""
    return data * 1000


@workflow.defn
class Echo:
    """Hands its input through an activity."""

    @workflow.run
    async def run(self, data: str) -> str:
        return await workflow.execute_activity(echo, data, start_to_close_timeout=BRIEF)


@workflow.defn
class Make:
    """Small in, large out; `attempts` as users set it for activities."""

    @workflow.run
    async def run(self, attempts: int) -> str:
        return await workflow.execute_activity(
            make,
            "large",
            start_to_close_timeout=BRIEF,
            retry_policy=RetryPolicy(maximum_attempts=attempts),
        )


@workflow.defn
class Talk:
    """Large payloads by signal, query and update."""

    def __init__(self) -> None:
        self._heard = ""

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: bool(self._heard))
        return self._heard

    @workflow.signal
    def tell(self, data: str) -> None:
        self._heard = data

    @workflow.query
    def ask(self, data: str) -> str:
        return data

    @workflow.update
    async def change(self, data: str) -> str:
        return data


@workflow.defn
class Child:
    @workflow.run
    async def run(self, data: str) -> str:
        return data[::-1]


@workflow.defn
class Parent:
    @workflow.run
    async def run(self, data: str) -> str:
        child_id = f"{workflow.info().workflow_id}-child"
        return await workflow.execute_child_workflow(Child.run, data, id=child_id)


@workflow.defn
class Relay:
    """Continues as new, its large input with it."""

    @workflow.run
    async def run(self, data: str, rounds: int) -> str:
        if rounds > 0:
            workflow.continue_as_new(args=[data, rounds - 1])
        return data


@workflow.defn
class Handover:
    """Stores before a signal and reads after it, maybe on another worker."""

    def __init__(self) -> None:
        self._first = ""
        self._resumed = False

    @workflow.run
    async def run(self, data: str) -> str:
        self._first = await workflow.execute_activity(echo, data, start_to_close_timeout=BRIEF)
        await workflow.wait_condition(lambda: self._resumed)
        both = self._first + data
        return await workflow.execute_activity(echo, both, start_to_close_timeout=BRIEF)

    @workflow.update
    async def wait_for_first_half(self) -> None:
        await workflow.wait_condition(lambda: bool(self._first))

    @workflow.signal
    def resume(self) -> None:
        self._resumed = True


WORKFLOWS = [Echo, Make, Talk, Child, Parent, Relay, Handover]
ACTIVITIES = [echo, make]

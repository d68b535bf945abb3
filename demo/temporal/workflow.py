"""The demo's workflow. Temporal loads this file into its sandbox, so it holds nothing else."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from demo.temporal.activities import bind, typeset

PATIENCE = timedelta(seconds=30)
TRIES = RetryPolicy(maximum_attempts=3)


@workflow.defn
class Publish:
    """Makes a book of a manuscript. It knows nothing of S3: that is the data converter's."""

    @workflow.run
    async def run(self, manuscript: bytes) -> bytes:
        pages = await workflow.execute_activity(
            typeset, manuscript, start_to_close_timeout=PATIENCE, retry_policy=TRIES
        )
        return await workflow.execute_activity(
            bind, pages, start_to_close_timeout=PATIENCE, retry_policy=TRIES
        )

"""Temporal's large payloads in S3: a drop-in for `temporalio.contrib.aws.s3driver`.

    driver = S3StorageDriver(client=new_client(region="eu-west-1"), bucket="my-payloads")
    DataConverter(external_storage=ExternalStorage(drivers=[driver]))

Names, keys and claims are those of the official driver of temporalio 1.35; each reads what the
other wrote. How to plug in, migrate and roll back: docs/how-to/temporal.md.
"""

from temporalio import workflow

# Where a workflow's own module imports this one, Temporal's sandbox would run all of coatcheck
# anew for each run of the workflow, and the fork hooks would keep what it made.
with workflow.unsafe.imports_passed_through():
    from coatcheck.integrations.temporal.client import DriverClient, new_client
    from coatcheck.integrations.temporal.driver import S3StorageDriver
    from coatcheck.integrations.temporal.errors import (
        ClaimRefused,
        PayloadCorrupt,
        PayloadLost,
        PayloadTooLarge,
        PermanentFailure,
    )

__all__ = [
    "ClaimRefused",
    "DriverClient",
    "PayloadCorrupt",
    "PayloadLost",
    "PayloadTooLarge",
    "PermanentFailure",
    "S3StorageDriver",
    "new_client",
]

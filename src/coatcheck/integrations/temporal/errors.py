"""What the driver raises: which failures end a workflow, and which are tried again.

Temporal fails the workflow or activity for good when a driver raises a non-retryable
ApplicationError, and tries the task again after anything else. Permanent is only what no operator
can mend: a payload that is lost, corrupt or over the cap, and a claim that is refused. Outages,
throttling, missing permissions, wrong keys and missing buckets are RuntimeErrors as ever: the
task is tried again until somebody has mended them, and no workflow is lost to a bad deployment.
"""

from typing import TYPE_CHECKING, ClassVar

from temporalio.contrib.aws.s3driver import S3StorageDriverClient
from temporalio.exceptions import ApplicationError

from coatcheck import errors

if TYPE_CHECKING:
    from coatcheck.integrations.temporal.claims import PayloadClaim


class PermanentFailure(ApplicationError):
    """A failure that trying again cannot mend; its `type` is the stable code of coatcheck's error.

    Each subclass is also the built-in error that the official driver raises in its place.
    """

    code: ClassVar[str]

    def __init__(self, message: str) -> None:
        super().__init__(message, type=self.code, non_retryable=True)
        # ApplicationError puts its type before the text; callers match the official driver's text.
        self.args = (message,)


class PayloadLost(PermanentFailure, RuntimeError):
    """The server says that there is no such object any more."""

    code = errors.NotFound.code


class PayloadCorrupt(PermanentFailure, ValueError):
    """What lies under the key is not what was stored there. The bytes were withheld."""

    code = errors.Corrupt.code


class PayloadTooLarge(PermanentFailure, ValueError):
    """A payload is over the driver's max_payload_size, on its way out or in."""

    code = errors.TooLarge.code


class ClaimRefused(PermanentFailure, ValueError):
    """A claim is malformed, or names a bucket that the driver was not told of. Nothing was sent."""

    code = errors.ClaimRejected.code


def over_cap(size_bytes: int, max_payload_size: int) -> PayloadTooLarge:
    """Make the error for a payload that is not to be stored."""
    return PayloadTooLarge(
        f"Payload size {size_bytes} bytes exceeds the configured "
        f"max_payload_size of {max_payload_size} bytes"
    )


def store_failure(bucket: str, key: str, client: S3StorageDriverClient) -> RuntimeError:
    """Make the error to raise, from its cause, where a payload could not be stored."""
    return RuntimeError(
        f"S3StorageDriver store failed [bucket={bucket}, key={key}{_description(client)}]"
    )


def retrieve_failure(
    claim: "PayloadClaim", client: S3StorageDriverClient, max_payload_size: int, cause: Exception
) -> PermanentFailure | RuntimeError:
    """Make the error to raise from `cause` where a payload could not be fetched."""
    place = f"[bucket={claim.bucket}, key={claim.key}]"
    match cause:
        case errors.Corrupt():
            # The digest of what is there would tell a forger what to write into the claim.
            return PayloadCorrupt(
                f"S3StorageDriver integrity check failed {place}: "
                f"expected {claim.digest}, got sha256:(withheld)"
            )
        case errors.TooLarge():
            return PayloadTooLarge(
                f"Payload size exceeds the configured max_payload_size of {max_payload_size} bytes "
                f"{place}: {cause.message}"
            )
    failed = (
        f"S3StorageDriver retrieve failed "
        f"[bucket={claim.bucket}, key={claim.key}{_description(client)}]"
    )
    return PayloadLost(failed) if _is_lost(cause) else RuntimeError(failed)


def _is_lost(cause: Exception) -> bool:
    """Whether S3 itself said that the object is gone: a proxy's bare 404 may be an outage."""
    if isinstance(cause, errors.NotFound):
        return cause.diagnostics.server_code == "NoSuchKey"
    # The shape of botocore's ClientError, which clients other than ours raise.
    response = getattr(cause, "response", None)
    error = response.get("Error") if isinstance(response, dict) else None
    return isinstance(error, dict) and error.get("Code") == "NoSuchKey"


def _description(client: S3StorageDriverClient) -> str:
    try:
        described = dict(client.describe())
    except Exception:
        # Somebody else's code, asked while a failure is being reported: it must not mask that.
        return ""
    return "".join(f", {name}={value}" for name, value in described.items())

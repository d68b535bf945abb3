"""URLs open stores on asyncio: the place where the parts are put together."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack

from coatcheck.objects.opening import Backend, open_on
from coatcheck.objects.port import ObjectStore
from coatcheck.payloads.store import DEFAULT_MAX_PAYLOAD_BYTES, PayloadStore
from coatcheck.payloads.transfer import DEFAULT_PART_BYTES
from coatcheck.results.store import ResultStore
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.settings import Location, S3Arguments
from coatcheck.volumes.paths import check_path
from coatcheck.volumes.volume import Volume
from coatcheck.wire.aio import AsyncioWire

if TYPE_CHECKING:
    from botocore.client import BaseClient

    from coatcheck.objects.buckets import Buckets

ASYNC = Backend(ASYNCIO, AsyncioWire)


def open_objects(url: str, **settings: Unpack[S3Arguments]) -> ObjectStore:
    """Open the objects at `s3://bucket/prefix?...`, `file:///path` or `memory://name`. No I/O.

    `settings` are those of `coatcheck.settings.S3Settings`; they win over the URL's options,
    which win over the environment. Credentials come from `settings`, the AWS_* variables or the
    AWS chain, never from the URL. Raises ConfigError.
    """
    return open_on(ASYNC, url, settings)


def open_buckets(**settings: Unpack[S3Arguments]) -> "Buckets":
    """Reach any bucket of one S3 endpoint with one identity, as `open_objects` does. No I/O."""
    from coatcheck.objects.buckets import Buckets
    from coatcheck.s3.client import S3Client

    checked = Location("s3", "", "", {}).settings(settings)
    return Buckets(S3Client(checked, runtime=ASYNC.runtime, make_wire=ASYNC.make_wire))


def open_buckets_of(client: "BaseClient") -> "Buckets":
    """Reach the buckets that a botocore or boto3 S3 client reaches, with our own wire. No I/O.

    Endpoint, region, addressing style, CA bundle and credentials are the client's; those that
    expire are renewed through it. Its retries, time limits and event hooks are not taken over.
    Raises ConfigError.
    """
    from coatcheck.objects.botocore_client import adopted

    return adopted(client, ASYNC)


def open_store(
    url: str,
    *,
    name: str = "default",
    part_size_bytes: int = DEFAULT_PART_BYTES,
    max_payload_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES,
    **settings: Unpack[S3Arguments],
) -> PayloadStore:
    """Open the payload store at `url`, as `open_objects` does. No I/O.

    See `coatcheck.PayloadStore` for the other arguments. Raises ConfigError.
    """
    return PayloadStore(
        open_objects(url, **settings),
        name=name,
        part_size_bytes=part_size_bytes,
        max_payload_bytes=max_payload_bytes,
    )


def open_results(
    url: str, *, expires_in_seconds: float | None = None, **settings: Unpack[S3Arguments]
) -> ResultStore:
    """Open the result store at `url`, as `open_objects` does. No I/O.

    See `coatcheck.ResultStore` for the other argument. Raises ConfigError.
    """
    return ResultStore(open_objects(url, **settings), expires_in_seconds=expires_in_seconds)


def open_volume(
    url: str, *, check: Callable[[str], str] = check_path, **settings: Unpack[S3Arguments]
) -> Volume:
    """Open the tree of files at `url`, as `open_objects` does. No I/O.

    See `coatcheck.Volume` for the other argument. Raises ConfigError.
    """
    return Volume(open_objects(url, **settings), check=check)

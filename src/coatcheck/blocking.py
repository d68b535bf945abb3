"""The same stores without await: each call runs to its end on the calling thread.

Same names, same arguments, same results as in `coatcheck`; no event loop, no hidden thread.
Safe in forked workers, from any thread, and where a signal handler interrupts (its exception
comes out of the call, after the clean-up).
"""

from collections.abc import Callable
from typing import Unpack

from coatcheck.objects.blocking import BlockingObjectStore
from coatcheck.objects.opening import Backend, open_on
from coatcheck.payloads.blocking import BlockingPayloadStore
from coatcheck.payloads.store import DEFAULT_MAX_PAYLOAD_BYTES, PayloadStore
from coatcheck.payloads.transfer import DEFAULT_PART_BYTES
from coatcheck.results.blocking import BlockingResultStore
from coatcheck.results.store import ResultStore
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.settings import S3Arguments
from coatcheck.volumes.blocking import BlockingVolume, BlockingVolumeFile
from coatcheck.volumes.paths import check_path
from coatcheck.volumes.volume import Volume
from coatcheck.wire.blocking import BlockingWire

__all__ = [
    "BlockingObjectStore",
    "BlockingPayloadStore",
    "BlockingResultStore",
    "BlockingVolume",
    "BlockingVolumeFile",
    "open_objects",
    "open_results",
    "open_store",
    "open_volume",
]

_BACKEND = Backend(BLOCKING, BlockingWire)


def open_objects(url: str, **settings: Unpack[S3Arguments]) -> BlockingObjectStore:
    """Open the objects at `url`; see `coatcheck.open_objects`."""
    return BlockingObjectStore(open_on(_BACKEND, url, settings))


def open_store(
    url: str,
    *,
    name: str = "default",
    part_size_bytes: int = DEFAULT_PART_BYTES,
    max_payload_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES,
    **settings: Unpack[S3Arguments],
) -> BlockingPayloadStore:
    """Open the payload store at `url`; see `coatcheck.open_store`."""
    store = PayloadStore(
        open_on(_BACKEND, url, settings),
        name=name,
        part_size_bytes=part_size_bytes,
        max_payload_bytes=max_payload_bytes,
    )
    return BlockingPayloadStore(store)


def open_results(
    url: str, *, expires_in_seconds: float | None = None, **settings: Unpack[S3Arguments]
) -> BlockingResultStore:
    """Open the result store at `url`; see `coatcheck.open_results`."""
    objects = open_on(_BACKEND, url, settings)
    return BlockingResultStore(ResultStore(objects, expires_in_seconds=expires_in_seconds))


def open_volume(
    url: str, *, check: Callable[[str], str] = check_path, **settings: Unpack[S3Arguments]
) -> BlockingVolume:
    """Open the tree of files at `url`; see `coatcheck.open_volume`."""
    return BlockingVolume(Volume(open_on(_BACKEND, url, settings), check=check))

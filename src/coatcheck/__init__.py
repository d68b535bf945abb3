"""Hand over your payload, keep the claim.

    store = coatcheck.open_store("s3://bucket/prefix?region=eu-west-1")
    claim = await store.put(b"...")
    data = await store.get(claim)

The same without await: `coatcheck.blocking`. In Temporal and other frameworks:
`coatcheck.integrations`. Errors: `coatcheck.errors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coatcheck import errors
    from coatcheck.errors import (
        BucketNotFound,
        ClaimRejected,
        CoatcheckError,
        ConfigError,
        Conflict,
        Corrupt,
        DeadlineExceeded,
        Expired,
        Forbidden,
        NotFound,
        Throttled,
        TooLarge,
        Unavailable,
        Unsupported,
    )
    from coatcheck.objects.port import ObjectStore
    from coatcheck.opening import open_objects, open_results, open_store, open_volume
    from coatcheck.payloads.claim import Claim
    from coatcheck.payloads.store import PayloadStore, StoredPayload
    from coatcheck.results.store import Result, ResultStore
    from coatcheck.types import ByteRange, Digest, IfAbsent, IfMatch, ObjectInfo
    from coatcheck.volumes.copying import CopiedFile, CopySummary
    from coatcheck.volumes.deleting import NotAllDeleted
    from coatcheck.volumes.file import VolumeFile
    from coatcheck.volumes.volume import Volume

__all__ = [
    "BucketNotFound",
    "ByteRange",
    "Claim",
    "ClaimRejected",
    "CoatcheckError",
    "ConfigError",
    "Conflict",
    "CopiedFile",
    "CopySummary",
    "Corrupt",
    "DeadlineExceeded",
    "Digest",
    "Expired",
    "Forbidden",
    "IfAbsent",
    "IfMatch",
    "NotAllDeleted",
    "NotFound",
    "ObjectInfo",
    "ObjectStore",
    "PayloadStore",
    "Result",
    "ResultStore",
    "StoredPayload",
    "Throttled",
    "TooLarge",
    "Unavailable",
    "Unsupported",
    "Volume",
    "VolumeFile",
    "errors",
    "open_objects",
    "open_results",
    "open_store",
    "open_volume",
]

# Loaded when they are first asked for: Temporal's sandbox runs this module for each workflow run,
# and a worker that stores nothing should not pay for asyncio and libcurl. The light ones first.
_HOMES = (
    "coatcheck.errors",
    "coatcheck.types",
    "coatcheck.payloads.claim",
    "coatcheck.objects.port",
    "coatcheck.payloads.store",
    "coatcheck.results.store",
    "coatcheck.volumes.deleting",
    "coatcheck.volumes.volume",
    "coatcheck.opening",
)


def __getattr__(name: str) -> object:
    if name in __all__:
        for home in _HOMES:
            module = import_module(home)
            if home == f"{__name__}.{name}":
                return module
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

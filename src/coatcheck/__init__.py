"""Hand over your payload, keep the claim.

    store = coatcheck.open_store("s3://bucket/prefix?region=eu-west-1")
    claim = await store.put(b"...")
    data = await store.get(claim)

The same without await: `coatcheck.blocking`. In Temporal and other frameworks:
`coatcheck.integrations`. Errors: `coatcheck.errors`.
"""

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
from coatcheck.opening import open_objects, open_store
from coatcheck.payloads.claim import Claim
from coatcheck.payloads.store import PayloadStore, StoredPayload
from coatcheck.types import ByteRange, Digest, IfAbsent, IfMatch, ObjectInfo

__all__ = [
    "BucketNotFound",
    "ByteRange",
    "Claim",
    "ClaimRejected",
    "CoatcheckError",
    "ConfigError",
    "Conflict",
    "Corrupt",
    "DeadlineExceeded",
    "Digest",
    "Expired",
    "Forbidden",
    "IfAbsent",
    "IfMatch",
    "NotFound",
    "ObjectInfo",
    "ObjectStore",
    "PayloadStore",
    "StoredPayload",
    "Throttled",
    "TooLarge",
    "Unavailable",
    "Unsupported",
    "errors",
    "open_objects",
    "open_store",
]

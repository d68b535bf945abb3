"""The claim that stands in a history in a payload's place, as Temporal's S3 drivers write it.

    {"bucket": ..., "key": ..., "hash_algorithm": "sha256", "hash_value": "<64 hexadecimal>"}

The TypeScript SDK spells the last two `hashAlgorithm` and `hashValue`; both are read.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from temporalio.converter import StorageDriverClaim

from coatcheck.errors import printable
from coatcheck.integrations.temporal.errors import ClaimRefused
from coatcheck.integrations.temporal.keys import MAX_KEY_BYTES, digest_in
from coatcheck.types import Digest


@dataclass(frozen=True, slots=True)
class PayloadClaim:
    """Where a payload lies, and the digest that it must have."""

    bucket: str
    key: str
    digest: Digest

    def written(self) -> StorageDriverClaim:
        """Return the claim in the form that goes into the history."""
        return StorageDriverClaim(
            {
                "bucket": self.bucket,
                "key": self.key,
                "hash_algorithm": self.digest.algorithm,
                "hash_value": self.digest.hex,
            }
        )


def read_claim(data: object, allowed_buckets: Collection[str]) -> PayloadClaim:
    """Read a claim's `claim_data`, which is data from strangers. No I/O.

    Raises ClaimRefused unless it names one of `allowed_buckets`, has a key of the format that
    Temporal's drivers write, of at most 1,024 bytes, and a SHA-256 that the key agrees with.
    Fields that are not known are passed over, as the official driver does.
    """
    fields = _texts(data)
    bucket, key = fields.get("bucket"), fields.get("key")
    if not bucket or not key:
        raise ClaimRefused("S3StorageDriver claim must contain 'bucket' and 'key', both texts")
    place = f"[bucket={printable(bucket, 80)}, key={printable(key)}]"
    if bucket not in allowed_buckets:
        raise ClaimRefused(
            f"S3StorageDriver claim names a bucket that this driver was not told of {place}: "
            f"if it is one of yours, pass allowed_buckets=[{printable(bucket, 80)!r}]"
        )
    algorithm = fields.get("hash_algorithm") or fields.get("hashAlgorithm")
    value = fields.get("hash_value") or fields.get("hashValue")
    if not algorithm or not value:
        raise ClaimRefused(
            f"S3StorageDriver claim is missing required content hash information {place}: "
            f"claim_data must contain 'hash_algorithm' and 'hash_value'"
        )
    if algorithm != Digest.algorithm:
        raise ClaimRefused(
            f"S3StorageDriver unsupported hash algorithm {place}: "
            f"expected {Digest.algorithm}, got {printable(algorithm, 80)}"
        )
    named = digest_in(key) if key.isprintable() and len(key.encode()) <= MAX_KEY_BYTES else None
    if named is None:
        raise ClaimRefused(
            f"S3StorageDriver claim has a key that no driver writes {place}: "
            f"expected v0/ at its start, /d/sha256/ and a digest at its end, at most 1,024 bytes"
        )
    if value != named.hex:
        raise ClaimRefused(
            f"S3StorageDriver integrity check failed {place}: "
            f"expected {algorithm}:{printable(value, 80)}, got {named} in the key"
        )
    return PayloadClaim(bucket, key, named)


def _texts(data: object) -> dict[str, str]:
    if not isinstance(data, Mapping):
        return {}
    return {name: value for name, value in data.items() if isinstance(value, str)}

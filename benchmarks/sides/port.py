"""What every side can do."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

P = TypeVar("P")

Claim = Mapping[str, str]
"""What a side needs to find a payload again, also from another process."""


@dataclass(frozen=True)
class Place:
    """The bucket that all sides use, and the keys to it."""

    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    bucket: str

    @classmethod
    def from_environment(cls, bucket: str) -> Self:
        """Read the AWS_* variables that `S3Server.environment` makes."""
        return cls(
            os.environ["AWS_ENDPOINT_URL"],
            os.environ["AWS_REGION"],
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            bucket,
        )


class Side(Protocol[P]):
    """Stores and retrieves parcels, the form in which this side takes a payload."""

    def parcel(self, content: bytes) -> P:
        """Make the parcel of this content; not measured."""

    def content(self, parcel: P) -> bytes:
        """Return what is in the parcel; not measured."""

    async def store(self, parcel: P) -> Claim:
        """Store one parcel, durably."""

    async def retrieve(self, claim: Claim) -> P:
        """Return the parcel."""

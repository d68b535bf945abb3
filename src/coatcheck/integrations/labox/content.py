"""What labox says of the content that it hands over."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from coatcheck.types import Attributes, Digest

if TYPE_CHECKING:
    from labox.common.types import TagMap
    from labox.core.storage import Digest as ContentDigest

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Content:
    """The size and the attributes of some content, and its digest if that is a SHA-256."""

    size_bytes: int
    digest: Digest | None
    attributes: Attributes

    @classmethod
    def of(cls, digest: "ContentDigest", tags: "TagMap") -> Self:
        """Read labox's description."""
        known = digest["content_hash_algorithm"] == "sha256" and _SHA256.fullmatch(
            digest["content_hash"]
        )
        return cls(
            digest["content_size"],
            Digest(digest["content_hash"]) if known else None,
            Attributes(digest["content_type"], digest["content_encoding"] or None, dict(tags)),
        )

    def names(self, key: str) -> bool:
        """Whether `key` is made of the digest, so that no other content can have it."""
        return self.digest is not None and self.digest.hex in key

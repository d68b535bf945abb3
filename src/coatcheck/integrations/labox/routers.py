"""Routers say where content lies: labox's own protocol, and its simple router."""

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coatcheck.types import Digest

with warnings.catch_warnings():
    # labox 0.1.0 imports a name that newer versions of anyio deprecate: where warnings are
    # errors, nobody could import it.
    warnings.simplefilter("ignore", DeprecationWarning)
    from labox.extra.aws import S3Pointer, S3Router
    from labox.extra.aws import simple_s3_router as original_router

if TYPE_CHECKING:
    from labox.common.types import TagMap
    from labox.core.storage import Digest as ContentDigest
    from labox.core.storage import StreamDigest

__all__ = ["S3Pointer", "S3Router", "SimpleRouter", "simple_s3_router"]

_NAME = re.compile(r"([0-9a-f]{64})(?:\.[A-Za-z0-9]{1,16})?")
"""What the simple router makes of a SHA-256 and a content type."""


@dataclass(frozen=True, slots=True)
class SimpleRouter:
    """Routes to `<prefix>/<content hash>.<extension>` in one bucket. Made by `simple_s3_router`."""

    bucket: str
    prefix: str = ""

    def __call__(
        self, digest: "ContentDigest | StreamDigest", tags: "TagMap", *, temp: bool
    ) -> S3Pointer:
        """Return the pointer that labox's own router gives."""
        return original_router(self.bucket, self.prefix)(digest, tags, temp=temp)

    def digest_in(self, pointer: S3Pointer) -> Digest | None:
        """Return the digest of the content at `pointer`, if this router made the pointer of one."""
        folder = f"{self.prefix.rstrip('/')}/" if self.prefix else ""
        if pointer["bucket"] != self.bucket or not pointer["key"].startswith(folder):
            return None
        name = _NAME.fullmatch(pointer["key"].removeprefix(folder))
        return Digest(name[1]) if name is not None else None


def simple_s3_router(bucket: str, prefix: str = "") -> SimpleRouter:
    """Route all content to one bucket, under keys made of its hash, as labox's own router does.

    With it, what is read is verified against the hash in its key.
    """
    return SimpleRouter(bucket, prefix)

"""Where payloads lie: docs/spec/keys.md, version 1.

The first two digits of a digest make a folder, so that no folder of a local store grows too large.
"""

from coatcheck.types import Digest

PAYLOADS_PREFIX = "v1/sha256/"
PARTS_PREFIX = "v1/parts/"


def key_of(digest: Digest) -> str:
    """Return the key of a payload's object."""
    return f"{PAYLOADS_PREFIX}{digest.hex[:2]}/{digest.hex}"


def parts_key_of(digest: Digest) -> str:
    """Return the key of a page of part digests."""
    return f"{PARTS_PREFIX}{digest.hex[:2]}/{digest.hex}"

"""The keys of payloads, version 0 of the format that all of Temporal's SDKs share.

    v0[/ns/NAMESPACE][/wt/TYPE/wi/ID/ri/RUN | /at/TYPE/ai/ID/ri/RUN]/d/sha256/DIGEST

What is missing is `null`. Format: the README of `temporalio.contrib.aws.s3driver` 1.35.
"""

import re
from urllib.parse import quote

from temporalio.converter import StorageDriverActivityInfo, StorageDriverWorkflowInfo

from coatcheck.types import Digest

MAX_KEY_BYTES = 1024
"""What S3 allows (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html)."""

_VERSION = "v0"
_DIGEST_SEGMENTS = "/d/sha256/"
_DIGEST_CHARACTERS = 64
_MISSING = "null"
_TAIL = re.compile(r"v0(?:/.+)?/d/sha256/([0-9a-f]{64})", re.DOTALL)


def key_prefix(target: StorageDriverWorkflowInfo | StorageDriverActivityInfo | None) -> str:
    """Return what stands before the digest in the keys of all payloads of `target`.

    A prefix that would make a key of over 1,024 bytes is cut down to the namespace, which access
    policies may refer to.
    """
    if target is None:
        return _VERSION + _DIGEST_SEGMENTS
    namespace = f"{_VERSION}/ns/{_segment(target.namespace)}"
    kind, name = ("wt", "wi") if isinstance(target, StorageDriverWorkflowInfo) else ("at", "ai")
    execution = (
        f"/{kind}/{_segment(target.type)}/{name}/{_segment(target.id)}/ri/{_segment(target.run_id)}"
    )
    prefix = namespace + execution + _DIGEST_SEGMENTS
    # Segments are percent-encoded, so characters are bytes.
    if len(prefix) + _DIGEST_CHARACTERS > MAX_KEY_BYTES:
        return namespace + _DIGEST_SEGMENTS
    return prefix


def digest_in(key: str) -> Digest | None:
    """Return the digest that `key` is made of, or None if it is not a key of this format."""
    match = _TAIL.fullmatch(key)
    return Digest(match[1]) if match else None


def _segment(text: str | None) -> str:
    # S3's safe characters and `quote`'s differ in one: the tilde.
    return quote(text, safe="!*'()").replace("~", "%7E") if text else _MISSING

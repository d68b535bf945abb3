"""What a store that is no server must refuse by itself: the rules behind the ObjectStore port."""

import hashlib

from coatcheck.errors import Conflict, Corrupt, NotFound, TooLarge
from coatcheck.types import Buffer, ByteRange, Condition, Digest, IfAbsent


def check_digest(body: Buffer, digest: Digest | None) -> None:
    """Raise Corrupt unless `body` has this digest, if one is given. Costs one hash pass."""
    if digest is not None and hashlib.sha256(body).hexdigest() != digest.hex:
        raise Corrupt(
            "the body does not match the digest that came with it; nothing was stored",
            remedy="Make the digest of the very bytes that are stored",
        )


def check_write(condition: Condition | None, etag: str | None) -> None:
    """Raise Conflict unless a write under `condition` may replace what has `etag` (None: nothing)."""
    if condition is None:
        return
    if isinstance(condition, IfAbsent):
        if etag is not None:
            raise Conflict(
                "there is an object under the key already",
                remedy="Use the one that is there, or write under another key",
            )
    elif etag != condition.etag:
        raise changed()


def check_read(if_match: str | None, etag: str) -> None:
    """Raise Conflict unless the object that is read, with `etag`, is the one that was meant."""
    if if_match is not None and etag != if_match:
        raise changed()


def cut(size_bytes: int, span: ByteRange | None, limit_bytes: int) -> tuple[int, int]:
    """Return where a read starts and how many bytes it gives; TooLarge for over `limit_bytes`."""
    start = 0 if span is None else min(span.start, size_bytes)
    length = size_bytes - start if span is None else min(span.length, size_bytes - start)
    if length > limit_bytes:
        raise TooLarge(
            f"the read would give {length} bytes, over the limit of {limit_bytes}",
            remedy="Raise the limit if that is meant to be",
        )
    return start, length


def changed() -> Conflict:
    """Make the error for an object that is not the one whose ETag the caller knows."""
    return Conflict(
        "the object was changed or removed since its ETag was read",
        remedy="Read it again, and decide anew",
    )


def too_short(start: int, wanted_bytes: int, size_bytes: int) -> Corrupt:
    """Make the error for an object that has fewer bytes than it should."""
    return Corrupt(
        f"the object has {size_bytes} bytes where {wanted_bytes} from offset {start} were due",
        remedy="Find out who cut it, and store it again",
    )


def not_found() -> NotFound:
    """Make the error for a key without an object."""
    return NotFound("there is no such object", remedy="Check the key, and where the store is")

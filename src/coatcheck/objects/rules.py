"""What a store that is no server must refuse by itself: the rules behind the ObjectStore port."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from coatcheck.errors import CoatcheckError, Conflict, Corrupt, NotFound, TooLarge
from coatcheck.types import Buffer, ByteRange, Condition, Digest, IfAbsent


@contextmanager
def named(operation: str, location: str, key: str | None) -> Iterator[None]:
    """Let errors that come out of the block say what was done, where, and to what key."""
    try:
        yield
    except CoatcheckError as error:
        error.having(operation=operation, bucket=location, key=key)
        raise


def check_digest(body: Buffer, digest: Digest | None) -> None:
    """Raise Corrupt unless `body` has this digest, if one is given. Costs one hash pass."""
    if digest is not None and hashlib.sha256(body).hexdigest() != digest.hex:
        raise Corrupt(
            "the body does not match the digest that came with it; nothing was stored",
            remedy="Make the digest of the very bytes that are stored",
        )


def check_write(condition: Condition | None, etag: str | None) -> None:
    """Raise Conflict unless `condition` lets a write replace what has `etag`, or None: nothing."""
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
        raise TooLarge(f"the read would give {length} bytes, over the limit of {limit_bytes}")
    return start, length


def check_covers(size_bytes: int, start: int, length: int) -> None:
    """Raise Corrupt unless an object of this size has `length` bytes from offset `start`."""
    if start < 0:
        raise ValueError(f"there is no offset {start}")
    if start + length > size_bytes:
        raise Corrupt(
            f"the object has {size_bytes} bytes, but {length} from offset {start} were due"
        )


def changed() -> Conflict:
    """Make the error for an object that is not the one whose ETag the caller knows."""
    return Conflict("the object was changed or removed since its ETag was read")


def not_found() -> NotFound:
    """Make the error for a key without an object."""
    return NotFound("there is no such object")

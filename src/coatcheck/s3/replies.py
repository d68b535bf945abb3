"""What the replies of S3 have in common: how their fields are read, and what is not S3's."""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import unquote_plus

from coatcheck.errors import Unsupported
from coatcheck.wire.port import Response


def nothing(response: Response) -> None:
    """Read a reply that has nothing to say."""
    if response.body.strip():
        raise not_s3()


def not_s3() -> Unsupported:
    """Make the error for a success that no S3 server reports so: a login page's 200, say."""
    return Unsupported(
        "the answer does not come from an S3 server",
        remedy="Check the endpoint, and any proxy on the way",
    )


def quoted(etag: str) -> str | None:
    """Return an ETag from XML as headers have it; some servers leave out the quotes there."""
    if not etag:
        return None
    return etag if etag.startswith(('"', "W/")) else f'"{etag}"'


def decoder(encoding: str) -> Callable[[str], str]:
    """Return what turns a listing's keys into the objects'."""
    # As botocore reads it: "+" stands for a space.
    return unquote_plus if encoding == "url" else str


def integer(text: str) -> int:
    """Read a size."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Unsupported(f"the server gave {text[:40]!r} as a size")
    return int(text)


def iso_date(text: str) -> datetime | None:
    """Read a time as XML has it; None for what is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# Many objects are of the same second, and replies come many to the second.
@lru_cache(maxsize=512)
def http_date(text: str) -> datetime | None:
    """Read a time as headers have it; None for what is none."""
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None

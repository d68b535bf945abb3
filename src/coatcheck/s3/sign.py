"""AWS Signature Version 4 for S3, in the Authorization header. Pure functions, the hot path.

The algorithm is AWS's, as S3 reads it: the path is encoded once and never normalised
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html).
"""

import hmac
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote

from coatcheck.errors import ConfigError, printable

EMPTY_SHA256 = sha256(b"").hexdigest()
"""The payload hash of a request without a body."""

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
"""Stands in for the payload hash where the body is not signed; S3 accepts it over HTTPS."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_OWN_HEADERS = frozenset(
    {"authorization", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"}
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110, section 5.6.2
_HEADER_VALUE = re.compile(r"[\t -~]*")
_KEY_OR_TOKEN = re.compile(r"[!-~]+")
_SECRET = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_NEEDS_NO_ENCODING = re.compile(r"[A-Za-z0-9/._~-]*")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A pair of keys, and the session token that temporary keys come with.

    `repr` shows the access key id alone. Raises `ConfigError` for what cannot be sent or cannot
    be right: empty keys, white space at an end (the newline of a mounted secret file), control
    characters, anything outside ASCII.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        wrong = [
            name
            for name, rule, value in (
                ("access key id", _KEY_OR_TOKEN, self.access_key_id),
                ("secret access key", _SECRET, self.secret_access_key),
                ("session token", _KEY_OR_TOKEN, self.session_token or "none"),
            )
            if not rule.fullmatch(value)
        ]
        if wrong:
            raise ConfigError(
                f"The {wrong[0]} is empty, or holds white space or other characters no key has",
                remedy="Look for a line break or a quotation mark that was copied with it",
            )


def encode_path(path: str) -> str:
    """Percent-encode a key, or a path, once: all but letters, digits, and `- . _ ~ /`.

    Nothing is normalised, so `a//b` and `a/../b` stay the keys they are. Raises `ConfigError` for
    lone surrogates, which have no UTF-8.
    """
    if _NEEDS_NO_ENCODING.fullmatch(path):
        return path
    return _quote(path, safe="/")


def encode_query(items: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """Build the canonical query string: encoded, then sorted by name and value.

    The same text goes into the URL and into the signature; a sub-resource without a value, such
    as `uploads`, is the item `("uploads", "")`. Raises `ConfigError` for lone surrogates.
    """
    pairs = items.items() if isinstance(items, Mapping) else items
    encoded = sorted((_quote(name, safe=""), _quote(value, safe="")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def sign(
    method: str,
    host: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    payload_hash: str,
    credentials: Credentials,
    region: str,
    now: float,
) -> list[str]:
    """Return every header line to send, `name: value`: those in `headers`, and the signing ones.

    host: as in the URL, with its port unless that is the scheme's default. path and query: exactly
        what the URL holds, from `encode_path` and `encode_query`.
    headers: all of them are signed, so leave out what a proxy may change (User-Agent). Names in
        any case. Values go out as they are; the signature sees their runs of white space as one
        space, as the server will.
    payload_hash: the body's SHA-256 in lower-case hexadecimal, EMPTY_SHA256 or UNSIGNED_PAYLOAD.
    now: seconds since 1970 by the server's clock; S3 tolerates 15 minutes of difference.

    Raises `ConfigError` for header names or values that HTTP cannot carry, or S3 cannot check.
    Sends nothing; about 9 us while the day's signing key is cached.
    """
    fields: dict[str, str] = {}
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            _check_header_value(name, value)
        fields[_header_name(name)] = " ".join(value.split())
    if len(fields) != len(headers):
        raise ConfigError("A header is given twice, in different case")

    timestamp = _timestamp(int(now))
    lines = [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"host: {host}")
    lines.append(f"x-amz-content-sha256: {payload_hash}")
    lines.append(f"x-amz-date: {timestamp}")
    fields["host"] = host
    fields["x-amz-content-sha256"] = payload_hash
    fields["x-amz-date"] = timestamp
    if credentials.session_token:
        lines.append(f"x-amz-security-token: {credentials.session_token}")
        fields["x-amz-security-token"] = credentials.session_token

    names = sorted(fields)
    signed_names = ";".join(names)
    canonical_headers = "\n".join([f"{name}:{fields[name]}" for name in names])
    canonical_request = (
        f"{method}\n{path}\n{query}\n{canonical_headers}\n\n{signed_names}\n{payload_hash}"
    )
    day = timestamp[:8]
    scope = f"{day}/{region}/s3/aws4_request"
    request_hash = sha256(canonical_request.encode()).hexdigest()
    string_to_sign = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{request_hash}"
    key = _signing_key(credentials.secret_access_key, day, region)
    signature = hmac.digest(key, string_to_sign.encode(), "sha256").hex()
    lines.append(
        f"authorization: {_ALGORITHM} Credential={credentials.access_key_id}/{scope}, "
        f"SignedHeaders={signed_names}, Signature={signature}"
    )
    return lines


# The caches below are the C implementation of lru_cache: safe for threads without a lock of
# ours, and nothing in them can be held by another thread when a process forks.


@lru_cache(maxsize=16)
def _timestamp(seconds: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=512)
def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ConfigError(
            f"{printable(name, 80)!r} cannot be the name of a header",
            remedy="Use letters, digits and hyphens",
        )
    lowered = name.lower()
    if lowered in _OWN_HEADERS:
        raise ConfigError(
            f"The header {name} is coatcheck's own to set", remedy="Leave it out of the headers"
        )
    return lowered


def _check_header_value(name: str, value: str) -> None:
    # HTTP allows Latin-1 here, but what then is signed differs: AWS, MinIO and their clients each
    # hash other bytes for the same character, and the server reports a wrong secret key.
    if not _HEADER_VALUE.fullmatch(value):
        raise ConfigError(
            f"The value of the header {printable(name, 80)} holds a line break, another control "
            "character, or a character outside ASCII",
            remedy="Percent-encode the value",
        )


def _quote(text: str, *, safe: str) -> str:
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError:
        raise ConfigError(
            f"{printable(text, 80)} has no UTF-8 form",
            remedy="Remove the lone surrogates (\\ud800 to \\udfff) from it",
        ) from None

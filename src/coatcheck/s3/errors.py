"""Replies that are not success: one table from S3's error codes to what the caller should do."""

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum

from coatcheck.errors import (
    BucketNotFound,
    CoatcheckError,
    ConfigError,
    Conflict,
    Corrupt,
    DeadlineExceeded,
    Diagnostics,
    Forbidden,
    NotFound,
    Throttled,
    TooLarge,
    Unavailable,
    Unsupported,
    printable,
)
from coatcheck.s3 import xml
from coatcheck.wire.port import (
    ReplyTooLarge,
    Response,
    TimedOut,
    TlsFailed,
    WireError,
)


class Again(Enum):
    """Whether, and after what, the same request may be sent again."""

    NEVER = "never"
    LATER = "after a pause"
    WITH_NEW_CREDENTIALS = "once, with new credentials"
    WITH_SERVER_TIME = "once, by the server's clock"


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not succeed.

    `unknown`: the server may have done it all the same. `retry_after_seconds`: what the server
    asked for.
    """

    error: CoatcheckError
    again: Again
    unknown: bool = False
    retry_after_seconds: float = 0.0
    server_time: float | None = None


_USER_INFO = re.compile(r"//[^\s/]*@")

_KEYS = "Check the access key, the secret key and the clock"
_RIGHTS = "Ask for the permission that the operation needs on this bucket and key"
_REGION = "Set the region to the bucket's own"
_WAY = "Try again; if it lasts, look for what changes bytes between here and the server"

_Row = tuple[type[CoatcheckError], Again, str, str]

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_BY_CODE: dict[str, _Row] = {
    "NoSuchKey": (NotFound, Again.NEVER, "there is no such object", ""),
    "NoSuchBucket": (BucketNotFound, Again.NEVER, "there is no such bucket", ""),
    "NoSuchUpload": (
        NotFound,
        Again.NEVER,
        "there is no such multipart upload",
        "Begin it again, and look for a bucket rule that ends uploads early",
    ),
    "AccessDenied": (Forbidden, Again.NEVER, "access denied", _RIGHTS),
    "AllAccessDisabled": (Forbidden, Again.NEVER, "access is disabled", _RIGHTS),
    "AccountProblem": (Forbidden, Again.NEVER, "the account has a problem", _RIGHTS),
    "InvalidAccessKeyId": (Forbidden, Again.NEVER, "the access key is unknown", _KEYS),
    "SignatureDoesNotMatch": (Forbidden, Again.NEVER, "the signature was refused", _KEYS),
    "InvalidToken": (Forbidden, Again.WITH_NEW_CREDENTIALS, "the session token is invalid", _KEYS),
    "ExpiredToken": (
        Forbidden,
        Again.WITH_NEW_CREDENTIALS,
        "the session token has expired",
        "Renew the credentials",
    ),
    "TokenRefreshRequired": (
        Forbidden,
        Again.WITH_NEW_CREDENTIALS,
        "the session token must be renewed",
        "Renew the credentials",
    ),
    "RequestTimeTooSkewed": (
        Forbidden,
        Again.WITH_SERVER_TIME,
        "this machine's clock and the server's differ by more than 15 minutes",
        "Set the clock",
    ),
    "PermanentRedirect": (ConfigError, Again.NEVER, "the bucket is in another region", _REGION),
    "IllegalLocationConstraintException": (
        ConfigError,
        Again.NEVER,
        "the bucket is in another region",
        _REGION,
    ),
    "AuthorizationHeaderMalformed": (ConfigError, Again.NEVER, "the region is wrong", _REGION),
    "InvalidBucketName": (ConfigError, Again.NEVER, "the bucket's name is invalid", "Correct it"),
    "KeyTooLongError": (ConfigError, Again.NEVER, "the key is over 1,024 bytes", "Shorten it"),
    "InvalidTag": (ConfigError, Again.NEVER, "a tag is invalid", "Use at most 10 tags"),
    "InvalidStorageClass": (ConfigError, Again.NEVER, "the storage class is invalid", "Correct it"),
    "EntityTooLarge": (
        TooLarge,
        Again.NEVER,
        "the object is too large for the server",
        "Lower part_size_bytes, or ask the server's owner to raise its limit",
    ),
    "PreconditionFailed": (Conflict, Again.NEVER, "the condition on the request did not hold", ""),
    # 409 says nothing about the condition, only that this was not the moment to ask: Conflict is
    # kept for 412, where the server has compared.
    "ConditionalRequestConflict": (
        Unavailable,
        Again.LATER,
        "another write to the key was under way",
        "Try again",
    ),
    "OperationAborted": (Unavailable, Again.LATER, "another operation was under way", "Try again"),
    # The body was damaged on its way to the server, which therefore stored nothing.
    "XAmzContentSHA256Mismatch": (Corrupt, Again.LATER, "the body was damaged on its way", _WAY),
    "BadDigest": (Corrupt, Again.LATER, "the body was damaged on its way", _WAY),
    "IncompleteBody": (Unavailable, Again.LATER, "the server got only part of the body", ""),
    "RequestTimeout": (Unavailable, Again.LATER, "the server gave up waiting for the body", ""),
    "InternalError": (Unavailable, Again.LATER, "the server failed", ""),
    "ServiceUnavailable": (Throttled, Again.LATER, "the server asked for fewer requests", ""),
    "SlowDown": (Throttled, Again.LATER, "the server asked for fewer requests", ""),
    "Throttling": (Throttled, Again.LATER, "the server asked for fewer requests", ""),
    "RequestLimitExceeded": (Throttled, Again.LATER, "the server asked for fewer requests", ""),
    "TooManyRequests": (Throttled, Again.LATER, "the server asked for fewer requests", ""),
    "NotImplemented": (Unsupported, Again.NEVER, "the server does not know this request", ""),
    "MethodNotAllowed": (Unsupported, Again.NEVER, "the server does not allow this request", ""),
}

# A proxy's or a web server's page: its 404 says nothing about the object.
_NOT_S3: _Row = (
    Unavailable,
    Again.NEVER,
    "the answer does not come from an S3 server",
    "Check the endpoint, and any proxy on the way",
)

_ELSEWHERE: _Row = (
    ConfigError,
    Again.NEVER,
    "the server sends us elsewhere, and redirects are not followed",
    "Set the endpoint and the region to where the bucket is",
)

_BY_STATUS: dict[int, _Row] = {
    301: _ELSEWHERE,
    302: _ELSEWHERE,
    303: _ELSEWHERE,
    307: _ELSEWHERE,
    308: _ELSEWHERE,
    401: _BY_CODE["AccessDenied"],
    403: _BY_CODE["AccessDenied"],
    404: (NotFound, Again.NEVER, "there is no such object", ""),
    405: _BY_CODE["MethodNotAllowed"],
    408: _BY_CODE["RequestTimeout"],
    409: _BY_CODE["ConditionalRequestConflict"],
    412: _BY_CODE["PreconditionFailed"],
    429: _BY_CODE["SlowDown"],
    501: _BY_CODE["NotImplemented"],
    503: _BY_CODE["SlowDown"],
}


def of_reply(response: Response, now: float) -> Failure:
    """Say what a reply with a status of 300 and above, or with an error's XML, means.

    `now`: seconds since 1970, by our clock; the reply's own date is preferred.
    """
    told = _told(response)
    region = response.header("x-amz-bucket-region") or told.region
    server_time = _http_date(response.header("date") or "")
    kind, again, text, remedy = _row(response, told, region)
    if remedy is _REGION and region:
        remedy = f"Set the region to {printable(region, 40)!r}"
    diagnostics = Diagnostics(
        status=response.status,
        server_code=told.code or None,
        request_id=response.header("x-amz-request-id"),
    )
    # An error after a 200 came when the work had begun, as a 500 does.
    begun = response.status >= 500 or response.status < 300
    return Failure(
        kind(text, remedy=remedy, diagnostics=diagnostics),
        again,
        unknown=begun and kind is not Throttled,
        retry_after_seconds=_retry_after(response.header("retry-after") or "", server_time or now),
        server_time=server_time,
    )


def failed_after_all(response: Response) -> bool:
    """Whether a reply with the status of a success holds an error, or nothing at all.

    The server had to answer before it knew: copying and completing take their time. An ETag among
    the headers says that it did know, whatever it has done.
    """
    if response.body.strip():
        return xml.is_error(response.body)
    return response.header("etag") is None


def _row(response: Response, told: "_Told", region: str | None) -> _Row:
    status = response.status
    if response.body and not told.code and 300 <= status < 500 and status != 429:
        return _NOT_S3
    if region and not told.code and status in (301, 307, 400):
        # What HEAD is told in the wrong region, having no body to be told more in.
        return _BY_CODE["PermanentRedirect"]
    row = _BY_CODE.get(told.code) or _BY_STATUS.get(status)
    if row is not None:
        return row
    if status >= 500 or status < 300:
        return _BY_CODE["InternalError"]
    return (Unsupported, Again.NEVER, f"the server refused the request: {told.message}", "")


def of_wire(error: WireError) -> Failure:
    """Say what an exchange without a whole reply means."""
    # libcurl quotes a proxy's URL where it cannot read it, with the password in it.
    reason = printable(_USER_INFO.sub("//...@", error.reason), 300)
    if isinstance(error, TlsFailed):
        return Failure(
            ConfigError(
                f"no trusted connection: {reason}",
                remedy="Check the endpoint's name, or give the certificate authority as ca_bundle",
            ),
            Again.NEVER,
        )
    if isinstance(error, ReplyTooLarge):
        return Failure(TooLarge(reason), Again.NEVER)
    if isinstance(error, TimedOut):
        # An exchange is given all the time that its operation has left.
        return Failure(DeadlineExceeded(f"out of time: {reason}"), Again.NEVER, unknown=error.sent)
    return Failure(
        Unavailable(
            f"no reply from the server: {reason}",
            remedy="Check that the server runs and that the endpoint is right, then try again",
        ),
        Again.LATER,
        unknown=error.sent,
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """What an error's XML says; "" for what it does not."""

    code: str = ""
    message: str = ""
    region: str = ""


def _told(response: Response) -> _Told:
    nothing = _Told(message=f"status {response.status}")
    try:
        element = xml.parse(response.body) if response.body else None
    except Unsupported:
        return nothing
    if element is None or element.name != "Error":
        return nothing
    return _Told(
        printable(element.text("Code"), 80),
        printable(element.text("Message"), 300),
        element.text("Region"),
    )


def _retry_after(value: str, now: float) -> float:
    if value.isascii() and value.isdigit():
        return float(value[:6])
    when = _http_date(value)
    return max(0.0, when - now) if when is not None else 0.0


def _http_date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None

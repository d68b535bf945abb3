"""The requests of S3 that move data: each builds a request, and reads its reply. No I/O.

Those of multipart uploads are in `coatcheck.s3.multipart`.

Names, parameters and limits are those of the S3 API reference
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html).
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar
from urllib.parse import quote

from coatcheck.errors import Corrupt, Diagnostics, Unsupported
from coatcheck.s3 import xml
from coatcheck.s3.replies import decoder, http_date, integer, iso_date, not_s3, nothing, quoted
from coatcheck.types import ByteRange, Condition, DeleteFailure, Fetched, IfAbsent, ObjectInfo
from coatcheck.wire.port import Response

T = TypeVar("T")

MAX_DELETE_KEYS = 1000
MAX_LIST_KEYS = 1000
LISTING_LIMIT_BYTES = 16 * 1024 * 1024
SMALL_REPLY_BYTES = 1024 * 1024

NO_QUERY: tuple[tuple[str, str], ...] = ()
NO_HEADERS: Mapping[str, str] = {}


_SUCCESS = frozenset({200, 201, 202, 204, 206})
_SUCCESS_OR_BEYOND_END = _SUCCESS | {416}

WRITE_ID_HEADER = "x-amz-meta-coatcheck-write"

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class ConditionalWrite:
    """A condition on a write, and the mark by which the writer knows its own object again.

    When the reply to a conditional write is lost, sending it again cannot tell "another was
    first" from "I was": the object's metadata can. `read_headers` go with the question.
    """

    condition: Condition | None
    write_id: str
    read_headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One request of the S3 API.

    payload_hash: the SHA-256 of the body, where it is known.
    accepts: the statuses that `parse` understands.
    may_fail_with_200: the reply may hold an error although its status is 200, because the server
        had to start answering early.
    settle: makes what to ask when the reply was lost and doing it twice is not the same as doing it
        once; it gives the result if the request was done, or None.
    """

    name: str
    method: str
    key: str
    parse: Callable[[Response], T]
    query: tuple[tuple[str, str], ...] = NO_QUERY
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS, repr=False)
    body: bytes | None = field(default=None, repr=False)
    payload_hash: str | None = None
    into: memoryview | None = None
    reply_limit_bytes: int = SMALL_REPLY_BYTES
    may_fail_with_200: bool = False
    accepts: frozenset[int] = _SUCCESS
    settle: "Callable[[], Operation[T | None]] | None" = None


def put_object(
    key: str,
    body: bytes,
    *,
    payload_hash: str | None,
    headers: Mapping[str, str],
    write: ConditionalWrite | None = None,
) -> Operation[ObjectInfo]:
    """PutObject: up to 5 GiB by the server's rules, up to one part by ours."""

    def parse(response: Response) -> ObjectInfo:
        etag = response.header("etag")
        if etag is None and response.body.strip():
            raise not_s3()
        return ObjectInfo(key, len(body), etag)

    settle: Callable[[], Operation[ObjectInfo | None]] | None = None
    if write is not None:
        settle = partial(was_written, key, write)
        headers = {
            **headers,
            **condition_headers(write.condition),
            WRITE_ID_HEADER: write.write_id,
        }
    return Operation(
        "PutObject",
        "PUT",
        key,
        parse,
        headers=headers,
        body=body,
        payload_hash=payload_hash,
        settle=settle,
    )


def get_object(
    key: str, span: ByteRange | None, *, limit_bytes: int, headers: Mapping[str, str]
) -> Operation[Fetched | None]:
    """GetObject, whole or a range; None if the range starts at or beyond the end."""

    def parse(response: Response) -> Fetched | None:
        if response.status == 416:
            return None
        total_bytes = _total_bytes(response, span)
        etag = response.header("etag")
        return Fetched(response.body, total_bytes, etag, partial(_age_seconds, response))

    if span is not None:
        headers = {**headers, "range": _range(span)}
    return Operation(
        "GetObject",
        "GET",
        key,
        parse,
        headers=headers,
        reply_limit_bytes=limit_bytes,
        accepts=_SUCCESS if span is None else _SUCCESS_OR_BEYOND_END,
    )


def get_object_into(
    key: str, start: int, buffer: memoryview, *, headers: Mapping[str, str]
) -> Operation[None]:
    """GetObject of a range, straight into a buffer."""

    def parse(response: Response) -> None:
        if response.status == 416:
            raise Corrupt(f"the object ends before offset {start}")
        _total_bytes(response, span)
        if response.received_bytes != len(buffer):
            raise Corrupt(
                f"the object has {response.received_bytes} bytes at offset {start}"
                f" where {len(buffer)} were expected"
            )

    span = ByteRange(start, len(buffer))
    return Operation(
        "GetObject",
        "GET",
        key,
        parse,
        headers={**headers, "range": _range(span)},
        into=buffer,
        reply_limit_bytes=len(buffer),
        accepts=_SUCCESS_OR_BEYOND_END,
    )


def head_object(key: str, *, headers: Mapping[str, str]) -> Operation[ObjectInfo]:
    """HeadObject."""

    def parse(response: Response) -> ObjectInfo:
        size = response.header("content-length")
        if size is None:
            raise Unsupported("the server does not tell the object's size")
        etag, modified = response.header("etag"), response.header("last-modified")
        if etag is None and modified is None and response.header("x-amz-request-id") is None:
            raise not_s3()
        return ObjectInfo(key, integer(size), etag, http_date(modified or ""))

    return Operation("HeadObject", "HEAD", key, parse, headers=headers)


def delete_object(key: str, *, headers: Mapping[str, str]) -> Operation[None]:
    """DeleteObject: succeeds too where there is no such object."""
    return Operation("DeleteObject", "DELETE", key, nothing, headers=headers)


def delete_objects(
    keys: Sequence[str], *, headers: Mapping[str, str]
) -> Operation[list[DeleteFailure]]:
    """DeleteObjects: at most 1,000 keys, all of which XML can hold."""

    def parse(response: Response) -> list[DeleteFailure]:
        return [
            DeleteFailure(error.text("Key"), error.text("Code"), error.text("Message"))
            for error in xml.parse(response.body).all("Error")
            if error.text("Code") != "NoSuchKey"
        ]

    body = xml.delete_request(list(keys))
    # S3 wants this one request's body protected by MD5 or a checksum, whatever the signature says.
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    return Operation(
        "DeleteObjects",
        "POST",
        "",
        parse,
        query=(("delete", ""),),
        headers={**headers, "content-md5": md5, "content-type": "application/xml"},
        body=body,
        may_fail_with_200=True,
    )


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, and where the next starts ("" after the last)."""

    objects: list[ObjectInfo]
    next_token: str


def list_objects(
    prefix: str, *, after: str, token: str, headers: Mapping[str, str]
) -> Operation[Page]:
    """ListObjectsV2, at most 1,000 objects; keys travel URL-encoded, so that XML can hold them."""

    def parse(response: Response) -> Page:
        listing = xml.parse(response.body)
        decode = decoder(listing.text("EncodingType"))
        objects = [
            ObjectInfo(
                decode(item.text("Key")),
                integer(item.text("Size")),
                quoted(item.text("ETag")),
                iso_date(item.text("LastModified")),
            )
            for item in listing.all("Contents")
        ]
        truncated = listing.text("IsTruncated") == "true"
        next_token = listing.text("NextContinuationToken") if truncated else ""
        if truncated and not next_token:
            raise Unsupported("the server cut a listing short without saying where to go on")
        return Page(objects, next_token)

    query = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", str(MAX_LIST_KEYS))]
    if prefix:
        query.append(("prefix", prefix))
    if token:
        query.append(("continuation-token", token))
    elif after:
        query.append(("start-after", after))
    return Operation(
        "ListObjectsV2",
        "GET",
        "",
        parse,
        query=tuple(query),
        headers=headers,
        reply_limit_bytes=LISTING_LIMIT_BYTES,
    )


def copy_object(
    source_bucket: str, source_key: str, key: str, *, headers: Mapping[str, str]
) -> Operation[ObjectInfo]:
    """CopyObject: up to 5 GiB, on the server."""

    def parse(response: Response) -> ObjectInfo:
        result = xml.parse(response.body)
        return ObjectInfo(
            key, 0, quoted(result.text("ETag")), iso_date(result.text("LastModified"))
        )

    return Operation(
        "CopyObject",
        "PUT",
        key,
        parse,
        headers={**headers, "x-amz-copy-source": copy_source(source_bucket, source_key)},
        body=b"",
        may_fail_with_200=True,
    )


def was_written(key: str, write: ConditionalWrite) -> Operation[ObjectInfo | None]:
    """HeadObject, to see whether a conditional write whose reply was lost has been done."""
    head = head_object(key, headers=write.read_headers)

    def parse(response: Response) -> ObjectInfo | None:
        found = head.parse(response)
        return found if response.header(WRITE_ID_HEADER) == write.write_id else None

    return Operation("HeadObject", "HEAD", key, parse, headers=write.read_headers)


def condition_headers(condition: Condition | None) -> dict[str, str]:
    """Return the headers by which a write says its condition."""
    if condition is None:
        return {}
    if isinstance(condition, IfAbsent):
        return {"if-none-match": "*"}
    return {"if-match": condition.etag}


def _range(span: ByteRange) -> str:
    return f"bytes={span.start}-{span.start + span.length - 1}"


def _total_bytes(response: Response, span: ByteRange | None) -> int:
    """Return the whole object's size, from Content-Range where there is one.

    The header decides, not the status: rclone answers 200 with the right range. A server that
    ignores ranges sends the whole object, which is as good where it is the range.
    """
    received_bytes = response.received_bytes
    if span is None:
        return received_bytes
    content_range = response.header("content-range")
    if not content_range:
        if response.status == 206:
            raise Unsupported("the server sent a range without saying which")
        if span.start or received_bytes > span.length:
            raise ranges_ignored()
        return received_bytes
    numbers = _CONTENT_RANGE.fullmatch(content_range)
    if numbers is None:
        raise Unsupported(f"the server answered with the range {content_range[:80]!r}")
    first, last, total_bytes = map(int, numbers.groups())
    if first != span.start or last - first + 1 != received_bytes or last >= total_bytes:
        raise Unsupported(f"the server answered with another range, {content_range[:80]!r}")
    return total_bytes


def ranges_ignored(diagnostics: Diagnostics | None = None) -> Unsupported:
    """Make the error for a server that sends whole objects, whatever range was asked for."""
    return Unsupported(
        "the server ignores ranges", remedy="Raise part_size_bytes", diagnostics=diagnostics
    )


def copy_source(bucket: str, key: str) -> str:
    """Return the header by which a copy names its source."""
    if bucket.startswith("arn:"):
        # What an access point shows has an ARN of its own, which stands here in place of a path.
        return quote(f"{bucket}/object/{key}", safe="/~")
    return f"/{bucket}/{quote(key, safe='/~')}"


def _age_seconds(response: Response) -> float | None:
    """Return how long before its reply the server got the object: its clock alone is asked."""
    modified = http_date(response.header("last-modified") or "")
    replied = http_date(response.header("date") or "")
    if modified is None or replied is None:
        return None
    return max(0.0, (replied - modified).total_seconds())

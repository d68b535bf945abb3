"""The requests of multipart uploads: each builds a request, and reads its reply. No I/O.

Names, parameters and limits are those of the S3 API reference
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from coatcheck.errors import Unsupported
from coatcheck.s3 import xml
from coatcheck.s3.operations import (
    LISTING_LIMIT_BYTES,
    MAX_LIST_KEYS,
    ConditionalWrite,
    Operation,
    condition_headers,
    copy_source,
    was_written,
)
from coatcheck.s3.replies import decoder, iso_date, nothing, quoted
from coatcheck.types import ByteRange, ObjectInfo
from coatcheck.wire.port import Response


def create_multipart_upload(key: str, *, headers: Mapping[str, str]) -> Operation[str]:
    """CreateMultipartUpload: gives the upload's id."""

    def parse(response: Response) -> str:
        upload_id = xml.parse(response.body).text("UploadId")
        if not upload_id:
            raise Unsupported("the server began a multipart upload without giving its id")
        return upload_id

    return Operation(
        "CreateMultipartUpload",
        "POST",
        key,
        parse,
        query=(("uploads", ""),),
        headers=headers,
        body=b"",
    )


def upload_part(
    key: str,
    upload_id: str,
    number: int,
    body: bytes,
    *,
    payload_hash: str | None,
    headers: Mapping[str, str],
) -> Operation[str]:
    """UploadPart: gives the part's ETag, which completing the upload needs."""
    return Operation(
        "UploadPart",
        "PUT",
        key,
        _part_etag,
        query=(("partNumber", str(number)), ("uploadId", upload_id)),
        headers=headers,
        body=body,
        payload_hash=payload_hash,
    )


def complete_multipart_upload(
    key: str,
    upload_id: str,
    etags: dict[int, str],
    *,
    size_bytes: int,
    write: ConditionalWrite,
    headers: Mapping[str, str],
) -> Operation[ObjectInfo]:
    """CompleteMultipartUpload of parts with these ETags.

    The upload was created with the write's id among its headers: asked again after a lost reply,
    the server only knows that there is no such upload.
    """

    def parse(response: Response) -> ObjectInfo:
        return ObjectInfo(key, size_bytes, quoted(xml.parse(response.body).text("ETag")))

    return Operation(
        "CompleteMultipartUpload",
        "POST",
        key,
        parse,
        query=(("uploadId", upload_id),),
        headers={
            **headers,
            **condition_headers(write.condition),
            "content-type": "application/xml",
        },
        body=xml.complete_request(etags),
        may_fail_with_200=True,
        settle=partial(was_written, key, write),
    )


def abort_multipart_upload(
    key: str, upload_id: str, *, headers: Mapping[str, str]
) -> Operation[None]:
    """AbortMultipartUpload."""
    return Operation(
        "AbortMultipartUpload",
        "DELETE",
        key,
        nothing,
        query=(("uploadId", upload_id),),
        headers=headers,
    )


def upload_part_copy(
    key: str,
    upload_id: str,
    number: int,
    *,
    source_bucket: str,
    source_key: str,
    span: ByteRange | None,
    headers: Mapping[str, str],
) -> Operation[str]:
    """UploadPartCopy: a part of up to 5 GiB from another object, whole or (above 5 MB) a range.

    Gives the part's ETag. Servers that do not know the request take it for an empty part, and
    answer without a body.
    """

    def parse(response: Response) -> str:
        etag = quoted(xml.parse(response.body).text("ETag")) if response.body.strip() else None
        if etag is None:
            raise Unsupported("the server cannot make parts of other objects")
        return etag

    source = {"x-amz-copy-source": copy_source(source_bucket, source_key)}
    if span is not None:
        source["x-amz-copy-source-range"] = f"bytes={span.start}-{span.start + span.length - 1}"
    return Operation(
        "UploadPartCopy",
        "PUT",
        key,
        parse,
        query=(("partNumber", str(number)), ("uploadId", upload_id)),
        headers={**headers, **source},
        body=b"",
        may_fail_with_200=True,
    )


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A multipart upload that was begun, and neither completed nor aborted."""

    key: str
    upload_id: str
    begun: datetime | None


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """One page of open uploads, and the markers that the next starts from ("" after the last)."""

    uploads: list[OpenUpload]
    next_key: str
    next_upload_id: str


def list_multipart_uploads(
    prefix: str, *, after_key: str, after_upload_id: str, headers: Mapping[str, str]
) -> Operation[UploadsPage]:
    """ListMultipartUploads, at most 1,000 of them, in order of their keys."""

    def parse(response: Response) -> UploadsPage:
        listing = xml.parse(response.body)
        decode = decoder(listing.text("EncodingType"))
        uploads = [
            OpenUpload(
                decode(item.text("Key")), item.text("UploadId"), iso_date(item.text("Initiated"))
            )
            for item in listing.all("Upload")
        ]
        if listing.text("IsTruncated") != "true":
            return UploadsPage(uploads, "", "")
        next_key = decode(listing.text("NextKeyMarker"))
        if not next_key:
            raise Unsupported("the server cut a listing short without saying where to go on")
        return UploadsPage(uploads, next_key, listing.text("NextUploadIdMarker"))

    query = [("uploads", ""), ("encoding-type", "url"), ("max-uploads", str(MAX_LIST_KEYS))]
    if prefix:
        query.append(("prefix", prefix))
    if after_key:
        query.append(("key-marker", after_key))
    if after_upload_id:
        query.append(("upload-id-marker", after_upload_id))
    return Operation(
        "ListMultipartUploads",
        "GET",
        "",
        parse,
        query=tuple(query),
        headers=headers,
        reply_limit_bytes=LISTING_LIMIT_BYTES,
    )


def _part_etag(response: Response) -> str:
    etag = response.header("etag")
    if not etag:
        raise Unsupported("the server took a part without giving its ETag")
    return etag

"""Each request as it is built, beside botocore's; each reply as it is read, beside lies."""

import asyncio
import hashlib
import re
from base64 import b64decode
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from xml.etree import ElementTree

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import CoatcheckError, Corrupt, Unsupported
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.s3 import multipart, operations
from coatcheck.s3.client import S3Client
from coatcheck.s3.operations import ConditionalWrite
from coatcheck.settings import S3Settings
from coatcheck.types import ByteRange, DeleteFailure, Fetched, IfAbsent, IfMatch, ObjectInfo
from tests.s3.support import KEYS, RecordingWire, all_of, both_faces, response

ENDPOINT = "http://127.0.0.1:9"
NOTHING: dict[str, str] = {}
HOSTILE_KEYS = [
    "plain",
    "with space",
    "plus+plus",
    "per%cent%20",
    "a/b//c",
    "./dots/../here",
    "ümlaut/日本/\U0001f600",
    "quote\"'<&>",
    "?query#fragment",
    "tilde~star*(paren)!$@=;:,",
    "back\\slash",
    "control\x01\x1f\x7f",
    "line\r\nfeed\ttab",
]

# What depends on keys and time, what proxies may change, and checksums that only botocore adds.
NOT_COMPARED = re.compile(
    r"authorization|host|x-amz-date|x-amz-content-sha256|user-agent|amz-sdk-.*|content-length"
    r"|expect|x-amz-checksum-.*|x-amz-sdk-checksum-algorithm|content-md5"
)


def _shown(method: str, url: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """What S3 would make of a request, however it was written down."""
    parts = urlsplit(url)
    told = {name.lower(): value for name, value in headers.items()}
    return {
        "method": method,
        "path": parts.path if parts.path != "/bucket" else "/bucket/",  # S3 takes both
        "query": sorted(parse_qsl(parts.query, keep_blank_values=True)),
        "headers": {n: v for n, v in told.items() if not NOT_COMPARED.fullmatch(n)},
        "body": _shape(body),
    }


def _shape(body: bytes) -> object:
    """The elements of a document without the order of siblings, or any other body itself."""
    if not body.startswith(b"<"):
        return body

    def shape(element: ElementTree.Element) -> tuple[str, str, str]:
        return element.tag, element.text or "", repr(sorted(map(shape, element)))

    return shape(ElementTree.fromstring(body))


def ours(operation: operations.Operation) -> dict[str, Any]:
    wire = RecordingWire(response(500))
    settings = S3Settings(region="us-east-1", endpoint_url=ENDPOINT, max_attempts=1, **KEYS)
    client = S3Client(settings, runtime=ASYNCIO, make_wire=wire)
    with pytest.raises(CoatcheckError):
        asyncio.run(client.send("bucket", operation))
    request = wire.requests[0]
    headers = dict(line.split(": ", 1) for line in request.headers)
    return _shown(request.method, request.url, headers, bytes(request.body or b""))


class _Stopped(Exception):
    """Raised in place of sending."""


@pytest.fixture(scope="module")
def botocores():
    """A function that returns what botocore would send for a call, without sending it."""
    client = boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret-example",
        config=Config(
            s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
        ),
    )
    sent = []

    def stop(request, **_):
        sent.append(request)
        raise _Stopped

    client.meta.events.register("before-send.s3", stop)

    def call(method: str, **arguments: object) -> dict[str, Any]:
        with pytest.raises(_Stopped):
            getattr(client, method)(Bucket="bucket", **arguments)
        request = sent.pop()
        headers = {
            name: value.decode() if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
        }
        body = request.body.read() if hasattr(request.body, "read") else request.body or b""
        return _shown(request.method, request.url, headers, body)

    yield call
    client.close()


WRITE = ConditionalWrite(IfAbsent(), "0123456789abcd")
ATTRIBUTES = {
    "content-type": "text/plain",
    "content-encoding": "gzip",
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
    "x-amz-storage-class": "STANDARD_IA",
    "x-amz-tagging": "a=1&b=x+y",
    "x-amz-expected-bucket-owner": "123456789012",
}
SAME_ATTRIBUTES = {
    "ContentType": "text/plain",
    "ContentEncoding": "gzip",
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": "key-1",
    "StorageClass": "STANDARD_IA",
    "Tagging": "a=1&b=x+y",
    "ExpectedBucketOwner": "123456789012",
}
MARK = {"coatcheck-write": "0123456789abcd"}


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_a_put_is_botocores_put(botocores, key):
    operation = operations.put_object(key, b"data", payload_hash=None, headers=ATTRIBUTES)
    assert ours(operation) == botocores("put_object", Key=key, Body=b"data", **SAME_ATTRIBUTES)


@pytest.mark.parametrize(
    ("condition", "same"),
    [(IfAbsent(), {"IfNoneMatch": "*"}), (IfMatch('"e"'), {"IfMatch": '"e"'}), (None, {})],
)
def test_a_conditional_put_is_botocores_with_our_mark(botocores, condition, same):
    operation = operations.put_object(
        "k",
        b"data",
        payload_hash=None,
        headers={"content-type": "text/plain"},
        write=ConditionalWrite(condition, "0123456789abcd"),
    )
    expected = botocores(
        "put_object", Key="k", Body=b"data", ContentType="text/plain", Metadata=MARK, **same
    )
    assert ours(operation) == expected


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_gets_and_heads_are_botocores(botocores, key):
    operation = operations.get_object(
        key, ByteRange(10, 5), limit_bytes=5, headers={"if-match": '"e"'}
    )
    assert ours(operation) == botocores("get_object", Key=key, Range="bytes=10-14", IfMatch='"e"')
    whole = operations.get_object(key, None, limit_bytes=5, headers=NOTHING)
    assert ours(whole) == botocores("get_object", Key=key)
    part = operations.get_object_into(key, 7, memoryview(bytearray(3)), headers=NOTHING)
    assert ours(part) == botocores("get_object", Key=key, Range="bytes=7-9")
    assert ours(operations.head_object(key, headers=NOTHING)) == botocores("head_object", Key=key)


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_a_delete_is_botocores(botocores, key):
    ours_now = ours(operations.delete_object(key, headers=NOTHING))
    assert ours_now == botocores("delete_object", Key=key)


def test_a_bulk_delete_is_botocores(botocores):
    keys = ["a", "<&>\"'", "ü/ß", " spaced ", "tab\tbed"]
    expected = botocores(
        "delete_objects", Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
    )
    sent = ours(operations.delete_objects(keys, headers=NOTHING))
    # botocore leaves the type of the body to the server's guess.
    assert sent.pop("headers") == {"content-type": "application/xml"}
    expected.pop("headers")
    assert sent == expected


def test_a_bulk_delete_is_protected_by_md5_as_s3_demands():
    operation = operations.delete_objects(["a"], headers=NOTHING)
    assert operation.body is not None
    md5 = hashlib.md5(operation.body, usedforsecurity=False).digest()
    assert b64decode(operation.headers["content-md5"]) == md5


@pytest.mark.parametrize(
    ("after", "token", "same"),
    [
        ("", "", {}),
        ("p/k\x01 +%", "", {"StartAfter": "p/k\x01 +%"}),
        # The token continues a listing that was begun; where that began is in it.
        ("p/k", "to/ken+==", {"ContinuationToken": "to/ken+=="}),
    ],
)
@pytest.mark.parametrize("prefix", ["", "p/ä +%&="])
def test_a_listing_is_botocores(botocores, prefix, after, token, same):
    sent = ours(operations.list_objects(prefix, after=after, token=token, headers=NOTHING))
    expected = botocores("list_objects_v2", Prefix=prefix, MaxKeys=1000, EncodingType="url", **same)
    # No prefix and an empty one are the same question.
    expected["query"] = [item for item in expected["query"] if item != ("prefix", "")]
    assert sent == expected


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_a_copy_is_botocores(botocores, key):
    sent = ours(operations.copy_object("bucket", key, "to", headers=NOTHING))
    expected = botocores("copy_object", Key="to", CopySource={"Bucket": "bucket", "Key": key})
    source = sent["headers"]["x-amz-copy-source"]
    assert source.lstrip("/") == expected["headers"].pop("x-amz-copy-source")
    del sent["headers"]["x-amz-copy-source"]
    assert sent == expected


def test_what_an_access_point_shows_is_copied_by_its_arn(botocores):
    arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"
    sent = ours(operations.copy_object(arn, "a b/c", "to", headers=NOTHING))
    expected = botocores("copy_object", Key="to", CopySource={"Bucket": arn, "Key": "a b/c"})
    source = sent["headers"]["x-amz-copy-source"]
    assert source == expected["headers"]["x-amz-copy-source"]
    assert source == quote(f"{arn}/object/a b/c", safe="/~")


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_the_steps_of_a_multipart_upload_are_botocores(botocores, key):
    upload = {"Key": key, "UploadId": "up/load+1"}
    begin = multipart.create_multipart_upload(key, headers=ATTRIBUTES)
    assert ours(begin) == botocores("create_multipart_upload", Key=key, **SAME_ATTRIBUTES)

    part = multipart.upload_part(key, "up/load+1", 7, b"part", payload_hash=None, headers=NOTHING)
    assert ours(part) == botocores("upload_part", PartNumber=7, Body=b"part", **upload)

    complete = multipart.complete_multipart_upload(
        key, "up/load+1", {2: '"b"', 1: '"a"'}, size_bytes=9, write=WRITE, headers=NOTHING
    )
    parts = [{"PartNumber": 1, "ETag": '"a"'}, {"PartNumber": 2, "ETag": '"b"'}]
    expected = botocores(
        "complete_multipart_upload", MultipartUpload={"Parts": parts}, IfNoneMatch="*", **upload
    )
    sent = ours(complete)
    assert sent["headers"].pop("content-type") == "application/xml"
    assert sent == expected

    abort = multipart.abort_multipart_upload(key, "up/load+1", headers=NOTHING)
    assert ours(abort) == botocores("abort_multipart_upload", **upload)


def get(span: ByteRange | None = None) -> operations.Operation[Fetched | None]:
    return operations.get_object("k", span, limit_bytes=100, headers=NOTHING)


def test_a_range_is_read_from_206_and_from_rclones_200():
    for status in (206, 200):
        reply = response(status, b"cde", content_range="bytes 2-4/10", etag='"e"')
        assert get(ByteRange(2, 3)).parse(reply) == Fetched(b"cde", 10, '"e"')


def test_a_range_that_the_object_cuts_short_is_what_there_is():
    reply = response(206, b"xy", content_range="bytes 8-9/10")
    assert get(ByteRange(8, 5)).parse(reply) == Fetched(b"xy", 10, None)


def test_a_range_beyond_the_end_is_nothing_and_only_for_ranges():
    assert get(ByteRange(10, 1)).parse(response(416)) is None
    assert 416 in get(ByteRange(10, 1)).accepts
    assert 416 not in get().accepts


def test_a_whole_object_in_place_of_its_first_range_is_as_good():
    assert get(ByteRange(0, 5)).parse(response(200, b"abc")) == Fetched(b"abc", 3, None)


@pytest.mark.parametrize(
    ("status", "content_range"),
    [
        (206, "bytes 0-2/10"),  # not where we asked
        (206, "bytes 3-5/10"),
        (206, "bytes 2-3/10"),  # not as long as what came
        (206, "bytes 2-5/10"),
        (206, "bytes 2-4/4"),  # beyond its own end
        (206, "bytes 2-4/*"),
        (206, "bytes 2-4"),
        (206, "bytes */10"),
        (206, "bytes 4-2/10"),
        (206, "bytes -2-4/10"),
        (206, "items 2-4/10"),
        (206, "bytes=2-4/10"),
        (206, "bytes ²-4/10"),  # a digit for str.isdigit, and none for int
        (206, f"bytes 2-4/{'9' * 5000}"),
        (206, "bytes 2-4/10, bytes 6-7/10"),
        (206, ""),
        (200, "garbage"),
        (200, ""),  # the server ignores ranges, and this is not the first
    ],
)
def test_a_server_that_lies_about_a_range_is_not_believed(status, content_range):
    headers = {"content_range": content_range} if content_range else {}
    reply = response(status, b"cde")
    reply.header_lines += [f"Content-Range: {v}".encode("latin-1") for v in headers.values()]
    with pytest.raises(Unsupported) as caught:
        get(ByteRange(2, 3)).parse(reply)
    assert len(str(caught.value)) < 400
    with pytest.raises(Unsupported):
        operations.get_object_into("k", 2, memoryview(bytearray(3)), headers=NOTHING).parse(reply)


def test_206_without_content_range_is_not_taken_for_the_whole_object():
    with pytest.raises(Unsupported, match="without saying which"):
        get(ByteRange(0, 3)).parse(response(206, b"abc"))


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_no_content_range_raises_anything_but_unsupported(text):
    reply = response(206, b"cde")
    reply.header_lines.append(f"content-range: {text}".encode("latin-1"))
    with suppress(Unsupported):
        get(ByteRange(2, 3)).parse(reply)


def test_a_buffer_must_be_filled_exactly():
    part = operations.get_object_into("k", 4, memoryview(bytearray(3)), headers=NOTHING)
    part.parse(response(206, b"efg", content_range="bytes 4-6/10"))
    with pytest.raises(Corrupt, match="2 bytes at offset 4 where 3 were expected"):
        part.parse(response(206, b"ef", content_range="bytes 4-5/6"))


def head(**headers: Any) -> ObjectInfo:
    reply = response(200, x_amz_request_id="R", **headers)
    return operations.head_object("k", headers=NOTHING).parse(reply)


def test_head_reads_size_etag_and_time():
    info = head(content_length="5", etag='"e"', last_modified="Sat, 21 Nov 2026 07:12:02 GMT")
    assert info == ObjectInfo("k", 5, '"e"', datetime(2026, 11, 21, 7, 12, 2, tzinfo=UTC))


@pytest.mark.parametrize(
    "modified",
    ["", "yesterday", "0", "Mon, 01 Jan 99999999999 00:00:00 GMT", "Sat, 21 Nov 2026 99:99:99 GMT"],
)
def test_head_does_without_etag_and_without_a_readable_time(modified):
    assert head(content_length="5", last_modified=modified) == ObjectInfo("k", 5)


@pytest.mark.parametrize("size", ["", "-1", "1.5", "five", "²", "9" * 30, "0x10", "+5", "1_0"])
def test_head_without_a_readable_size_is_an_unsupported_server(size):
    with pytest.raises(Unsupported):
        head(content_length=size)


def test_head_without_any_size_is_an_unsupported_server():
    with pytest.raises(Unsupported, match="does not tell the object's size"):
        head()


def test_a_put_without_an_etag_is_a_put():
    operation = operations.put_object("k", b"data", payload_hash=None, headers=NOTHING)
    assert operation.parse(response(200)) == ObjectInfo("k", 4, None)


def test_a_part_without_an_etag_cannot_be_completed():
    operation = multipart.upload_part("k", "u", 1, b"", payload_hash=None, headers=NOTHING)
    assert operation.parse(response(200, etag='"e"')) == '"e"'
    with pytest.raises(Unsupported, match="ETag"):
        operation.parse(response(200))


def test_an_upload_without_an_id_cannot_go_on():
    operation = multipart.create_multipart_upload("k", headers=NOTHING)
    reply = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
    assert operation.parse(response(200, reply)) == "u"
    with pytest.raises(Unsupported, match="id"):
        operation.parse(response(200, b"<InitiateMultipartUploadResult/>"))


def page(body: str) -> operations.Page:
    operation = operations.list_objects("", after="", token="", headers=NOTHING)
    return operation.parse(response(200, f"<ListBucketResult>{body}</ListBucketResult>".encode()))


def test_a_page_of_a_listing_is_read():
    found = page(
        "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>t+/=</NextContinuationToken>"
        "<Contents><Key>a%20b%2Bc+d/%C3%BC%01</Key><Size>3</Size><ETag>&quot;e&quot;</ETag>"
        "<LastModified>2026-11-21T07:12:02.000Z</LastModified></Contents>"
        "<Contents><Key>z</Key><Size>0</Size></Contents>"
    )
    moment = datetime(2026, 11, 21, 7, 12, 2, tzinfo=UTC)
    assert found.objects == [ObjectInfo("a b+c d/ü\x01", 3, '"e"', moment), ObjectInfo("z", 0)]
    assert found.next_token == "t+/="


def test_keys_of_a_server_that_does_not_encode_are_taken_as_they_are():
    found = page("<Contents><Key>a%20b+c</Key><Size>1</Size><ETag>bare</ETag></Contents>")
    assert found.objects == [ObjectInfo("a%20b+c", 1, '"bare"')]


def test_a_token_counts_only_where_the_page_is_cut():
    assert page("<NextContinuationToken>t</NextContinuationToken>").next_token == ""
    with pytest.raises(Unsupported, match="cut a listing short"):
        page("<IsTruncated>true</IsTruncated>")


@pytest.mark.parametrize("size", ["", "-1", "x", "9" * 40])
def test_an_unreadable_size_in_a_listing_is_an_unsupported_server(size):
    with pytest.raises(Unsupported):
        page(f"<Contents><Key>k</Key><Size>{size}</Size></Contents>")


@pytest.mark.parametrize(
    "when", ["", "soon", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"]
)
def test_an_unreadable_time_in_a_listing_is_no_time(when):
    item = f"<Contents><Key>k</Key><Size>1</Size><LastModified>{when}</LastModified></Contents>"
    assert page(item).objects == [ObjectInfo("k", 1)]


def test_failures_of_a_bulk_delete_are_told_and_missing_keys_are_none():
    operation = operations.delete_objects(["a", "b"], headers=NOTHING)
    assert operation.parse(response(200, b"<DeleteResult/>")) == []
    reply = (
        b"<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        b"<Error><Key>b</Key><Code>NoSuchKey</Code></Error></DeleteResult>"
    )
    assert operation.parse(response(200, reply)) == [DeleteFailure("a", "AccessDenied", "no")]


def test_a_copy_tells_etag_and_time_with_quotes_restored():
    operation = operations.copy_object("b", "s", "k", headers=NOTHING)
    reply = (
        b"<CopyObjectResult><ETag>e</ETag><LastModified>2026-11-21T07:12:02Z</LastModified>"
        b"</CopyObjectResult>"
    )
    info = operation.parse(response(200, reply))
    assert (info.key, info.etag) == ("k", '"e"')
    assert info.last_modified == datetime(2026, 11, 21, 7, 12, 2, tzinfo=UTC)


def test_only_an_object_with_our_mark_settles_a_lost_reply():
    operation = operations.put_object("k", b"d", payload_hash=None, headers=NOTHING, write=WRITE)
    assert operation.settle is not None
    settle = operation.settle()
    found: Any = {"content_length": "1", "etag": '"e"'}
    mark: Any = {"x_amz_meta_coatcheck_write": "0123456789abcd", **found}
    assert settle.parse(response(200, **mark)) == ObjectInfo("k", 1, '"e"')
    assert settle.parse(response(200, **found)) is None
    other: Any = {**mark, "x_amz_meta_coatcheck_write": "another"}
    assert settle.parse(response(200, **other)) is None


def test_the_repr_of_an_operation_shows_neither_body_nor_headers():
    operation = operations.put_object(
        "k", b"the payload", payload_hash=None, headers={"x-amz-secret": "canary"}
    )
    assert "payload'" not in repr(operation)
    assert "canary" not in repr(operation)


@both_faces
@pytest.mark.parametrize("s3_server", ["moto", "rclone"], indirect=True)
def test_hostile_keys_come_back_from_real_servers_as_they_went(face, s3_server, bucket):
    keys = ["plain", "with space", "plus+plus", "per%cent%20%2B", "ümlaut/日本/\U0001f600"]
    keys += ["quote\"'<&>", "tilde~star*(paren)!$@=;:,", "?query#fragment", "a&b=c"]
    if s3_server.root is None:  # rclone's are files, whose names cannot hold these
        keys += [
            "control\x01\x1f\x7f",
            "carriage\rreturn\ttab",
            "a//b",
            "./dots/../here",
            "nel\x85",
        ]
    objects = face.objects(
        s3_server.endpoint,
        bucket,
        access_key_id=s3_server.access_key_id,
        secret_access_key=s3_server.secret_access_key,
    )

    async def round_trip() -> None:
        for key in keys:
            await objects.put(key, key.encode())
        assert [info.key for info in await all_of(objects.list())] == sorted(keys)
        for key in keys:
            assert (await objects.get(key, limit_bytes=100)).body == key.encode()
            assert (await objects.head(key)).size_bytes == len(key.encode())
            await objects.copy(key, f"copy of {key}")
            assert (await objects.get(f"copy of {key}", limit_bytes=100)).body == key.encode()
        assert await objects.delete_many([*keys, *[f"copy of {key}" for key in keys]]) == []
        assert await all_of(objects.list()) == []

    face.run(round_trip())

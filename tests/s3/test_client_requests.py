"""What is asked of S3 on every request: encryption, class, tags, owner, headers of the user's own.

At a recording server for what is sent, and at moto, seen by boto3, for what it does.
"""

import pytest

from coatcheck import errors
from coatcheck.testing import reply
from coatcheck.types import Attributes, ByteRange, Digest
from tests.s3.support import all_of, both_faces

OWNER = "123456789012"
EVERYTHING = {
    "server_side_encryption": "aws:kms",
    "kms_key_id": "key-1",
    "storage_class": "STANDARD_IA",
    "tags": {"team": "a b", "c&d": "ü"},
    "expected_bucket_owner": OWNER,
    "extra_headers": {"x-custom": "mine"},
}
ON_EVERY_REQUEST = {"x-amz-expected-bucket-owner": OWNER, "x-custom": "mine"}
ON_EVERY_WRITE = {
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
    "x-amz-storage-class": "STANDARD_IA",
    "x-amz-tagging": "team=a+b&c%26d=%C3%BC",
    **ON_EVERY_REQUEST,
}
NOT_ON_READS = set(ON_EVERY_WRITE) - set(ON_EVERY_REQUEST)


def answer(request):
    """Say to each request what lets the client go on."""
    told = {"ETag": '"e"', "x-amz-request-id": "R"}
    if "uploads" in request.target:
        return reply(200, b"<R><UploadId>up</UploadId></R>", told)
    if request.method == "POST" or "x-amz-copy-source" in request.headers:
        return reply(200, b"<R><ETag>e</ETag></R>", told)
    if "list-type" in request.target:
        return reply(200, b"<ListBucketResult/>", told)
    body = b"abc" if request.method == "GET" else b""
    return reply(200, body, {**told, "Content-Length": "3"} if request.method == "HEAD" else told)


async def everything(objects) -> None:
    """Do all that an object store can."""
    await objects.put("k", b"abc")
    await objects.put("k", b"abc", attributes=Attributes("text/plain", "gzip", {"team": "other"}))
    await objects.get("k", limit_bytes=10)
    await objects.get("k", ByteRange(0, 3), limit_bytes=3, if_match='"e"')
    await objects.get_into("k", 0, memoryview(bytearray(3)))
    await objects.head("k")
    await objects.copy("k", "l")
    await objects.delete("k")
    await objects.delete_many(["k", "control\x01"])
    await all_of(objects.list())
    upload = await objects.begin_upload("k")
    await upload.send_part(1, b"abc")
    await upload.complete()
    await upload.abort()


def named(server) -> list[tuple[str, dict[str, str]]]:
    """The requests by what they are, with their headers."""
    names = []
    for request in server.requests:
        name = request.method
        if "x-amz-copy-source" in request.headers:
            name = "COPY"
        elif "?" in request.target:
            name += "?" + request.target.split("?")[1].split("=")[0]
        names.append((name, dict(request.headers)))
    return names


@both_faces
def test_every_request_carries_owner_and_extra_headers_signed(face, fault_server):
    fault_server.play(answer)
    face.run(everything(face.objects(fault_server.endpoint, **EVERYTHING)))
    requests = named(fault_server)
    names = [name for name, _ in requests]
    # The two of the bulk delete go side by side, in either order.
    names[9:11] = sorted(names[9:11])
    assert names == [
        "PUT", "PUT", "GET", "GET", "GET", "HEAD", "COPY", "HEAD", "DELETE", "DELETE",
        "POST?delete", "GET?encoding-type", "POST?uploads", "PUT?partNumber", "POST?uploadId",
        "DELETE?uploadId",
    ]  # fmt: skip
    for name, headers in requests:
        assert ON_EVERY_REQUEST.items() <= headers.items(), name
        signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
        amazons = {header for header in headers if header.startswith("x-amz-")}
        assert amazons | {"x-custom", "host"} <= set(signed), name


@both_faces
def test_what_is_written_carries_encryption_class_and_tags_and_nothing_else_does(
    face, fault_server
):
    fault_server.play(answer)
    face.run(everything(face.objects(fault_server.endpoint, **EVERYTHING)))
    for number, (name, headers) in enumerate(named(fault_server)):
        if number == 1:  # the put with attributes of its own
            assert headers["x-amz-tagging"] == "team=other&c%26d=%C3%BC"
            assert headers["content-type"] == "text/plain"
            assert headers["content-encoding"] == "gzip"
        elif name in ("PUT", "COPY", "POST?uploads"):
            assert ON_EVERY_WRITE.items() <= headers.items(), name
        else:
            assert not NOT_ON_READS & set(headers), name


@both_faces
def test_a_copy_replaces_tags_and_names_the_owner_of_its_source(face, fault_server):
    fault_server.play(answer)
    face.run(face.objects(fault_server.endpoint, **EVERYTHING).copy("k", "l"))
    headers = fault_server.requests[0].headers
    assert headers["x-amz-tagging-directive"] == "REPLACE"
    assert headers["x-amz-source-expected-bucket-owner"] == OWNER


@both_faces
def test_without_settings_a_request_carries_what_signing_needs_and_no_more(face, fault_server):
    fault_server.play(answer)
    face.run(face.objects(fault_server.endpoint).put("k", b"abc"))
    assert {name for name in fault_server.requests[0].headers if name.startswith("x-")} == {
        "x-amz-content-sha256",
        "x-amz-date",
    }
    assert "content-type" not in fault_server.requests[0].headers
    assert "expect" not in fault_server.requests[0].headers


@both_faces
def test_a_digest_that_is_known_signs_the_request_and_an_unknown_one_is_computed(
    face, fault_server
):
    fault_server.play(answer)
    objects = face.objects(fault_server.endpoint)
    digest = Digest.of(b"abc")

    async def put_twice() -> None:
        # A false one is handed down as it is: checking it is the server's part.
        await objects.put("k", b"abc", digest=Digest.of(b"other"))
        await objects.put("k", b"abc")
        await objects.get("k", limit_bytes=10)

    face.run(put_twice())
    hashes = [request.headers["x-amz-content-sha256"] for request in fault_server.requests]
    assert hashes == [Digest.of(b"other").hex, digest.hex, Digest.of(b"").hex]


@both_faces
@pytest.mark.parametrize(
    "headers", [{"Host": "x"}, {"Authorization": "x"}, {"a b": "x"}, {"a": "é"}]
)
def test_headers_that_cannot_be_sent_are_refused_without_a_request(face, fault_server, headers):
    objects = face.objects(fault_server.endpoint, extra_headers=headers)
    with pytest.raises(errors.ConfigError) as caught:
        face.run(objects.head("k"))
    assert caught.value.remedy
    assert fault_server.requests == []


@both_faces
@pytest.mark.parametrize("key", ["", "x" * 1025, "ü" * 513, "\udc80", "\udc80" * 300])
def test_a_key_that_s3_cannot_hold_is_refused_without_a_request(face, fault_server, key):
    objects = face.objects(fault_server.endpoint)
    for job in (
        objects.put(key, b""),
        objects.head(key),
        objects.get(key, limit_bytes=1),
        objects.delete(key),
        objects.delete_many(["fine", key]),
        objects.copy("fine", key),
        objects.copy(key, "fine"),
        objects.begin_upload(key),
    ):
        with pytest.raises(errors.ConfigError) as caught:
            face.run(job)
        assert caught.value.remedy
    assert fault_server.requests == []


@both_faces
@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_moto_does_what_was_asked(face, s3_server, bucket):
    settings = {**EVERYTHING, "tags": {"team": "a b"}}
    objects = face.objects(s3_server.endpoint, bucket, **settings)

    async def write() -> None:
        await objects.put("put", b"abc", attributes=Attributes("text/plain", "gzip"))
        await objects.copy("put", "copied")
        upload = await objects.begin_upload("parts", attributes=Attributes("text/plain", "gzip"))
        await upload.send_part(1, b"abc")
        await upload.complete()

    face.run(write())
    witness = s3_server.witness()
    for key in ("put", "copied", "parts"):
        head = witness.head_object(Bucket=bucket, Key=key)
        assert head["ContentType"] == "text/plain", key
        assert head["ServerSideEncryption"] == "aws:kms", key
        assert head["SSEKMSKeyId"] == "key-1", key
        assert head["StorageClass"] == "STANDARD_IA", key
        tags = witness.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        assert tags == [{"Key": "team", "Value": "a b"}], key
    witness.close()


@both_faces
@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_a_copy_gives_its_tags_and_not_the_sources(face, s3_server, bucket):
    witness = s3_server.witness()
    witness.put_object(Bucket=bucket, Key="source", Body=b"abc", Tagging="team=old")
    face.run(face.objects(s3_server.endpoint, bucket, tags={"team": "new"}).copy("source", "to"))
    tags = witness.get_object_tagging(Bucket=bucket, Key="to")["TagSet"]
    witness.close()
    assert tags == [{"Key": "team", "Value": "new"}]

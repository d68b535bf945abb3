"""The S3 store over the client: what it asks for, in how many requests, and what it makes of it."""

from functools import partial
from xml.etree import ElementTree

import pytest

from coatcheck import errors
from coatcheck.objects.blocking import BlockingObjectStore
from coatcheck.objects.local import LocalObjects
from coatcheck.objects.memory import MemoryObjects
from coatcheck.objects.opening import open_on
from coatcheck.objects.s3 import S3Objects
from coatcheck.testing import reply, s3_error
from coatcheck.types import ByteRange, DeleteFailure, IfAbsent, IfMatch
from tests.s3.support import FACES, KEYS, all_of, both_faces

OK = {"ETag": '"e"', "x-amz-request-id": "R"}


def below(face, server, prefix="p") -> S3Objects:
    return S3Objects(face.client(server.endpoint), "bucket", prefix)


def deleted_keys(request) -> list[str | None]:
    found = ElementTree.fromstring(request.body).findall("{*}Object/{*}Key")
    return [key.text for key in found]


@both_faces
def test_bulk_deletes_go_in_thousands_and_odd_keys_go_alone(face, fault_server):
    fault_server.play(
        lambda request: reply(204) if request.method == "DELETE" else reply(200, b"<R/>")
    )
    keys = [f"k{number}" for number in range(2500)] + ["odd\x01", "line\nfeed"]
    assert face.run(below(face, fault_server).delete_many(keys)) == []
    bulk = [request for request in fault_server.requests if request.method == "POST"]
    assert sorted(len(deleted_keys(request)) for request in bulk) == [500, 1000, 1000]
    assert {key for request in bulk for key in deleted_keys(request)} == {
        f"p/{key}" for key in keys[:2500]
    }
    alone = {request.target for request in fault_server.requests if request.method == "DELETE"}
    assert alone == {"/bucket/p/odd%01", "/bucket/p/line%0Afeed"}


@both_faces
def test_keys_that_could_not_be_deleted_are_returned_as_the_store_knows_them(face, fault_server):
    def partly(request):
        if request.method == "DELETE":
            return s3_error(403, "AccessDenied")
        failures = "".join(
            f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
            for key in ("p/a", "p/b")
        )
        return reply(200, f"<DeleteResult>{failures}</DeleteResult>".encode())

    fault_server.play(partly)
    failures = face.run(below(face, fault_server).delete_many(["a", "b", "c", "odd\x01"]))
    assert failures == [
        DeleteFailure("a", "AccessDenied", "no"),
        DeleteFailure("b", "AccessDenied", "no"),
        DeleteFailure("odd\x01", "AccessDenied", "access denied"),
    ]


@both_faces
def test_deleting_nothing_asks_nothing(face, fault_server):
    assert face.run(below(face, fault_server).delete_many([])) == []
    assert fault_server.requests == []


@both_faces
def test_a_bulk_delete_that_is_refused_as_a_whole_is_an_error(face, fault_server):
    fault_server.play(s3_error(403, "AccessDenied"))
    with pytest.raises(errors.Forbidden):
        face.run(below(face, fault_server).delete_many(["a"]))


@both_faces
def test_deleting_what_is_not_there_is_no_error_on_any_server(face, fault_server):
    for behaviour in (reply(204), s3_error(404, "NoSuchKey"), reply(404)):
        fault_server.play(behaviour)
        face.run(below(face, fault_server).delete("k"))
    fault_server.play(s3_error(404, "NoSuchBucket"))
    with pytest.raises(errors.BucketNotFound):
        face.run(below(face, fault_server).delete("k"))


@both_faces
def test_a_listing_follows_its_pages_and_shows_keys_below_the_prefix(face, fault_server):
    pages = [
        b"<R><IsTruncated>true</IsTruncated><NextContinuationToken>1+1=</NextContinuationToken>"
        b"<Contents><Key>p/a</Key><Size>1</Size></Contents></R>",
        b"<R><IsTruncated>true</IsTruncated><NextContinuationToken>2</NextContinuationToken></R>",
        b"<R><Contents><Key>p/p/b</Key><Size>2</Size></Contents></R>",
    ]
    fault_server.play([reply(200, page) for page in pages])
    found = face.run(all_of(below(face, fault_server).list("", after="0 0")))
    assert [(info.key, info.size_bytes) for info in found] == [("a", 1), ("p/b", 2)]
    targets = [request.target for request in fault_server.requests]
    assert "start-after=p%2F0%200" in targets[0]
    assert all("prefix=p%2F" in target for target in targets)
    assert "continuation-token=1%2B1%3D" in targets[1]
    assert "continuation-token=2" in targets[2]


@both_faces
def test_a_span_beyond_the_end_costs_a_look_at_the_size(face, fault_server):
    empty = [s3_error(416, "InvalidRange"), reply(200, headers={**OK, "Content-Length": "3"})]
    fault_server.play(empty)
    fetched = face.run(below(face, fault_server).get("k", ByteRange(9, 5), limit_bytes=5))
    assert (fetched.body, fetched.size_bytes, fetched.etag) == (b"", 3, '"e"')
    assert [request.method for request in fault_server.requests] == ["GET", "HEAD"]


@both_faces
@pytest.mark.parametrize("size", [11, 70_000, 3_000_000])
def test_an_object_over_the_limit_is_too_large_however_large(face, fault_server, size):
    for behaviour in (reply(200, b"x" * size, OK), reply(200, b"x" * size, OK).chunked(5000)):
        fault_server.play(behaviour)
        with pytest.raises(errors.TooLarge) as caught:
            face.run(below(face, fault_server).get("k", limit_bytes=10))
        assert caught.value.diagnostics.key == "p/k"
        assert caught.value.remedy


@both_faces
def test_whole_objects_in_place_of_ranges_are_told_as_such(face, fault_server):
    fault_server.play(reply(200, b"x" * 1000, OK))
    objects = below(face, fault_server)
    for job in (
        objects.get("k", ByteRange(0, 10), limit_bytes=10),
        objects.get("k", ByteRange(5, 10), limit_bytes=2000),
        objects.get_into("k", 5, memoryview(bytearray(10))),
    ):
        with pytest.raises(errors.Unsupported, match="ignores ranges") as caught:
            face.run(job)
        assert caught.value.diagnostics.key == "p/k"
    with pytest.raises(errors.TooLarge):
        face.run(objects.get("k", ByteRange(0, 500), limit_bytes=10))


@both_faces
def test_a_buffer_is_filled_in_place_and_never_beyond(face, fault_server):
    buffer = bytearray(b"........")
    fault_server.play(reply(206, b"cde", {**OK, "Content-Range": "bytes 2-4/10"}))
    face.run(below(face, fault_server).get_into("k", 2, memoryview(buffer)[1:4]))
    assert buffer == b".cde...."
    fault_server.play(reply(206, b"cd", {**OK, "Content-Range": "bytes 2-3/4"}))
    with pytest.raises(errors.Corrupt, match="2 bytes at offset 2 where 3"):
        face.run(below(face, fault_server).get_into("k", 2, memoryview(buffer)[1:4]))
    assert buffer[4:] == b"...."


@both_faces
def test_conditions_travel_and_refusals_are_conflicts(face, fault_server):
    fault_server.play(reply(412))
    objects = below(face, fault_server)
    for job in (
        objects.put("k", b"x", condition=IfAbsent()),
        objects.put("k", b"x", condition=IfMatch('"e"')),
        objects.get("k", limit_bytes=1, if_match='"e"'),
        objects.get_into("k", 0, memoryview(bytearray(1)), if_match='"e"'),
    ):
        with pytest.raises(errors.Conflict):
            face.run(job)
    sent = [
        {name: value for name, value in request.headers.items() if name.startswith("if-")}
        for request in fault_server.requests
    ]
    assert sent == [{"if-none-match": "*"}, *[{"if-match": '"e"'}] * 3]


@both_faces
@pytest.mark.parametrize("etag", ["", "bare", '"' + "x" * 500 + '"', 'W/"weak"', "\xff\xfe"])
def test_an_odd_etag_of_a_put_never_breaks_it(face, fault_server, etag):
    fault_server.play(reply(200, headers={"ETag": etag}))
    info = face.run(below(face, fault_server).put("k", b"x"))
    assert (info.key, info.size_bytes, info.etag) == ("k", 1, etag)


@pytest.mark.parametrize(
    ("face", "s3_server"), [(FACES[0], "moto"), (FACES[1], "rclone")], indirect=["s3_server"]
)
def test_more_than_a_page_is_listed_in_order_and_deleted(face, s3_server, bucket):
    objects = S3Objects(
        face.client(
            s3_server.endpoint,
            access_key_id=s3_server.access_key_id,
            secret_access_key=s3_server.secret_access_key,
        ),
        bucket,
        "p",
    )

    keys = [f"{number:04}" for number in range(1003)]

    async def list_and_delete() -> None:
        await objects.runtime.gather([partial(objects.put, key, b"") for key in keys], limit=16)
        found = [info.key for info in await all_of(objects.list())]
        assert found == keys
        after = [info.key for info in await all_of(objects.list("10", after="1000"))]
        assert after == ["1001", "1002"]
        assert await objects.delete_many(found) == []
        assert await all_of(objects.list()) == []

    face.run(list_and_delete())


@both_faces
@pytest.mark.parametrize(
    ("url", "kind", "location"),
    [
        ("s3://bucket/a/b/?region=eu-west-1", S3Objects, "s3://bucket/a/b"),
        ("s3://bucket", S3Objects, "s3://bucket"),
        ("memory://name", MemoryObjects, "memory://name"),
        ("memory://name/below", MemoryObjects, "memory://name/below"),
        ("file:///no/such/folder", LocalObjects, "file:///no/such/folder"),
    ],
)
def test_urls_open_stores_that_tell_their_place_and_their_runtime(face, url, kind, location):
    objects = open_on(face.backend, url, {})
    assert type(objects) is kind
    assert objects.location == location
    assert objects.runtime is face.backend.runtime
    assert BlockingObjectStore(objects).location == location


def test_the_plain_face_does_all_that_the_other_does(fault_server):
    page = b"<R><Contents><Key>k</Key><Size>3</Size></Contents></R>"

    def answer(request):
        if "list-type" in request.target:
            return reply(200, page)
        if request.method == "POST":
            return reply(200, b"<DeleteResult/>")
        if "x-amz-copy-source" in request.headers:
            return reply(200, b"<R><ETag>e</ETag></R>")
        if request.method == "HEAD":
            return reply(200, headers={**OK, "Content-Length": "3"})
        return reply(200, b"abc" if request.method == "GET" else b"", OK)

    fault_server.play(answer)
    url = f"s3://bucket?endpoint={fault_server.endpoint}"
    objects = BlockingObjectStore(open_on(FACES[1].backend, url, KEYS))
    buffer = bytearray(3)
    assert objects.put("k", b"abc").size_bytes == 3
    assert objects.get("k", limit_bytes=3).body == b"abc"
    objects.get_into("k", 0, memoryview(buffer))
    assert buffer == b"abc"
    assert objects.head("k").size_bytes == 3
    assert objects.copy("k", "l").key == "l"
    assert objects.delete_many(["k"]) == []
    objects.delete("k")
    assert [info.key for info in objects.list()] == ["k"]

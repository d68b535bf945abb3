"""S3Storage: what it writes and reads, beside labox's own, and how its operations end."""

import asyncio
from contextlib import aclosing

import pytest
from labox.common.exceptions import NoStorageData
from labox.core.storage import Storage

from coatcheck import errors
from coatcheck.integrations.labox import (
    KeyTaken,
    NoStorageBucket,
    S3Pointer,
    S3Storage,
    simple_s3_router,
)
from coatcheck.objects.s3 import S3Objects
from coatcheck.objects.s3_upload import S3Upload
from coatcheck.testing import forward, s3_error
from tests.integrations.labox.support import (
    MIB,
    PART,
    content,
    digest_of,
    gathered,
    ours,
    streamed,
    theirs,
)

SIZES = [0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1, 23 * MIB]


def keys_in(witness, bucket):
    found = witness.list_objects_v2(Bucket=bucket).get("Contents", [])
    try:
        uploads = witness.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    except witness.exceptions.NoSuchUpload:  # rclone's way to say: none
        uploads = []
    assert uploads == []
    return [item["Key"] for item in found]


@pytest.mark.parametrize("size", SIZES)
async def test_every_size_as_value_and_as_stream(size, server, bucket_name, witness):
    storage, data = ours(server, bucket_name), content(size)
    value = await storage.write_data(data, digest_of(data), {})
    stream, get_digest = streamed(data)
    pointer = await storage.write_data_stream(stream, get_digest, {})
    assert pointer == value
    assert pointer == {
        "bucket": bucket_name,
        "key": f"pre/fix/{digest_of(data)['content_hash']}.bin",
    }
    assert await storage.read_data(pointer) == data
    assert await gathered(storage.read_data_stream(pointer)) == data
    assert keys_in(witness, bucket_name) == [pointer["key"]]


@pytest.mark.parametrize("size", [1, 5 * MIB, 2 * PART + 1])
async def test_each_implementation_reads_what_the_other_wrote(size, server, bucket_name):
    mine, original, data = ours(server, bucket_name), theirs(server, bucket_name), content(size)
    for writer, reader in ((mine, original), (original, mine)):
        pointer = await writer.write_data(data, digest_of(data), {"a": "b"})
        assert reader.deserialize_config(writer.serialize_config(pointer)) == pointer
        assert await reader.read_data(pointer) == data
    for writer, reader in ((mine, original), (original, mine)):
        pointer = await writer.write_data_stream(*streamed(data), {"a": "b"})
        assert await reader.read_data(pointer) == data
    if size == 1:  # the original cannot read streams of more than one chunk
        assert await gathered(original.read_data_stream(pointer)) == data
    assert await gathered(mine.read_data_stream(pointer)) == data


async def test_it_is_the_original_s_storage_by_name_and_by_signature():
    assert issubclass(S3Storage, Storage)
    assert S3Storage.name == "labox.aws.s3@v1"
    assert S3Pointer(bucket="b", key="k") == {"bucket": "b", "key": "k"}


@pytest.mark.parametrize("server", ["moto"], indirect=True)
@pytest.mark.parametrize("size", [10, 2 * PART + 1])
@pytest.mark.parametrize("way", ["value", "stream"])
async def test_type_encoding_and_tags_are_stored(way, size, server, bucket_name, witness):
    data = content(size)
    storage = ours(server, bucket_name)
    tags = {"team": "a+b/c", "kind": "x y"}
    if way == "value":
        digest = digest_of(data, "text/csv", "gzip")
        pointer = await storage.write_data(data, digest, tags)
    else:
        stream, get_digest = streamed(data, content_type="text/csv")

        def with_encoding(**options):
            return {**get_digest(**options), "content_encoding": "gzip"}

        pointer = await storage.write_data_stream(stream, with_encoding, tags)
    head = witness.head_object(Bucket=bucket_name, Key=pointer["key"])
    assert (head["ContentType"], head["ContentEncoding"]) == ("text/csv", "gzip")
    stored = witness.get_object_tagging(Bucket=bucket_name, Key=pointer["key"])["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in stored} == tags


async def test_a_boto3_client_will_do(server, bucket_name):
    client = server.witness()
    storage = S3Storage(s3_client=client, s3_router=simple_s3_router(bucket_name))
    data = content(PART + 1)
    stream, get_digest = streamed(data)
    pointer = await storage.write_data_stream(stream, get_digest, {})
    assert await storage.read_data(pointer) == data
    client.close()


async def test_a_client_of_another_service_is_refused(server):
    import boto3

    queue = boto3.client(
        "sqs", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with pytest.raises(errors.ConfigError, match="not an S3 client"):
        S3Storage(s3_client=queue, s3_router=None)
    queue.close()


async def test_without_a_router_it_only_reads(server, bucket_name):
    data = content(100)
    pointer = await ours(server, bucket_name).write_data(data, digest_of(data), {})
    storage = ours(server, bucket_name, s3_router=None)
    assert await storage.read_data(pointer) == data
    assert await gathered(storage.read_data_stream(pointer)) == data
    with pytest.raises(NotImplementedError, match=r"labox\.aws\.s3@v1"):
        await storage.write_data(data, digest_of(data), {})
    stream, get_digest = streamed(data)
    with pytest.raises(NotImplementedError, match="read-only"):
        await storage.write_data_stream(stream, get_digest, {})
    await stream.aclose()


@pytest.mark.parametrize(
    "options",
    [
        {"stream_writer_min_part_size": 5 * MIB - 1},
        {"stream_writer_min_part_size": 5 * 1024 * MIB + 1},
        {"stream_reader_max_part_size": 0},
    ],
)
async def test_sizes_that_cannot_be_are_refused(options, rclone):
    with pytest.raises(ValueError, match="part_size"):
        ours(rclone, "bucket", **options)


async def test_what_is_missing_is_reported_as_labox_knows_it(server, bucket_name):
    storage = ours(server, bucket_name)
    lost = S3Pointer(bucket=bucket_name, key="no/such")
    nowhere = S3Pointer(bucket="no-such-bucket-here", key="no/such")
    for pointer, kind in ((lost, NoStorageData), (nowhere, NoStorageBucket)):
        for reading in (storage.read_data(pointer), gathered(storage.read_data_stream(pointer))):
            with pytest.raises(NoStorageData) as caught:
                await reading
            assert type(caught.value) is kind
            assert pointer["bucket"] in str(caught.value)
    data = content(9)
    writer = ours(server, bucket_name, s3_router=simple_s3_router("no-such-bucket-here"))
    with pytest.raises(NoStorageBucket):
        await writer.write_data(data, digest_of(data), {})


def _named(bucket, key="fixed/name"):
    def router(digest, tags, *, temp):
        return S3Pointer(bucket=bucket, key=f"tmp/{id(tags)}" if temp else key)

    return router


@pytest.mark.parametrize("size", [20, 2 * PART + 1])
@pytest.mark.parametrize("way", ["value", "stream"])
async def test_a_name_is_never_given_to_other_content(way, size, server, bucket_name, witness):
    storage = ours(server, bucket_name, s3_router=_named(bucket_name))

    async def write(data):
        if way == "value":
            return await storage.write_data(data, digest_of(data), {})
        return await storage.write_data_stream(*streamed(data), {})

    first, same_size, longer = content(size), content(size, seed=1), content(size + 1)
    pointer = await write(first)
    assert await write(first) == pointer
    for other in (same_size, longer):
        with pytest.raises(KeyTaken, match="fixed/name"):
            await write(other)
    assert await storage.read_data(pointer) == first
    assert keys_in(witness, bucket_name) == ["fixed/name"]


async def test_temporary_content_may_be_in_another_bucket(server, bucket_name, witness):
    other = f"{bucket_name}-tmp"
    server.create_bucket(other)

    def router(digest, tags, *, temp):
        if temp:
            return S3Pointer(bucket=other, key="tmp/1")
        return S3Pointer(bucket=bucket_name, key=f"final/{digest['content_hash']}")

    storage, data = ours(server, bucket_name, s3_router=router), content(2 * PART + 1)
    pointer = await storage.write_data_stream(*streamed(data), {})
    assert await storage.read_data(pointer) == data
    assert keys_in(witness, other) == []


@pytest.mark.parametrize("server", ["moto"], indirect=True)
async def test_equal_content_is_stored_once(server, bucket_name, witness):
    storage, data = ours(server, bucket_name), content(2 * PART + 1)
    pointer = await storage.write_data_stream(*streamed(data), {})
    written = witness.head_object(Bucket=bucket_name, Key=pointer["key"])["ETag"]
    assert await storage.write_data_stream(*streamed(data, 64_000), {}) == pointer
    assert await storage.write_data(data, digest_of(data), {}) == pointer
    # Written anew as a value, it would have an ETag of other parts.
    assert witness.head_object(Bucket=bucket_name, Key=pointer["key"])["ETag"] == written


@pytest.mark.parametrize("fail_at", [0, PART - 1, 2 * PART + 1])
async def test_a_stream_that_raises_leaves_nothing(fail_at, server, bucket_name, witness):
    stream, get_digest = streamed(content(3 * PART), fail_at=fail_at)
    with pytest.raises(KeyError, match="mine"):
        await ours(server, bucket_name).write_data_stream(stream, get_digest, {})
    assert keys_in(witness, bucket_name) == []


def _through(fault_server, server):
    class Through:
        endpoint = fault_server.endpoint
        region = server.region
        access_key_id = server.access_key_id
        secret_access_key = server.secret_access_key

    return Through


@pytest.mark.parametrize("server", ["moto"], indirect=True)
@pytest.mark.parametrize("step", ["uploads=", "partNumber=2", "uploadId="])
async def test_a_cancelled_stream_leaves_nothing(step, server, bucket_name, witness, fault_server):
    reached, loop = asyncio.Event(), asyncio.get_running_loop()

    def script(request):
        if step in request.target and not reached.is_set():
            loop.call_soon_threadsafe(reached.set)
        return forward(server.endpoint)

    fault_server.play(script)
    storage = ours(_through(fault_server, server), bucket_name)
    writing = asyncio.ensure_future(storage.write_data_stream(*streamed(content(3 * PART)), {}))
    await reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert keys_in(witness, bucket_name) == []


@pytest.mark.parametrize("server", ["moto"], indirect=True)
async def test_a_refused_part_leaves_nothing(server, bucket_name, witness, fault_server):
    def script(request):
        refused = "partNumber=2" in request.target
        return s3_error(403, "AccessDenied") if refused else forward(server.endpoint)

    fault_server.play(script)
    storage = ours(_through(fault_server, server), bucket_name)
    with pytest.raises(errors.Forbidden):
        await storage.write_data_stream(*streamed(content(3 * PART)), {})
    assert keys_in(witness, bucket_name) == []


async def test_leaving_a_read_early_closes_it_cleanly(server, bucket_name):
    storage, data = ours(server, bucket_name), content(23 * MIB)
    pointer = await storage.write_data(data, digest_of(data), {})
    async with aclosing(storage.read_data_stream(pointer)) as stream:
        async for chunk in stream:
            assert chunk == data[: len(chunk)]
            assert len(chunk) <= 5 * MIB
            break
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_damaged_content_is_withheld(server, bucket_name, witness):
    storage, data = ours(server, bucket_name), content(12 * MIB)
    pointer = await storage.write_data(data, digest_of(data), {})
    damaged = data[:100] + b"!" + data[101:]
    witness.put_object(Bucket=bucket_name, Key=pointer["key"], Body=damaged)
    with pytest.raises(errors.Corrupt):
        await storage.read_data(pointer)
    got = []

    async def collect():
        async for chunk in storage.read_data_stream(pointer):
            got.append(chunk)

    with pytest.raises(errors.Corrupt, match="withheld"):
        await collect()
    assert len(b"".join(got)) < len(data)


@pytest.mark.parametrize("server", ["moto"], indirect=True)
@pytest.mark.parametrize("most", [1, 2, None])
async def test_writers_and_readers_are_limited(most, server, bucket_name, monkeypatch):
    under_way, seen = 0, 0

    def counted(original):
        async def call(*args, **kwargs):
            nonlocal under_way, seen
            under_way += 1
            seen = max(seen, under_way)
            try:
                return await original(*args, **kwargs)
            finally:
                under_way -= 1

        return call

    monkeypatch.setattr(S3Upload, "send_part", counted(S3Upload.send_part))
    storage = ours(server, bucket_name, max_writers=most, max_readers=most)
    data = content(4 * PART)
    pointer = await storage.write_data_stream(*streamed(data), {})
    assert seen == most if most else seen > 2
    seen = 0
    monkeypatch.setattr(S3Objects, "get_into", counted(S3Objects.get_into))
    monkeypatch.setattr(S3Objects, "get", counted(S3Objects.get))
    assert await gathered(storage.read_data_stream(pointer)) == data
    assert seen == most if most else seen > 2


def test_two_storages_are_equal_only_if_they_are_one(rclone):
    one, other = ours(rclone, "bucket-one"), ours(rclone, "bucket-two")
    assert one == one
    assert one != other
    assert len({one, other}) == 2

"""Streams: every size from every kind of source, on every store and both runtimes."""

import asyncio
import io
import threading
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import pytest

import coatcheck
from coatcheck import blocking, errors
from coatcheck.objects.memory import MemoryObjects
from coatcheck.payloads.claim import Claim
from coatcheck.payloads.store import PayloadStore
from coatcheck.testing import forward, reply
from coatcheck.types import Digest
from tests.payloads.support import MIB, PART, keys_of, open_payloads, payload, stored
from tests.s3.support import all_of, both_faces

SIZES = [0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1, 23 * MIB]
CHUNK = 700_001


@pytest.fixture(scope="module")
def payloads():
    return {size: payload(size) for size in SIZES}


@pytest.fixture(params=["memory", "local", "rclone", "moto"])
def place(request, memory, tmp_path):
    """A URL, its arguments, and what lists the keys there behind the store's back."""
    if request.param == "memory":
        yield f"memory://{memory}", {}, lambda: sorted(stored(memory))
    elif request.param == "local":
        root = tmp_path / "root"

        def files():
            found = (path for path in root.rglob("*") if path.is_file())
            return sorted(str(path.relative_to(root)) for path in found if "lock-" not in path.name)

        yield f"file://{root}", {}, files
    else:
        server = request.getfixturevalue(request.param)
        bucket = f"streams-{memory}"[:40]
        server.create_bucket(bucket)
        witness = server.witness()

        def keys():
            with suppress(witness.exceptions.NoSuchUpload):  # rclone's way to say: none
                assert not witness.list_multipart_uploads(Bucket=bucket).get("Uploads")
            found = witness.list_objects_v2(Bucket=bucket).get("Contents", [])
            return sorted(item["Key"] for item in found)

        yield server.url(bucket), keys_of(server), keys
        witness.close()


def chunks(data, size=CHUNK):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def awaited(data, size=CHUNK):
    for chunk in chunks(data, size):
        await asyncio.sleep(0)
        yield chunk


class AwaitedFile:
    def __init__(self, data):
        self._file = io.BytesIO(data)

    async def read(self, size):
        await asyncio.sleep(0)
        return self._file.read(min(size, CHUNK))


@both_faces
def test_every_size_comes_back_by_stream_by_reader_and_whole(face, place, payloads):
    url, arguments, keys = place
    store = open_payloads(face, url, arguments)
    expected = set()
    for size, data in payloads.items():
        claim = face.run(store.put_stream(chunks(data), size_bytes=size))
        assert (claim.digest, claim.size_bytes) == (Digest.of(data), size)
        assert (claim.parts is None) == (size <= PART)
        assert b"".join(face.run(all_of(store.stream(claim)))) == data
        assert b"".join(face.run(all_of(store.stream(str(claim))))) == data
        assert face.run(store.get(claim)) == data
        assert face.run(_read_about(store, claim, data))
        expected.add(f"v1/sha256/{claim.digest.hex[:2]}/{claim.digest.hex}")
        if claim.parts is not None:
            expected.add(f"v1/parts/{claim.parts.hex[:2]}/{claim.parts.hex}")
    assert set(keys()) == expected


async def _read_about(store, claim, data):
    size = len(data)
    async with store.open(claim) as reader:
        assert reader.size_bytes == size
        assert await reader.read() == data
        assert await reader.tell() == size
        for start in (0, PART - 3, size // 2, max(0, size - 5), size, size + 7):
            assert await reader.seek(start) == start
            assert await reader.read(11) == data[start : start + 11]
        assert await reader.seek(-min(9, size), io.SEEK_END) == size - min(9, size)
        assert await reader.seek(0, io.SEEK_CUR) == size - min(9, size)
        target = bytearray(20)
        assert await reader.readinto(target) == min(9, size)
        assert target[: min(9, size)] == data[size - min(9, size) :]
        with pytest.raises(ValueError, match="no position"):
            await reader.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            await reader.seek(0, 3)
    with pytest.raises(ValueError, match="not open"):
        await reader.read(1)
    return True


SOURCES: dict[str, Callable[[bytes], Any]] = {
    "a generator": chunks,
    "one byte at a time to begin with": lambda data: [data[:1], data[1:2], b"", data[2:]],
    "an async generator": awaited,
    "a list": lambda data: list(chunks(data)),
    "a file": io.BytesIO,
    "a file that reads less than it could": lambda data: _Stingy(data),
    "an async file": AwaitedFile,
    "bytes": lambda data: data,
    "a bytearray": bytearray,
    "memoryviews": lambda data: [memoryview(data)[:9], memoryview(data)[9:]],
}


class _Stingy(io.BytesIO):
    def read(self, size=-1):
        return super().read(min(size, 65536))


@pytest.mark.parametrize("size", [0, 3, PART, 2 * PART + 1])
@pytest.mark.parametrize("kind", SOURCES)
async def test_every_kind_of_source_will_do(kind, size, memory):
    data = payload(size)
    store = coatcheck.open_store(f"memory://{memory}", part_size_bytes=PART)
    claim = await store.put_stream(SOURCES[kind](data))
    assert await store.get(claim) == data


def test_the_blocking_face_streams_from_and_to_ordinary_code(place, payloads):
    url, arguments, _ = place
    store = blocking.open_store(url, part_size_bytes=PART, **arguments)
    data = payloads[23 * MIB]
    claim = store.put_stream(io.BytesIO(data))
    assert b"".join(store.stream(claim)) == data
    for part in store.stream(claim):
        assert part == data[: len(part)]
        break
    with store.open(claim) as file:
        assert file.size_bytes == len(data)
        file.seek(PART - 1)
        assert file.read(10) == data[PART - 1 : PART + 9]
        assert file.peek(1)[:1] == data[PART + 9 : PART + 10]
        file.seek(0)
        assert file.read() == data
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


async def test_a_buffer_that_the_source_fills_again_is_copied(memory):
    def refilled():
        buffer = bytearray(MIB)
        for letter in b"abcdefg":
            buffer[:] = bytes([letter]) * MIB
            yield buffer

    store = coatcheck.open_store(f"memory://{memory}", part_size_bytes=PART)
    claim = await store.put_stream(refilled())
    assert await store.get(claim) == b"".join(bytes([letter]) * MIB for letter in b"abcdefg")


@pytest.mark.parametrize("said", [-1, 0, 4, 6])
@pytest.mark.parametrize("size", [5, 2 * PART + 5])
async def test_a_source_that_lies_about_its_size_leaves_nothing(size, said, place):
    url, arguments, keys = place
    store = coatcheck.open_store(url, part_size_bytes=PART, **arguments)
    size_bytes = said if said < 1 else size + said - 5
    with pytest.raises(errors.ConfigError, match="size_bytes"):
        await store.put_stream(chunks(payload(size)), size_bytes=size_bytes)
    assert keys() == []


@pytest.mark.parametrize("after", [0, PART - 1, 2 * PART + 1])
@both_faces
def test_a_source_that_raises_is_closed_and_leaves_nothing(face, after, place):
    url, arguments, keys = place
    store = open_payloads(face, url, arguments)
    closed = []

    def broken():
        try:
            yield from chunks(payload(after))
            raise KeyError("mine")
        finally:
            closed.append(True)

    with pytest.raises(KeyError, match="mine"):
        face.run(store.put_stream(broken()))
    assert closed == [True]
    assert keys() == []


@pytest.mark.parametrize("source", [["text"], [1], [None], "text", 5, io.StringIO("text"), None])
async def test_what_gives_no_bytes_is_refused(source, memory):
    store = coatcheck.open_store(f"memory://{memory}")
    with pytest.raises(TypeError):
        await store.put_stream(source)
    assert stored(memory) == {}


async def test_the_source_is_closed_when_the_server_fails(fault_server):
    fault_server.play(lambda request: reply(403))
    store = coatcheck.open_store(
        f"s3://bucket?endpoint={fault_server.endpoint}&region=us-east-1",
        access_key_id="a",
        secret_access_key="b",
    )
    source = awaited(payload(20 * MIB))
    with pytest.raises(errors.Forbidden):
        await store.put_stream(source)
    assert source.ag_frame is None
    # What was never begun is not aborted either.
    assert {request.method for request in fault_server.requests} == {"POST"}


async def test_the_same_stream_again_is_not_copied_again(moto):
    moto.create_bucket("streams-twice")
    data = payload(2 * PART + 1)
    server = coatcheck.open_store(moto.url("streams-twice"), part_size_bytes=PART, **keys_of(moto))
    first = await server.put_stream(chunks(data))
    written = (await server.stat(first)).last_modified
    assert await server.put_stream(chunks(data, 13_000)) == first
    assert (await server.stat(first)).last_modified == written
    assert await server.put(data) == Claim(first.digest, first.size_bytes)


async def _collect(parts, got):
    async for part in parts:
        got.append(part)


async def test_a_claim_of_a_put_streams_too_and_its_end_is_withheld_until_all_matches(memory):
    objects = MemoryObjects(memory, coatcheck.open_objects("memory://x").runtime)
    store = PayloadStore(objects, part_size_bytes=PART)
    data = payload(3 * PART + 5)
    claim = await store.put(data)
    assert claim.parts is None
    assert b"".join(await all_of(store.stream(claim))) == data
    key = next(iter(stored(memory)))
    await objects.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    got: list[bytes] = []
    with pytest.raises(errors.Corrupt, match="withheld"):
        await _collect(store.stream(claim), got)
    assert b"".join(got) == data[: 3 * PART]
    with pytest.raises(errors.Corrupt):
        await store.open(claim).__aenter__()


@pytest.mark.parametrize("damage", ["a bit", "shorter", "longer", "gone"])
async def test_a_damaged_object_gives_no_wrong_byte(damage, memory):
    objects = coatcheck.open_objects(f"memory://{memory}")
    store = PayloadStore(objects, part_size_bytes=PART)
    data = payload(4 * PART + 1)
    claim = await store.put_stream(chunks(data))
    key = f"v1/sha256/{claim.digest.hex[:2]}/{claim.digest.hex}"
    place = 2 * PART + 77
    flipped = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
    body = {"a bit": flipped, "shorter": data[:-1], "longer": data + b"x"}.get(damage)
    if body is None:
        await objects.delete(key)
    else:
        await objects.put(key, body)
    got: list[bytes] = []
    expected = errors.NotFound if damage == "gone" else errors.Corrupt
    with pytest.raises(expected):
        await _collect(store.stream(claim), got)
    assert b"".join(got) == data[: len(b"".join(got))]
    assert len(b"".join(got)) == (2 * PART if damage == "a bit" else 0)
    async with store.open(claim) as reader:
        await reader.seek(place - 1)
        with pytest.raises(expected):
            await reader.read(3)


async def test_damaged_part_digests_are_no_excuse(memory):
    objects = coatcheck.open_objects(f"memory://{memory}")
    store = PayloadStore(objects, part_size_bytes=PART)
    claim = await store.put_stream(chunks(payload(2 * PART)))
    assert claim.parts is not None
    key = f"v1/parts/{claim.parts.hex[:2]}/{claim.parts.hex}"
    page = stored(memory)[key]
    await objects.put(key, page[:-1] + bytes([page[-1] ^ 1]))
    with pytest.raises(errors.Corrupt):
        await all_of(store.stream(claim))
    other = Claim(claim.digest, claim.size_bytes + 1, claim.store, claim.parts)
    await objects.put(key, page)
    with pytest.raises(errors.Corrupt, match="part digests are of"):
        await all_of(store.stream(other))


async def test_streams_are_not_bounded_by_what_fits_in_memory(memory):
    store = coatcheck.open_store(f"memory://{memory}", part_size_bytes=PART, max_payload_bytes=PART)
    data = payload(2 * PART + 1)
    claim = await store.put_stream(chunks(data))
    assert b"".join(await all_of(store.stream(claim))) == data
    assert await store.exists(claim)
    with pytest.raises(errors.TooLarge, match="stream or open"):
        await store.get(claim)
    with pytest.raises(errors.TooLarge):
        await store.get_many([claim])


async def test_delete_takes_the_part_digests_along(memory):
    store = coatcheck.open_store(f"memory://{memory}", part_size_bytes=PART)
    claim = await store.put_stream(chunks(payload(2 * PART)))
    assert len(stored(memory)) == 2
    await store.delete(claim)
    assert stored(memory) == {}


async def test_a_claim_of_another_store_is_refused_before_any_request(memory):
    store = coatcheck.open_store(f"memory://{memory}")
    claim = Claim(Digest.of(b"x"), 1, "other")
    with pytest.raises(errors.ClaimRejected):
        await all_of(store.stream(claim))
    with pytest.raises(errors.ClaimRejected):
        store.open(claim)


def _s3(server, bucket="bucket", **settings):
    return coatcheck.open_store(
        f"s3://{bucket}?endpoint={server.endpoint}&region=us-east-1",
        part_size_bytes=PART,
        access_key_id="coatcheck-test",
        secret_access_key="coatcheck-test-secret",
        **settings,
    )


async def test_a_reply_cut_in_the_middle_costs_one_part_again(fault_server, moto):
    moto.create_bucket("streams-cut")
    data = payload(4 * PART)
    claim = await _s3(moto, "streams-cut").put_stream(chunks(data))
    cut: list[bool] = []

    def script(request):
        if f"bytes={2 * PART}-" in request.headers.get("range", "") and not cut:
            cut.append(True)
            return forward(moto.endpoint).reset(after_body_bytes=PART // 2)
        return forward(moto.endpoint)

    fault_server.play(script)
    assert b"".join(await all_of(_s3(fault_server, "streams-cut").stream(claim))) == data
    ranges = [request.headers["range"] for request in fault_server.requests[1:]]
    assert len(ranges) == 5
    assert len(set(ranges)) == 4


async def test_a_part_damaged_on_its_way_is_fetched_once_more(fault_server, moto):
    moto.create_bucket("streams-flip")
    data = payload(3 * PART)
    claim = await _s3(moto, "streams-flip").put_stream(chunks(data))
    flipped: list[bool] = []

    def script(request):
        if f"bytes={PART}-" in request.headers.get("range", "") and not flipped:
            flipped.append(True)
            return forward(moto.endpoint).with_flipped_bit(12345)
        return forward(moto.endpoint)

    fault_server.play(script)
    assert b"".join(await all_of(_s3(fault_server, "streams-flip").stream(claim))) == data
    assert flipped


async def test_leaving_a_stream_early_ends_what_is_under_way(fault_server, moto):
    moto.create_bucket("streams-left")
    data = payload(6 * PART)
    claim = await _s3(moto, "streams-left").put_stream(chunks(data))

    def script(request):
        first = f"bytes=0-{PART - 1}" == request.headers.get("range")
        ranged = "range" in request.headers and "/sha256/" in request.target
        return forward(moto.endpoint).stalled() if ranged and not first else forward(moto.endpoint)

    fault_server.play(script)
    async with aclosing(_s3(fault_server, "streams-left").stream(claim)) as parts:
        async for part in parts:
            assert part == data[:PART]
            break
    # What was fetched ahead has ended too, and given its bytes back to the budget.
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_a_slow_consumer_is_waited_for_and_holds_back_the_rest(memory):
    from tests.payloads.support import Watched

    objects = Watched(MemoryObjects(memory, coatcheck.open_objects("memory://x").runtime))
    inner = PayloadStore(objects.inner, part_size_bytes=PART)
    claim = await inner.put_stream(chunks(payload(12 * PART)))
    store = PayloadStore(objects, part_size_bytes=PART)
    given = 0
    async for _ in store.stream(claim):
        given += 1
        await asyncio.sleep(0.01)
        fetched = sum(name in ("get", "get_into") for name in objects.calls) - 1  # the digests
        assert fetched <= given + 3
    assert given == 12


async def test_reading_files_does_not_hold_up_the_event_loop(memory):
    turns = []

    class Slow(io.BytesIO):
        def read(self, size=-1):
            assert threading.current_thread() is not threading.main_thread()
            passed.wait(10)
            return super().read(size)

    passed = threading.Event()

    async def others():
        while not passed.is_set():
            turns.append(True)
            await asyncio.sleep(0)
            if len(turns) > 50:
                passed.set()

    store = coatcheck.open_store(f"memory://{memory}", part_size_bytes=PART)
    await asyncio.gather(store.put_stream(Slow(payload(PART + 1))), others())
    assert len(turns) > 50


async def test_an_ordinary_generator_lets_others_have_their_turn(memory):
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def slow():
        for _ in range(20):
            threading.Event().wait(0.006)
            yield b"x"

    other = asyncio.create_task(others())
    await coatcheck.open_store(f"memory://{memory}").put_stream(slow())
    other.cancel()
    assert turns >= 15

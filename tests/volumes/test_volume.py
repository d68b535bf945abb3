"""What volumes do beyond the contract: limits, thousands, failures, and nothing left behind."""

import asyncio
import gc
import io
import pickle
import tempfile
import threading
from uuid import uuid4

import pytest

import coatcheck
from coatcheck import blocking
from coatcheck.errors import ConfigError, Conflict, NotFound, Unavailable
from coatcheck.objects.memory import MemoryObjects
from coatcheck.opening import ASYNC
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.runtime.budget import PROCESS_BUDGET
from coatcheck.testing import FaultServer, forward, s3_error
from coatcheck.types import DeleteFailure, ObjectInfo
from coatcheck.volumes.deleting import NotAllDeleted
from coatcheck.volumes.file import VolumeFile
from coatcheck.volumes.parts import MAX_PARTS, MIB, PART_BYTES, part_size
from coatcheck.volumes.paths import check_path
from coatcheck.volumes.sameness import have_same_bytes
from coatcheck.volumes.volume import Volume
from tests.volumes.support import S3Witness, in_memory, volume_on

TIB = 1024**4


@pytest.fixture(autouse=True)
def _budget_is_given_back():
    free_bytes = PROCESS_BUDGET.free_bytes
    yield
    assert PROCESS_BUDGET.free_bytes == free_bytes


@pytest.fixture
def memory():
    with in_memory(ASYNCIO) as (volume, _):
        yield volume


@pytest.fixture
def on_server(s3_server, bucket):
    return volume_on(s3_server, bucket, ASYNC)


@pytest.fixture
def witness(s3_server, bucket):
    witness = S3Witness(s3_server, bucket)
    yield witness
    witness.client.close()


@pytest.mark.parametrize("url", ["s3://a-bucket", "memory://all", "file:///"])
def test_a_whole_place_is_erased_only_when_that_is_confirmed(url):
    with pytest.raises(ConfigError, match="confirm=True"):
        blocking.open_volume(url).erase()


@pytest.mark.parametrize("url", ["s3://a-bucket", "s3://a-bucket/b", "memory://all", "file:///x/y"])
def test_a_volume_opens_by_url_without_any_io(url):
    volume = coatcheck.open_volume(url)
    assert volume.location == url
    assert volume.folder("f").location == f"{url}/f"


@pytest.mark.parametrize(
    "path", ["a", "a b/c d", "\u65e5\u672c/\U0001f9e5", "...", "..a/.b", "a\\b"]
)
def test_a_path_that_names_one_thing_is_taken_as_it_is(path):
    assert check_path(path) == path


@pytest.mark.parametrize("size_bytes", [0, PART_BYTES * MAX_PARTS, 5 * TIB, 50 * TIB])
def test_parts_of_a_known_size_are_few_enough(size_bytes):
    part_bytes = part_size(1, size_bytes)
    assert part_bytes % MIB == 0
    assert part_bytes * MAX_PARTS >= size_bytes
    assert part_size(MAX_PARTS, size_bytes) == part_bytes


def test_parts_of_an_unknown_size_grow_to_hold_the_largest_object():
    sizes = [part_size(number, None) for number in range(1, MAX_PARTS + 1)]
    assert sizes[:1000] == [PART_BYTES] * 1000
    assert sizes[1000] == 2 * PART_BYTES
    assert sizes == sorted(sizes)
    assert sum(sizes) > 5 * TIB
    assert sizes[-1] < 5 * 1024**3


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
async def test_a_large_store_that_fails_or_is_cancelled_leaves_no_upload(on_server, witness):
    async def failing():
        yield b"x" * (2 * PART_BYTES)
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        await on_server.store("f", failing())
    assert witness.uploads() == []

    reached, never = asyncio.Event(), asyncio.Event()

    async def endless():
        yield b"x" * (2 * PART_BYTES)
        reached.set()
        await never.wait()

    storing = asyncio.create_task(on_server.store("f", endless()))
    await reached.wait()
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    assert witness.uploads() == []
    assert witness.all_keys() == set()


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
async def test_markers_of_folders_are_no_files_but_are_deleted_with_them(on_server, witness):
    for key in ("d/", "d/e/", "d/f"):
        witness.write(key, b"")
    witness.write("d/odd/", b"not empty")
    assert [path async for path, _ in on_server.walk("d")] == ["d/f", "d/odd/"]
    assert await on_server.delete("d") == 4
    assert witness.all_keys() == set()


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
async def test_a_hostile_key_is_not_copied_where_it_would_lead_elsewhere(
    on_server, witness, tmp_path
):
    witness.write("d/../../escaped", b"evil")
    with pytest.raises(ConfigError, match=r"'\.\.'"):
        await on_server.copy_to(coatcheck.open_volume(f"file://{tmp_path}/root"), "d")
    assert not list(tmp_path.rglob("escaped"))


async def test_five_thousand_files_are_walked_copied_and_erased(s3_server, bucket, on_server):
    paths = [f"run/{number % 7}/{number:05}" for number in range(5000)]
    source = coatcheck.open_volume(f"memory://{uuid4().hex}")
    for path in paths:
        await source.store(path, path.encode())
    up = await source.copy_to(on_server, "run")
    assert (up.files, up.size_bytes) == (5000, sum(len(path) for path in paths))
    assert [path async for path, _ in on_server.walk("run")] == sorted(paths)
    copied = await on_server.copy_to(on_server, "run", to="again")
    assert copied.files == 5000
    again = await source.copy_to(on_server, "run", to="again", skip_same=True)
    assert (again.files, again.files_already_there) == (0, 5000)
    assert await on_server.load("again/0/00007").read() == b"run/0/00007"
    assert await on_server.delete("run") == 5000
    assert await on_server.erase(confirm=True) == 5000
    await source.erase(confirm=True)


class Reluctant(MemoryObjects):
    """A store that does not let go of some objects."""

    async def delete_many(self, keys):
        kept = [key for key in keys if key.endswith("kept")]
        await super().delete_many([key for key in keys if key not in kept])
        return [DeleteFailure(key, "AccessDenied", "not yours") for key in kept]


async def test_what_could_not_be_deleted_is_reported_file_by_file():
    objects = Reluctant(uuid4().hex, ASYNCIO)
    volume = Volume(objects)
    for path in ("d/1", "d/kept", "d/e/kept", "d/2"):
        await volume.store(path, b"")
    with pytest.raises(NotAllDeleted) as refused:
        await volume.delete("d")
    again = pickle.loads(pickle.dumps(refused.value))
    for error in (refused.value, again):
        assert [failure.key for failure in error.failures] == ["d/e/kept", "d/kept"]
        assert error.deleted == 2
        assert "d/kept: AccessDenied not yours" in str(error)
    assert [path async for path, _ in volume.walk()] == ["d/e/kept", "d/kept"]
    await MemoryObjects.delete_many(objects, ["d/kept", "d/e/kept"])


def test_a_size_is_one_head_and_a_walked_one_none(s3_server, bucket):
    with FaultServer() as server:
        server.play(forward(s3_server.endpoint))
        volume = blocking.open_volume(
            f"s3://{bucket}",
            endpoint_url=server.endpoint,
            region=s3_server.region,
            access_key_id=s3_server.access_key_id,
            secret_access_key=s3_server.secret_access_key,
        )
        volume.store("d/f", b"12345")
        before = len(server.requests)
        assert volume.load("d/f").size() == 5
        assert [request.method for request in server.requests[before:]] == ["HEAD"]
        before = len(server.requests)
        assert [file.size() for _, file in volume.walk()] == [5]
        assert [request.method for request in server.requests[before:]] == ["GET"]


async def test_a_file_that_is_replaced_while_it_is_read_is_a_conflict(memory):
    await memory.store("f", b"1" * (PART_BYTES + 1))
    stream = memory.load("f").stream()
    await anext(stream)
    await memory.store("f", b"2" * (PART_BYTES + 1))
    with pytest.raises(Conflict):
        await anext(stream)


async def test_a_copy_tells_of_each_file_and_its_first_failure_ends_it(memory):
    for number in range(40):
        await memory.store(f"in/{number:02}", b"x")
    told: list[coatcheck.CopiedFile] = []
    await memory.copy_to(memory, "in", to="out", notice=told.append)
    assert sorted(copied.path for copied in told) == [f"out/{number:02}" for number in range(40)]

    def refuse(copied):
        raise RuntimeError(f"no more after {copied.path}")

    with pytest.raises(RuntimeError, match="no more"):
        await memory.copy_to(memory, "in", to="third", notice=refuse)


def test_a_failing_server_fails_a_walk_and_a_copy(bucket):
    with FaultServer() as server:
        server.play(s3_error(503, "SlowDown"))
        volume = blocking.open_volume(
            f"s3://{bucket}/x",
            endpoint_url=server.endpoint,
            access_key_id="k",
            secret_access_key="s",
            max_attempts=1,
        )
        with pytest.raises((Unavailable, coatcheck.Throttled)):
            list(volume.walk())
        with pytest.raises((Unavailable, coatcheck.Throttled)):
            volume.copy_to(blocking.open_volume("memory://never"), "d")


def info(etag, size_bytes=4):
    return ObjectInfo("f", size_bytes, etag)


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ('"a-b-c"', '"d-e-f"', True),  # neither is of content: both are read
        ('"098f6bcd4621d373cade4e832627b4f6"', '"d-e-f"', True),  # the MD5 of "test"
        ('"d-e-f"', "098f6bcd4621d373cade4e832627b4f6", True),
        ('"0cc175b9c0f1b6a831c399e269772661"', '"d-e-f"', False),
        ('"0cc175b9c0f1b6a831c399e269772661"', '"0cc175b9c0f1b6a831c399e269772661"', True),
        ('"0cc175b9c0f1b6a831c399e269772661"', '"098f6bcd4621d373cade4e832627b4f6"', False),
    ],
)
async def test_files_are_the_same_only_where_that_is_proven(memory, ours, theirs, same):
    await memory.store("f", b"test")
    one, other = (VolumeFile(memory._objects, "f", "f", info(etag)) for etag in (ours, theirs))
    assert await have_same_bytes(one, other, ASYNCIO) is same


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
async def test_a_large_copy_from_disk_is_known_by_the_etag_of_its_parts(on_server, memory):
    body = bytes(range(256)) * (PART_BYTES // 128) + b"."
    await memory.store("f", body)
    await memory.copy_to(on_server, "f")
    assert (await on_server.load("f").info()).etag.endswith('-3"')
    assert (await memory.copy_to(on_server, "f", skip_same=True)).files == 0
    await memory.store("f", b"," + body[1:])
    assert (await memory.copy_to(on_server, "f", skip_same=True)).files == 1


async def test_a_file_is_read_from_disk_in_fixed_memory(memory):
    class Counting(io.BytesIO):
        most = 0

        def read(self, size=-1):
            assert 0 <= size <= PART_BYTES
            return super().read(size)

    source = Counting(b"x" * (3 * PART_BYTES))
    await memory.store("f", source)
    assert source.tell() == 0


async def test_files_of_other_makers_are_sources_too(memory):
    with tempfile.NamedTemporaryFile() as wrapped:
        wrapped.write(b"header body")
        wrapped.seek(7)
        for path in ("1", "2"):
            await memory.store(path, wrapped)
            assert wrapped.tell() == 7
            assert await memory.load(path).read() == b"body"

    class Awaited:
        """As asynchronous libraries have them."""

        closed = False

        def __init__(self):
            self._file = io.BytesIO(b"body")

        async def seekable(self):
            return True

        async def tell(self):
            return self._file.tell()

        async def seek(self, offset, whence=0):
            return self._file.seek(offset, whence)

        async def read(self, size=-1):
            return self._file.read(size)

    await memory.store("3", Awaited())
    assert await memory.load("3").read() == b"body"


def test_a_walk_can_be_left_early_without_await():
    volume = blocking.open_volume(f"memory://{uuid4().hex}")
    for number in range(5):
        volume.store(f"{number}", b"")
    for path, _ in volume.walk():
        assert path == "0"
        break
    gc.collect()
    assert volume.erase(confirm=True) == 5


def test_threads_share_a_volume():
    volume = blocking.open_volume(f"memory://{uuid4().hex}")
    threads = [
        threading.Thread(target=volume.store, args=(f"{number}", b"x" * number))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [file.size() for _, file in volume.walk()] == list(range(8))
    assert volume.erase(confirm=True) == 8


async def test_nothing_to_copy_is_not_found_but_an_empty_volume_is(memory):
    with pytest.raises(NotFound, match="gone"):
        await memory.copy_to(memory, "gone", to="x")
    summary = await memory.copy_to(coatcheck.open_volume(f"memory://{uuid4().hex}"))
    assert (summary.files, summary.size_bytes) == (0, 0)

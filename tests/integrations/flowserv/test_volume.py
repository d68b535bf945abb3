"""The drop-in keeps flowserv's contract, and mends what its own S3 volume breaks."""

import logging
import multiprocessing
import pickle
from io import BytesIO

import pytest

pytest.importorskip("flowserv", reason="needs flowserv-core")

import flowserv.volume.s3 as theirs
from flowserv.error import UnknownFileError
from flowserv.volume import factory
from flowserv.volume.fs import FileSystemStorage, FSFile
from flowserv.volume.manager import DEFAULT_STORE, VolumeManager

import coatcheck.integrations.flowserv as ours
from coatcheck.errors import BucketNotFound, CoatcheckError, Forbidden
from coatcheck.integrations.flowserv import S3_STORE, S3Bucket, S3File, S3Volume, install
from coatcheck.testing import FaultServer, s3_error


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(factory, "S3Volume", factory.S3Volume)  # put back afterwards
    install()


def paths(volume, src=None):
    return [path for path, _ in volume.walk(src)]


def test_it_has_every_public_name_of_flowservs_module():
    assert {"S3Volume", "S3File", "S3Bucket", "S3_STORE"} <= set(dir(theirs))
    assert {"S3Volume", "S3File", "S3Bucket", "S3_STORE"} <= set(ours.__all__)
    public = {name for name in vars(theirs.S3Volume) if not name.startswith("_")}
    assert public <= set(dir(S3Volume))
    assert S3_STORE == theirs.S3_STORE


def test_files_are_stored_loaded_and_sized(volume, buffer):
    volume.store(buffer(b"hello"), "code/a.txt")
    file = volume.load("code/a.txt")
    assert file.open().read() == b"hello"
    assert file.size() == 5
    assert isinstance(file.open(), BytesIO)


def test_each_reads_what_the_other_stored(volume, official, buffer):
    volume.store(buffer(b"ours"), "runs/1/ours.txt")
    official.store(buffer(b"theirs"), "runs/1/theirs.txt")
    assert official.load("runs/1/ours.txt").open().read() == b"ours"
    assert volume.load("runs/1/theirs.txt").open().read() == b"theirs"
    assert volume.query("runs/") == official.query("runs/")
    assert set(paths(volume, "runs")) == {key for key, _ in official.walk("runs")}
    folder = theirs.S3Volume.from_dict(volume.get_store_for_folder("runs/1").to_dict())
    assert folder.load("ours.txt").open().read() == b"ours"
    folder = S3Volume.from_dict(official.get_store_for_folder("runs/1").to_dict())
    assert folder.load("theirs.txt").open().read() == b"theirs"


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_odd_keys_of_old_runs_are_read_and_deleted(volume, witness):
    # A copy into a folder of flowserv's own volume wrote such keys.
    witness.write("out//dir/f.txt", b"1")
    assert paths(volume, "out") == ["out//dir/f.txt"]
    assert volume.load("out//dir/f.txt").open().read() == b"1"
    assert volume.delete("out") == 1


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_a_prefix_with_a_slash_makes_the_keys_that_flowserv_makes(reached, bucket, witness, buffer):
    ours_, theirs_ = S3Volume(bucket, "runs/"), theirs.S3Volume(bucket, "runs/")
    ours_.store(buffer(b"1"), "a")
    theirs_.store(buffer(b"2"), "b")
    assert witness.all_keys() == {"runs//a", "runs//b"}
    assert theirs_.load("a").open().read() == b"1"
    assert ours_.load("b").open().read() == b"2"
    assert paths(ours_) == ["a", "b"]


def test_a_missing_file_is_unknown_and_nothing_else_is(reached, volume, bucket):
    with pytest.raises(UnknownFileError):
        volume.load("gone").open()
    with pytest.raises(UnknownFileError):
        volume.load("gone").size()
    with pytest.raises(BucketNotFound):
        S3Volume("no-such-bucket").load("f").open()
    with FaultServer() as server:
        server.play(s3_error(403, "AccessDenied"))
        denied = S3Volume(bucket, endpoint=server.endpoint)
        with pytest.raises(Forbidden):
            denied.load("f").open()


def test_a_walk_gives_one_entry_for_a_file_and_keeps_to_its_folder(volume, buffer):
    for path in ("data/1", "data/2/x", "database/3", "datum"):
        volume.store(buffer(b""), path)
    assert paths(volume) == ["data/1", "data/2/x", "database/3", "datum"]
    assert paths(volume, "data") == paths(volume, "data/") == ["data/1", "data/2/x"]
    assert paths(volume, "data/1") == ["data/1"]
    assert paths(volume, "gone") == []


def test_a_walk_of_a_folder_volume_gives_keys_that_load_takes(volume, buffer):
    volume.store(buffer(b"1"), "data/a/f")
    volume.store(buffer(b"2"), "database/g")
    folder = volume.get_store_for_folder("data")
    assert [(path, file.open().read()) for path, file in folder.walk("")] == [("a/f", b"1")]
    assert folder.load("a/f").open().read() == b"1"


def test_a_delete_takes_no_sibling_and_says_how_many(volume, buffer, witness):
    for path in ("a", "ab", "b/x", "bc"):
        volume.store(buffer(b""), path)
    assert volume.delete("a") == 1
    assert volume.delete("b") == 1
    assert volume.delete("gone") == 0
    assert witness.all_keys() == {"ab", "bc"}


def test_an_erase_keeps_to_its_folder_and_empties_a_bucket(volume, buffer, witness):
    for path in ("data/1", "database/2", "x"):
        volume.store(buffer(b""), path)
    volume.get_store_for_folder("data").erase()
    assert witness.all_keys() == {"database/2", "x"}
    volume.erase()
    volume.erase()
    assert witness.all_keys() == set()


def test_a_buffer_can_be_stored_twice(volume, buffer, witness):
    shared = buffer(b"again")
    volume.store(shared, "1")
    volume.store(shared, "2")
    assert witness.read("1") == witness.read("2") == b"again"
    assert not shared.buf.closed


def test_a_file_on_disk_goes_up_without_being_read_whole(volume, tmp_path, witness, monkeypatch):
    (tmp_path / "f").write_bytes(b"on disk")
    monkeypatch.setattr(FSFile, "open", lambda file: pytest.fail("it was read whole"))
    volume.store(FSFile(str(tmp_path / "f")), "f")
    assert witness.read("f") == b"on disk"


COPIES = [
    (None, None),
    (None, "out"),
    ("docs", None),
    ("docs/", "out"),
    ("docs/b", None),
    ("docs/b", "out/b2"),
    (["A.json", "docs/b"], None),
    ("gone", None),
]


@pytest.mark.parametrize(("src", "dst"), COPIES, ids=str)
def test_copies_in_the_bucket_have_the_paths_that_flowserv_gives(
    volume, buffer, tmp_path, src, dst
):
    on_disk, in_bucket = FileSystemStorage(str(tmp_path / "in")), volume.get_store_for_folder("in")
    for path in ("A.json", "docs/b", "docs/c/d"):
        for store in (on_disk, in_bucket):
            store.store(buffer(path.encode()), path)
    copied = on_disk.copy(src, FileSystemStorage(str(tmp_path / "to")), dst=dst)
    expected = [path.replace("//", "/") for path in copied]  # flowserv's own, for "docs/"
    goal = volume.get_store_for_folder("to")
    assert sorted(in_bucket.copy(src, goal, dst=dst)) == sorted(expected)
    assert sorted(paths(goal)) == sorted(expected)


def test_copies_between_disk_and_bucket(volume, buffer, tmp_path, witness):
    disk = FileSystemStorage(str(tmp_path))
    disk.store(buffer(b"1"), "in/f")
    assert disk.copy("in", volume, dst="up") == ["up/f"]
    assert witness.read("up/f") == b"1"
    assert volume.copy("up/f", disk, dst="down/f") == ["down/f"]
    assert volume.get_store_for_folder("up").copy(None, disk, dst="all") == ["all/f"]
    assert (tmp_path / "down/f").read_bytes() == (tmp_path / "all/f").read_bytes() == b"1"


def test_the_dictionary_form_goes_both_ways_and_holds_no_secret(reached, bucket):
    assert S3Bucket("b", "p", "id") == theirs.S3Bucket("b", "p", "id")
    volume = S3Volume(bucket, "p", "id", endpoint=reached.endpoint, region="us-east-1")
    form = volume.to_dict()
    again = S3Volume.from_dict(form)
    assert again.to_dict() == form
    assert (again.identifier, again.prefix, again.endpoint) == ("id", "p", reached.endpoint)
    assert reached.secret_access_key not in str(form)
    assert theirs.S3Volume.from_dict(form).prefix == "p"
    assert volume.get_store_for_folder("f").to_dict()["args"][2:] == form["args"][2:]
    assert pickle.loads(pickle.dumps(volume)).to_dict() == form


def test_what_it_says_of_itself(volume, bucket):
    assert bucket in volume.describe()
    assert (volume.bucket_id, volume.prefix) == (bucket, None)
    assert len(volume.identifier) > 8
    assert volume.mkdir("a/b") is None
    assert volume.close() is None
    assert S3File(volume.bucket, "k").key == "k"


def test_install_rebinds_the_factory_and_says_so(installed, bucket, caplog, monkeypatch):
    assert isinstance(factory.Volume(S3Bucket(bucket)), S3Volume)
    monkeypatch.setattr(factory, "S3Volume", theirs.S3Volume)
    with caplog.at_level(logging.INFO, "coatcheck.flowserv"):
        install()
        install()
    assert len(caplog.records) == 1


def test_the_volume_manager_prepares_from_the_bucket(installed, reached, bucket, buffer, tmp_path):
    store = S3Volume(bucket, "run", DEFAULT_STORE)
    for path in ("A.json", "docs/D.json"):
        store.store(buffer(path.encode()), path)
    files = {"A.json": [DEFAULT_STORE], "docs/D.json": [DEFAULT_STORE]}
    manager = VolumeManager(stores=[store.to_dict()], files=files)
    assert isinstance(manager.get(DEFAULT_STORE), S3Volume)
    worker = FileSystemStorage(str(tmp_path), identifier="worker")
    manager.prepare(store=worker, inputs=["A.json", "docs/"], outputs=["out/r.txt"])
    assert (tmp_path / "A.json").read_bytes() == b"A.json"
    assert (tmp_path / "docs/D.json").read_bytes() == b"docs/D.json"
    assert manager.files["A.json"] == [DEFAULT_STORE, "worker"]
    other = S3Volume(bucket, "other", "other")
    manager.prepare(store=other, inputs=["A.json"], outputs=[])
    assert other.load("A.json").open().read() == b"A.json"


def test_credentials_in_an_endpoint_are_refused_without_being_repeated(bucket):
    with pytest.raises(CoatcheckError) as refused:
        S3Volume(bucket, endpoint="https://key:hush@s3.example.com")
    assert "hush" not in str(refused.value)


def _read_in_child(volume):
    return volume.load("f").open().read()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_worker_uses_the_volume_that_its_parent_has_used(volume, buffer):
    volume.store(buffer(b"shared"), "f")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_read_in_child, (volume,)) == b"shared"
    assert volume.load("f").size() == 6


def test_over_a_thousand_files_are_deleted(volume, buffer, witness):
    for number in range(1001):
        volume.store(buffer(b""), f"many/{number}")
    assert volume.delete("many") == 1001
    assert witness.all_keys() == set()

"""`coatcheck volume`: trees of files listed, copied both ways, deleted and measured."""

import json

import pytest

BODIES = {"f": b"1", "a b/g": b"22", "a b/deep/\u00fc": b"333", "large": b"x" * (9 * 1024 * 1024)}


@pytest.fixture
def tree(remote):
    for path, body in BODIES.items():
        file = remote.home / "tree" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    return remote.home / "tree"


def files_in(folder):
    found = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def lines(ended):
    return [json.loads(line) for line in ended.text.splitlines()]


def test_a_folder_goes_up_and_comes_down(remote, bucket, tree):
    remote.succeed("volume", "cp", tree, f"s3://{bucket}/runs/42")
    listed = lines(remote.succeed("volume", "ls", f"s3://{bucket}/runs", "--json"))
    assert {entry["path"]: entry["size_bytes"] for entry in listed} == {
        f"runs/42/{path}": len(body) for path, body in BODIES.items()
    }
    remote.succeed("volume", "cp", f"s3://{bucket}/runs/42", remote.home / "down")
    assert files_in(remote.home / "down") == BODIES


def test_a_copy_goes_on_with_skip_same(remote, bucket, tree):
    remote.succeed("volume", "cp", tree, f"s3://{bucket}/t")
    (tree / "f").write_bytes(b"2")
    for source, target in [(tree, f"s3://{bucket}/t"), (f"s3://{bucket}/t", tree)]:
        told = lines(remote.succeed("volume", "cp", source, target, "--skip-same", "--json"))
        there = {entry["path"].removeprefix("t/"): entry["was_there"] for entry in told}
        changed = source == tree
        assert there == {path: path != "f" or not changed for path in BODIES}


def test_one_file_goes_to_a_name_or_into_a_folder(remote, bucket, tree):
    remote.succeed("volume", "cp", tree / "f", f"s3://{bucket}/in/")
    remote.succeed("volume", "cp", tree / "f", f"s3://{bucket}/in/g")
    remote.succeed("volume", "cp", f"s3://{bucket}/in/g", f"{remote.home}/out/")
    listed = lines(remote.succeed("volume", "ls", f"s3://{bucket}", "--json"))
    assert [entry["path"] for entry in listed] == ["in/f", "in/g"]
    assert files_in(remote.home / "out") == {"g": b"1"}


def test_a_tree_is_measured(remote, tree):
    shown = remote.succeed("volume", "du", tree).text.splitlines()
    assert [line.split("  ")[-1].strip() for line in shown] == [
        str(tree),
        "└── a b/",
        "└── deep/",
    ]
    totals = lines(remote.succeed("volume", "du", tree, "--depth", "1", "--json"))
    assert totals[1] == {"folder": "a b", "files": 2, "size_bytes": 5}


def test_only_what_is_named_is_deleted(remote, bucket, tree):
    remote.succeed("volume", "cp", tree, f"s3://{bucket}/a")
    remote.succeed("volume", "cp", tree / "f", f"s3://{bucket}/ab")
    assert remote.succeed("volume", "rm", f"s3://{bucket}/a").text == "4 files deleted\n"
    assert remote.succeed("volume", "rm", f"s3://{bucket}/a").text == "0 files deleted\n"
    remote.fail(2, "volume", "rm", f"s3://{bucket}")
    assert remote.succeed("volume", "rm", f"s3://{bucket}", "--everything", "--json").value == {
        "deleted": 1
    }


def test_what_cannot_be_is_refused(remote, bucket, tree):
    remote.fail(3, "volume", "cp", f"s3://{bucket}/gone", remote.home / "out")
    remote.fail(3, "volume", "ls", "s3://no-such-bucket")
    remote.fail(2, "volume", "ls", f"s3://{bucket}/a//b")
    remote.fail(2, "volume", "ls", "memory://x")
    assert not (remote.home / "out").exists()


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_a_name_in_a_bucket_cannot_lead_out_of_the_folder(local, s3_server, bucket):
    client = s3_server.witness()
    client.put_object(Bucket=bucket, Key="d/../../escaped", Body=b"evil")
    client.close()
    local.variables.update(s3_server.environment())
    local.fail(2, "volume", "cp", f"s3://{bucket}/d", local.home / "a" / "b")
    assert not list(local.home.rglob("escaped"))

"""The benchmarks run to their end and count what they should. Nothing here depends on speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import ChildFailed, child, requests_of
from coatcheck.testing import S3Server

ROOT = Path(__file__).parents[2]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )


def test_a_quick_run_measures_every_side_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run("--quick", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    tiny, small = report["temporal"]["cpu"]
    assert set(tiny["sides"]) == {"official", "coatcheck", "bare"}
    assert set(small["sides"]) == {"official", "coatcheck"}
    for load in (tiny, small):
        for pairs in load["sides"].values():
            assert len(pairs) == load["rounds"]
            for pair in pairs:
                assert pair["store"]["cpu_seconds"] > 0
                assert pair["retrieve"]["cpu_seconds"] > 0
    for row in report["temporal"]["requests"]:
        assert row["sides"]["official"] == {"store": ["HEAD", "PUT"], "retrieve": ["GET"]}
        assert row["sides"]["coatcheck"] == {"store": ["PUT"], "retrieve": ["GET"]}
    assert {target["met"] for target in report["temporal"]["targets"]} <= {True, False}
    assert list(tmp_path.iterdir()) == []


def test_only_one_size_is_measured_and_printed_for_people(tmp_path: Path) -> None:
    done = run("--quick", "--only", "256KiB", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Targets" in done.stdout
    assert "256 KiB" in done.stdout
    assert "\n  1 KiB" not in done.stdout


def test_a_size_that_is_not_measured_is_a_usage_error(tmp_path: Path) -> None:
    done = run("--only", "3KiB", folder=tmp_path)
    assert done.returncode == 2
    assert "1KiB, 256KiB, 4MiB, 64MiB" in done.stderr


def test_bytes_that_come_back_wrong_fail_the_run(
    rclone: S3Server, bucket: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert rclone.root is not None
    # The bare side does not verify what it gets, so it is the benchmark that must.
    with child("bare", rclone, bucket) as process:
        stored = process.store(1024, 1, 1)
        (file,) = (rclone.root / bucket / "bare").iterdir()
        file.write_bytes(bytes(1024))
        with pytest.raises(ChildFailed):
            process.retrieve(stored, 1)
    assert "is not what was stored" in capfd.readouterr().err


def test_an_unknown_side_fails(
    rclone: S3Server, bucket: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with child("nobody", rclone, bucket) as process, pytest.raises(ChildFailed):
        process.store(1, 1, 1)
    assert "there is no side 'nobody'" in capfd.readouterr().err


def test_requests_of_a_payload_of_several_parts_are_counted_one_by_one(
    rclone: S3Server, bucket: str
) -> None:
    requests = requests_of("store", rclone, bucket, 17 * 1024 * 1024)
    assert requests["store"] == ["HEAD", "POST", "PUT", "PUT", "PUT", "POST"]
    assert requests["retrieve"] == ["GET", "GET", "GET"]

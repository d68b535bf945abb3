"""What an examination finds, in places that are well, in roles that may not do everything, and
in places that are ill."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coatcheck.testing import (
    Behaviour,
    FaultServer,
    Request,
    S3Server,
    forward,
    free_port,
    redirect,
    reply,
    s3_error,
    web_page,
)
from tests.cli.command import Command

TRIED = ["write", "read", "range", "head", "list", "create-once", "compare-and-swap", "digest"]
TRIED += ["multipart", "delete"]
REACHED = ["settings", "connection", "encryption", "clock", "credentials", "bucket"]

Verdicts = dict[str, str]


def verdicts(command: Command, url: str, code: int) -> Verdicts:
    ended = command.run("doctor", url, "--json")
    assert (ended.code, ended.err) == (code, "")
    report = ended.value
    assert set(report) == {"location", "usable", "findings"}
    assert report["location"] == url
    assert report["usable"] is (code == 0)
    for finding in report["findings"]:
        assert set(finding) == {"check", "verdict", "meaning", "remedy"}
        assert finding["meaning"]
        assert finding["remedy"] or finding["verdict"] in ("ok", "skipped")
    checks = [finding["check"] for finding in report["findings"]]
    assert len(checks) == len(set(checks))
    return {finding["check"]: finding["verdict"] for finding in report["findings"]}


def keys_in(server: S3Server, bucket: str) -> list[str]:
    witness = server.witness()
    listing = witness.list_objects_v2(Bucket=bucket)
    witness.close()
    return [item["Key"] for item in listing.get("Contents", [])]


def test_a_folder_is_well(local: Command, tmp_path: Path) -> None:
    found = verdicts(local, (tmp_path / "store").as_uri(), 0)
    assert found == {**dict.fromkeys(TRIED, "ok"), "multipart": "skipped"}
    assert [path.name for path in (tmp_path / "store").iterdir()] in ([], [".coatcheck-tmp"])


def test_memory_is_well(local: Command) -> None:
    found = verdicts(local, "memory://here", 0)
    assert found == {**dict.fromkeys(TRIED, "ok"), "multipart": "skipped"}


def test_the_default_store_is_examined_without_a_url(local: Command) -> None:
    text = local.succeed("doctor").text
    assert text.splitlines()[-1].startswith("file://")
    assert text.splitlines()[-1].endswith("/coatcheck/store: usable")


@pytest.mark.parametrize(
    ("s3_server", "warnings"),
    [("rclone", ["create-once", "compare-and-swap", "digest"]), ("moto", ["digest"])],
    indirect=["s3_server"],
)
def test_a_bucket_is_well_but_for_what_its_server_ignores(
    local: Command, s3_server: S3Server, bucket: str, warnings: list[str]
) -> None:
    local.variables.update(s3_server.environment())
    found = verdicts(local, f"s3://{bucket}/a/prefix", 0)
    assert found == {**dict.fromkeys(REACHED + TRIED, "ok"), **dict.fromkeys(warnings, "warning")}
    assert keys_in(s3_server, bucket) == []


def test_what_a_person_sees_says_what_to_do(local: Command, rclone: S3Server, bucket: str) -> None:
    local.variables.update(rclone.environment())
    lines = local.succeed("doctor", f"s3://{bucket}").text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert any(line.split()[:2] == ["create-once", "warning"] for line in lines)
    assert any("Harmless for payloads" in line for line in lines)
    assert lines[-1] == f"s3://{bucket}: usable, with 3 warnings"


def test_a_bucket_that_does_not_exist(local: Command, rclone: S3Server) -> None:
    local.variables.update(rclone.environment())
    found = verdicts(local, "s3://no-such-bucket", 1)
    assert found == {**dict.fromkeys(REACHED, "ok"), "bucket": "problem"}


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_keys_that_are_wrong(local: Command, rclone: S3Server, bucket: str, variable: str) -> None:
    local.variables.update(rclone.environment())
    local.variables[variable] = "wrong"
    found = verdicts(local, f"s3://{bucket}", 1)
    assert found == {**dict.fromkeys(REACHED[:4], "ok"), "credentials": "problem"}


def test_keys_that_are_missing(local: Command) -> None:
    assert verdicts(local, "s3://bucket", 1) == {"settings": "problem"}


def test_a_server_that_is_down(local: Command, rclone: S3Server) -> None:
    local.variables.update(rclone.environment())
    local.variables["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{free_port()}"
    found = verdicts(local, "s3://bucket", 1)
    assert found == {"settings": "ok", "connection": "problem"}


@pytest.mark.parametrize(
    "behaviour",
    [web_page(200), web_page(404), reply(200, b"hello"), s3_error(503, "SlowDown"), reply(501)],
    ids=["web page", "web page 404", "something", "overloaded", "not implemented"],
)
def test_something_that_is_no_s3_server(
    faulty: Command, fault_server: FaultServer, behaviour: Behaviour
) -> None:
    fault_server.play(behaviour)
    found = verdicts(faulty, "s3://bucket", 1)
    assert found == {"settings": "ok", "connection": "problem"}


def test_a_bucket_in_another_place(faulty: Command, fault_server: FaultServer) -> None:
    fault_server.play(redirect("http://127.0.0.1:9/"))
    assert verdicts(faulty, "s3://bucket", 1)["bucket"] == "problem"


def test_a_clock_that_is_off(
    faulty: Command, fault_server: FaultServer, rclone: S3Server, bucket: str
) -> None:
    behaviour = forward(rclone.endpoint).with_header("Date", "Sat, 01 Jan 2000 00:00:00 GMT")
    fault_server.play(behaviour)
    found = verdicts(faulty, f"s3://{bucket}", 0)
    assert found["clock"] == "warning"


def denying(rclone: S3Server, denied: Callable[[Request], bool]) -> Callable[[Request], Behaviour]:
    def choose(head: Request) -> Behaviour:
        return s3_error(403, "AccessDenied") if denied(head) else forward(rclone.endpoint)

    return choose


def may_only_put(head: Request) -> bool:
    return head.method in ("GET", "HEAD", "DELETE") or "uploads" in head.target


def may_only_get(head: Request) -> bool:
    return head.method not in ("GET", "HEAD") or "list-type" in head.target


def may_nothing(head: Request) -> bool:
    return True


def test_a_role_that_only_writes_is_told_what_it_cannot_do(
    faulty: Command, fault_server: FaultServer, rclone: S3Server, bucket: str
) -> None:
    fault_server.play(denying(rclone, may_only_put))
    found = verdicts(faulty, f"s3://{bucket}", 0)
    denied = ["read", "list", "multipart", "delete", "clean-up"]
    assert [check for check in found if found[check] == "warning" and check in denied] == denied
    assert (found["range"], found["head"]) == ("skipped", "skipped")
    assert [found[check] for check in ("write", "credentials", "bucket")] == ["ok"] * 3
    # What it could not remove is there, and named.
    text = faulty.succeed("doctor", f"s3://{bucket}").text
    assert ".coatcheck-doctor/" in text
    assert keys_in(rclone, bucket)


def test_a_role_that_only_reads_is_told_what_it_cannot_do(
    faulty: Command, fault_server: FaultServer, rclone: S3Server, bucket: str
) -> None:
    fault_server.play(denying(rclone, may_only_get))
    found = verdicts(faulty, f"s3://{bucket}", 0)
    assert [check for check in found if found[check] == "warning"] == ["write", "list"]
    assert found["read"] == "ok"
    assert found["delete"] == found["create-once"] == "skipped"
    assert "clean-up" not in found


def test_a_role_that_may_nothing_is_a_problem(
    faulty: Command, fault_server: FaultServer, rclone: S3Server
) -> None:
    fault_server.play(denying(rclone, may_nothing))
    found = verdicts(faulty, "s3://bucket", 1)
    assert found["credentials"] == "problem"
    assert found["write"] == "warning"


def test_a_server_that_changes_what_it_stores(
    faulty: Command, fault_server: FaultServer, rclone: S3Server, bucket: str
) -> None:
    def flip(head: Request) -> Behaviour:
        behaviour = forward(rclone.endpoint)
        is_read = head.method == "GET" and "list-type" not in head.target
        return behaviour.with_flipped_bit(805) if is_read else behaviour

    fault_server.play(flip)
    found = verdicts(faulty, f"s3://{bucket}", 1)
    assert (found["read"], found["range"]) == ("problem", "problem")
    assert keys_in(rclone, bucket) == []


def test_a_server_that_goes_away_ends_the_examination(
    faulty: Command, fault_server: FaultServer, rclone: S3Server, bucket: str
) -> None:
    def until_head(head: Request) -> Behaviour:
        gone = any(request.method == "HEAD" for request in fault_server.requests)
        behaviour = forward(rclone.endpoint)
        return behaviour.closed() if gone or head.method == "HEAD" else behaviour

    fault_server.play(until_head)
    found = verdicts(faulty, f"s3://{bucket}", 1)
    assert list(found) == [*REACHED, "write", "read", "range", "head", "clean-up"]
    assert found["head"] == "problem"


def test_interrupted_it_removes_what_it_has_made(
    faulty: Command, fault_server: FaultServer, rclone: S3Server, bucket: str
) -> None:
    def stalls_at_listing(head: Request) -> Behaviour:
        behaviour = forward(rclone.endpoint)
        return behaviour.stalled() if "list-type" in head.target else behaviour

    fault_server.play(stalls_at_listing)
    command = faulty.start(
        "doctor", f"s3://{bucket}", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    # One to reach, write, read, range, head, list.
    fault_server.wait_for_requests(6)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=30)
    assert (command.returncode, out, err) == (130, b"", b"error: interrupted\n")
    assert keys_in(rclone, bucket) == []


def test_a_folder_that_cannot_be_used(local: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = verdicts(local, (tmp_path / "file").as_uri(), 1)
    assert found == {"folder": "problem"}


def test_a_url_that_cannot_be_right_is_wrong_use(local: Command) -> None:
    local.fail(2, "doctor", "bucket")
    error = local.run("doctor", "s3://bucket?regoin=x", "--json").error
    assert error["code"] == "config"
    assert json.dumps(error).count("region") >= 1

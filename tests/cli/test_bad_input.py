"""Whatever is handed in: a message that names the thing and the remedy, the exit code that the
help promises, no result, no traceback, no file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coatcheck import Claim, Digest
from coatcheck.testing import FaultServer, S3Server, free_port, s3_error, web_page
from tests.cli.command import Command

PAYLOAD = b"the payload"
DIGEST = Digest.of(PAYLOAD)
CLAIM = str(Claim(DIGEST, len(PAYLOAD)))
FIELDS = json.loads(CLAIM)


def changed(**fields: object) -> str:
    return json.dumps({**FIELDS, **fields})


def stored_file(local: Command) -> Path:
    """The file of PAYLOAD's object in the default store, once it is stored."""
    local.succeed("put", "-", stdin=PAYLOAD)
    store = local.home / ".local" / "share" / "coatcheck" / "store"
    return store / "v1" / "sha256" / DIGEST.hex[:2] / DIGEST.hex


BAD_CLAIMS = {
    "not JSON": "claim",
    "nothing": "",
    "a list": "[]",
    "another object": "{}",
    "too long": " " * 5000 + CLAIM,
    "no digest": json.dumps({name: FIELDS[name] for name in FIELDS if name != "digest"}),
    "no size": json.dumps({name: FIELDS[name] for name in FIELDS if name != "size"}),
    "no store": json.dumps({name: FIELDS[name] for name in FIELDS if name != "store"}),
    "an unknown field": changed(bucket="somebody-elses"),
    "an unknown version": changed(coatcheck=2),
    "an unknown algorithm": changed(digest="md5:d41d8cd98f00b204e9800998ecf8427e"),
    "a digest cut short": changed(digest=FIELDS["digest"][:-1]),
    "a size below zero": changed(size=-1),
    "a size that is no number": changed(size="11"),
    "a store that is not known": changed(store="somebody/elses"),
    "a store that is a URL": changed(store="s3://somebody-elses"),
    "an escape sequence": changed(store="\x1b[2Jgone"),
}


@pytest.mark.parametrize("kind", BAD_CLAIMS)
def test_a_claim_that_cannot_be_right_is_refused(local: Command, kind: str) -> None:
    ended = local.fail(4, "get", "--", BAD_CLAIMS[kind])
    assert "\x1b" not in ended.err


def test_stat_refuses_claims_too(local: Command) -> None:
    local.fail(4, "stat", "claim")
    local.fail(4, "stat", changed(store="somebody/elses"))


def test_a_claim_that_is_refused_sends_nothing(faulty: Command, fault_server: FaultServer) -> None:
    faulty.fail(4, "get", changed(store="somebody/elses"))
    assert fault_server.requests == []


def test_bytes_that_are_no_text_are_no_claim(local: Command) -> None:
    local.fail(4, "get", "-", stdin=b"\xff\xfe\x00")


def test_a_store_that_is_not_known_is_answered_with_the_option_that_helps(local: Command) -> None:
    assert "--from" in local.fail(4, "get", changed(store="somebody/elses")).err


@pytest.fixture(params=["local", "remote"])
def command(request: pytest.FixtureRequest) -> Command:
    found: Command = request.getfixturevalue(request.param)
    return found


def test_a_payload_that_is_not_there(command: Command) -> None:
    command.succeed("put", "-", stdin=b"another")
    for name in ("get", "stat"):
        assert DIGEST.hex in command.fail(3, name, CLAIM).err


def test_a_claim_with_another_size_than_the_payload(command: Command) -> None:
    command.succeed("put", "-", stdin=PAYLOAD)
    for size in (len(PAYLOAD) - 1, len(PAYLOAD) + 1):
        command.fail(5, "get", changed(size=size), "-o", "out")
        command.fail(5, "stat", changed(size=size))
    assert not (command.home / "out").exists()


ALTERATIONS: dict[str, Callable[[bytes], bytes]] = {
    "shorter": lambda body: body[:-1],
    "longer": lambda body: body + b"!",
    "altered": lambda body: body.swapcase(),
    "empty": lambda body: b"",
}


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_an_object_in_a_folder_that_was_changed(local: Command, kind: str) -> None:
    file = stored_file(local)
    file.write_bytes(ALTERATIONS[kind](PAYLOAD))
    (local.home / "out").write_bytes(b"old")
    local.fail(5, "get", CLAIM, "-o", "out")
    assert (local.home / "out").read_bytes() == b"old"


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_an_object_in_a_bucket_that_was_changed(
    remote: Command, rclone: S3Server, bucket: str, kind: str
) -> None:
    key = remote.succeed("put", "-", "--json", stdin=PAYLOAD).value["key"]
    witness = rclone.witness()
    body = ALTERATIONS[kind](PAYLOAD)
    witness.put_object(Bucket=bucket, Key=f"default/{key}", Body=body)
    witness.close()
    remote.fail(5, "get", CLAIM, "-o", "out")
    assert not (remote.home / "out").exists()


def test_a_payload_over_the_limit(command: Command) -> None:
    (command.home / "in").write_bytes(PAYLOAD)
    limit = ("--max-payload-bytes", str(len(PAYLOAD) - 1))
    command.fail(6, "put", "in", *limit)
    command.fail(6, "put", "-", *limit, stdin=PAYLOAD)
    assert command.succeed("ls").out == b""
    command.succeed("put", "in", "--max-payload-bytes", str(len(PAYLOAD)))
    command.fail(6, "get", CLAIM, *limit)


def test_a_bucket_that_does_not_exist(remote: Command) -> None:
    url = "s3://no-such-bucket"
    remote.fail(3, "put", "-", "--to", url, stdin=PAYLOAD)
    assert not remote.names_file.exists()
    for arguments in (("get", CLAIM, "--from", url), ("stat", CLAIM, "--from", url), ("ls", url)):
        ended = remote.fail(3, *arguments)
        assert "no-such-bucket" in ended.err


def test_keys_that_are_wrong(remote: Command) -> None:
    remote.variables["AWS_SECRET_ACCESS_KEY"] = "a-secret-that-is-not-the-one"
    for arguments in (("put", "-"), ("get", CLAIM), ("stat", CLAIM), ("ls",)):
        ended = remote.fail(4, *arguments, stdin=PAYLOAD)
        assert "a-secret" not in ended.err


def test_a_role_that_may_not(faulty: Command, fault_server: FaultServer) -> None:
    fault_server.play(s3_error(403, "AccessDenied"))
    for arguments in (("put", "-"), ("get", CLAIM), ("stat", CLAIM), ("ls",)):
        faulty.fail(4, *arguments, stdin=PAYLOAD)


def test_no_keys_at_all(remote: Command) -> None:
    del remote.variables["AWS_ACCESS_KEY_ID"]
    assert "AWS_ACCESS_KEY_ID" in remote.fail(2, "ls").err
    del remote.variables["AWS_SECRET_ACCESS_KEY"]
    assert "AWS_ACCESS_KEY_ID" in remote.fail(2, "ls").err


def test_a_server_that_is_down(remote: Command) -> None:
    remote.variables["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{free_port()}"
    for arguments in (("put", "-"), ("get", CLAIM, "-o", "out"), ("ls",)):
        remote.fail(1, *arguments, stdin=PAYLOAD)
    assert not (remote.home / "out").exists()


@pytest.mark.parametrize("status", [200, 404, 502])
def test_a_server_that_answers_with_a_web_page(
    faulty: Command, fault_server: FaultServer, status: int
) -> None:
    fault_server.play(web_page(status))
    ended = faulty.run("get", CLAIM, "-o", "out")
    assert ended.code == (5 if status == 200 else 1)
    assert not (faulty.home / "out").exists()


def test_a_server_that_is_slow(faulty: Command, fault_server: FaultServer) -> None:
    fault_server.play(s3_error(404, "NoSuchKey").stalled())
    url = faulty.variables["COATCHECK_STORE"] + "&stall_timeout_seconds=1"
    ended = faulty.run("get", CLAIM, "--from", url, "--json")
    assert ended.code == 1
    assert ended.error["transient"] is True


BAD_URLS = {
    "no scheme": "bucket/prefix",
    "another scheme": "ftp://host/path",
    "no bucket": "s3://",
    "an impossible bucket": "s3://a..b",
    "an unknown setting": "s3://bucket?regoin=eu-west-1",
    "a setting that is no number": "s3://bucket?max_attempts=many",
    "a timeout of nothing": "s3://bucket?connect_timeout_seconds=0",
    "a path that is not absolute": "file://folder/file",
    "memory": "memory://here",
    "credentials": "s3://key:hunter2@bucket",
    "a secret": "s3://bucket?secret_access_key=hunter2",
}


@pytest.mark.parametrize("kind", BAD_URLS)
def test_a_url_that_cannot_be_right(local: Command, kind: str) -> None:
    url = BAD_URLS[kind]
    assert "hunter2" not in local.fail(2, "put", "-", "--to", url, stdin=PAYLOAD).err
    assert not local.names_file.exists()


def test_a_url_that_cannot_be_right_to_read_from(local: Command) -> None:
    for arguments in (("get", CLAIM), ("stat", CLAIM)):
        local.fail(2, *arguments, "--from", "bucket")
    local.fail(2, "ls", "bucket")
    local.variables["COATCHECK_STORE"] = "bucket"
    local.fail(2, "get", CLAIM)


def test_files_that_cannot_be_right(local: Command) -> None:
    local.fail(2, "put", "no-such-file")
    local.fail(2, "put", ".")
    local.fail(2, "get", "@no-such-file")
    claim = local.succeed("put", "-", stdin=PAYLOAD).text
    local.fail(2, "get", claim, "-o", ".")
    local.fail(2, "get", claim, "-o", "no-such-folder/out")


def test_an_output_file_is_looked_at_before_anything_is_fetched(
    faulty: Command, fault_server: FaultServer
) -> None:
    faulty.fail(2, "get", CLAIM, "-o", ".")
    assert fault_server.requests == []


def test_a_disk_that_is_full(local: Command) -> None:
    local.succeed("put", "-", stdin=PAYLOAD)
    assert "/dev/full" in local.fail(1, "get", CLAIM, "-o", "/dev/full").err


def test_names_that_were_damaged(local: Command) -> None:
    local.names_file.parent.mkdir(parents=True)
    for content in ("{", "[]", '{"version":1,"stores":{"a":1}}', '{"version":2,"stores":{}}'):
        local.names_file.write_text(content)
        assert str(local.names_file) in local.fail(2, "get", changed(store="a")).err
        url = (local.home / "here").as_uri()
        ended = local.run("put", "-", "--to", url, stdin=PAYLOAD)
        assert (ended.code, json.loads(ended.out)["store"]) == (0, "here")
        assert local.names_file.read_text() == content


ERRORS = {
    "claim_rejected": (4, ("get", "claim")),
    "config": (2, ("put", "no-such-file")),
    "not_found": (3, ("get", CLAIM)),
}


@pytest.mark.parametrize("code", ERRORS)
def test_errors_for_programs(local: Command, code: str) -> None:
    exit_code, arguments = ERRORS[code]
    ended = local.run(*arguments, "--json")
    assert (ended.code, ended.out) == (exit_code, b"")
    assert set(ended.error) == {"code", "message", "remedy", "transient", "context"}
    assert ended.error["code"] == code
    assert ended.error["message"]
    assert ended.error["remedy"]
    assert ended.error["transient"] is False


def test_errors_for_programs_say_where(remote: Command, bucket: str) -> None:
    context = remote.run("get", CLAIM, "--json").error["context"]
    assert (context["bucket"], context["status"]) == (bucket, 404)
    assert context["key"].endswith(DIGEST.hex)


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["put"], ["get"], ["ls", "--nope"], ["put", "-", "--max-payload-bytes", "0"]],
)
def test_a_command_line_that_cannot_be_right(local: Command, arguments: list[str]) -> None:
    ended = local.run(*arguments)
    assert (ended.code, ended.out) == (2, b"")
    assert "Usage: coatcheck" in ended.err

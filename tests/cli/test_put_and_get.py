"""What goes in comes out, from wherever and to wherever."""

import json
import os
import random
import stat
from pathlib import Path

import pytest

from coatcheck import Claim, Digest
from coatcheck.testing import S3Server
from tests.cli.command import Command

LARGE = random.Random(1).randbytes(20 * 1024 * 1024 + 1)
"""More than two parts."""


@pytest.fixture(params=["local", "remote"])
def command(request: pytest.FixtureRequest) -> Command:
    found: Command = request.getfixturevalue(request.param)
    return found


def claim_of(payload: bytes, store: str = "default") -> str:
    return str(Claim(Digest.of(payload), len(payload), store))


@pytest.mark.parametrize("payload", [b"", b"hello\n", bytes(range(256)), LARGE])
def test_a_file_comes_back_as_it_was(command: Command, payload: bytes) -> None:
    (command.home / "in").write_bytes(payload)
    claim = command.succeed("put", "in").text
    stored = Claim.parse(claim)
    assert str(Claim(stored.digest, stored.size_bytes, stored.store)) == claim_of(payload)
    assert (stored.parts is not None) == (payload is LARGE)

    written = command.succeed("get", claim, "-o", "out")
    assert written.out == b""
    assert (command.home / "out").read_bytes() == payload
    assert command.succeed("get", claim).out == payload


def test_standard_input_is_stored_and_a_claim_is_read_from_it(command: Command) -> None:
    claim = command.succeed("put", "-", stdin=b"from a pipe").out
    assert command.succeed("get", "-", stdin=claim).out == b"from a pipe"


def test_a_claim_is_read_from_a_file(local: Command) -> None:
    (local.home / "claim").write_bytes(local.succeed("put", "-", stdin=b"payload").out)
    assert local.succeed("get", "@claim").out == b"payload"


def test_the_default_store_is_a_folder_of_the_users(local: Command) -> None:
    local.succeed("put", "-", stdin=b"payload")
    digest = Digest.of(b"payload").hex
    store = local.home / ".local" / "share" / "coatcheck" / "store"
    assert (store / "v1" / "sha256" / digest[:2] / digest).read_bytes() == b"payload"
    assert not local.names_file.exists()


def test_the_default_store_is_where_the_environment_says(local: Command) -> None:
    local.variables["COATCHECK_STORE"] = (local.home / "mine").as_uri()
    claim = local.succeed("put", "-", stdin=b"payload").text
    assert (local.home / "mine" / "v1").is_dir()
    assert local.succeed("get", claim).out == b"payload"


def test_a_store_named_by_url_is_found_again_by_its_claims(
    local: Command, rclone: S3Server, bucket: str
) -> None:
    local.variables.update(rclone.environment())
    url = rclone.url(bucket, "My Reports")
    claim = local.succeed("put", "-", "--to", url, stdin=b"payload").text
    assert Claim.parse(claim).store == f"{bucket}/my-reports"
    assert local.succeed("get", claim).out == b"payload"
    assert local.succeed("stat", claim).code == 0


def test_from_wins_over_what_the_claim_says(local: Command) -> None:
    url = (local.home / "here").as_uri()
    claim = Claim.parse(local.succeed("put", "-", "--to", url, stdin=b"payload").text)
    foreign = str(Claim(claim.digest, claim.size_bytes, "somebody/elses"))
    assert local.succeed("get", foreign, "--from", url).out == b"payload"
    assert local.succeed("stat", foreign, "--from", url).code == 0


def test_a_claim_is_printed_even_if_its_store_cannot_be_noted(local: Command) -> None:
    (local.home / ".config").write_text("a file where a folder should be")
    url = (local.home / "here").as_uri()
    ended = local.run("put", "-", "--to", url, stdin=b"payload")
    assert (ended.code, Claim.parse(ended.text).store) == (0, "here")
    assert ended.err.startswith("warning: ")
    assert "--from" in ended.err


def test_output_for_programs_of_put_and_get(command: Command) -> None:
    stored = command.succeed("put", "-", "--json", stdin=b"payload").value
    digest = Digest.of(b"payload")
    assert stored.pop("location").endswith(("coatcheck/store", "/default"))
    assert stored == {
        "claim": json.loads(claim_of(b"payload")),
        "key": f"v1/sha256/{digest.hex[:2]}/{digest.hex}",
    }
    claim = json.dumps(stored["claim"])
    fetched = command.succeed("get", claim, "-o", "out", "--json").value
    assert fetched == {"claim": stored["claim"], "file": "out"}
    assert command.succeed("get", claim, "--json").out == b"payload"
    assert command.succeed("get", claim, "-o", "-", "--json").out == b"payload"


def test_a_new_file_has_the_usual_permissions_and_an_old_one_keeps_its_own(local: Command) -> None:
    claim = local.succeed("put", "-", stdin=b"payload").text
    umask = os.umask(0)
    os.umask(umask)
    new, old = local.home / "new", local.home / "old"
    old.write_bytes(b"something longer than the payload")
    old.chmod(0o640)
    for file in (new, old):
        local.succeed("get", claim, "-o", file)
        assert file.read_bytes() == b"payload"
    assert stat.S_IMODE(new.stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


def test_a_symbolic_link_stays_and_what_it_leads_to_is_written(local: Command) -> None:
    claim = local.succeed("put", "-", stdin=b"payload").text
    (local.home / "folder").mkdir()
    (local.home / "link").symlink_to(Path("folder") / "file")
    local.succeed("get", claim, "-o", "link")
    assert (local.home / "link").is_symlink()
    assert (local.home / "folder" / "file").read_bytes() == b"payload"


def test_a_device_is_written_to_and_not_replaced(local: Command) -> None:
    claim = local.succeed("put", "-", stdin=b"payload").text
    assert local.succeed("get", claim, "-o", "/dev/stdout").out == b"payload"
    local.succeed("get", claim, "-o", os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_equal_payloads_are_one_object(command: Command) -> None:
    claims = {command.succeed("put", "-", stdin=b"payload").text for _ in range(2)}
    assert len(claims) == 1
    assert len(command.succeed("ls", "--json").out.splitlines()) == 1

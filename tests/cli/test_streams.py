"""Payloads of more than one part go through `put` and `get` part by part."""

import json
import os

import pytest

from coatcheck.payloads.claim import Claim
from coatcheck.types import Digest
from tests.cli.command import Command

MIB = 1024 * 1024
DATA = b"".join(number.to_bytes(4, "big") * (MIB // 4) for number in range(20))


@pytest.fixture(params=["local", "remote"])
def command(request: pytest.FixtureRequest) -> Command:
    found: Command = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("source", ["-", "in"])
def test_a_stream_goes_in_and_comes_out(command: Command, source: str) -> None:
    (command.home / "in").write_bytes(DATA)
    stdin = DATA if source == "-" else b""
    claim = Claim.parse(command.succeed("put", source, stdin=stdin).text)
    assert (claim.digest, claim.size_bytes) == (Digest.of(DATA), len(DATA))
    assert claim.parts is not None
    assert command.succeed("get", str(claim)).out == DATA
    command.succeed("get", str(claim), "-o", "out")
    assert (command.home / "out").read_bytes() == DATA
    whole = str(Claim(claim.digest, claim.size_bytes, claim.store))
    assert command.succeed("get", whole).out == DATA
    command.succeed("get", whole, "-o", "out")
    assert (command.home / "out").read_bytes() == DATA


def test_a_limit_holds_for_streams_too(command: Command) -> None:
    command.fail(6, "put", "-", "--max-payload-bytes", str(len(DATA) - 1), stdin=DATA)
    claim = command.succeed("put", "-", stdin=DATA).text
    command.fail(6, "get", claim, "--max-payload-bytes", str(len(DATA) - 1))


def test_a_file_is_not_touched_by_a_stream_that_ends_badly(local: Command) -> None:
    claim = Claim.parse(local.succeed("put", "-", stdin=DATA).text)
    stored = next(local.home.rglob(claim.digest.hex))
    damaged = bytearray(DATA)
    damaged[-1] ^= 1
    stored.write_bytes(damaged)
    (local.home / "out").write_bytes(b"old")
    for given in (claim, Claim(claim.digest, claim.size_bytes, claim.store)):
        local.fail(5, "get", str(given), "-o", "out")
        assert (local.home / "out").read_bytes() == b"old"
        assert list(local.home.glob(".out.*")) == []
    assert json.loads(str(claim))["parts"].startswith("sha256:")


def test_sweep_removes_what_is_old(local: Command) -> None:
    local.succeed("put", "-", stdin=b"payload")
    temporary = next(local.home.rglob(".coatcheck-tmp"))
    (temporary / "young").write_bytes(b"still under way, maybe")
    (temporary / "old").write_bytes(b"left by a process that was killed")
    os.utime(temporary / "old", (1_600_000_000, 1_600_000_000))
    assert local.succeed("sweep", "--json").value == {
        "removed": "draft",
        "key": ".coatcheck-tmp/old",
        "begun": "2020-09-13T12:26:40+00:00",
    }
    assert {path.name for path in temporary.iterdir() if "lock" not in path.name} == {"young"}
    assert local.succeed("sweep").text.startswith("0 removed")
    assert local.run("sweep", "--older-than-hours", "0.5").code == 2

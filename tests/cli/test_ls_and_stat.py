"""What lies in a store, and what is known about a payload."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coatcheck import Digest
from tests.cli.command import Command

PAYLOADS = [b"one", b"two" * 1000, b""]


@pytest.fixture(params=["local", "remote"])
def command(request: pytest.FixtureRequest) -> Command:
    found: Command = request.getfixturevalue(request.param)
    return found


def test_an_empty_store_is_no_error(command: Command) -> None:
    assert command.succeed("ls").out == b""
    assert command.succeed("ls", "--json").out == b""


def test_every_payload_is_a_line(command: Command) -> None:
    for payload in PAYLOADS:
        command.succeed("put", "-", stdin=payload)
    heading, *lines = command.succeed("ls").text.splitlines()
    assert heading.split() == ["DIGEST", "SIZE", "STORED"]
    digests = sorted(Digest.of(payload).hex for payload in PAYLOADS)
    assert [line.split()[0] for line in lines] == [digest[:12] for digest in digests]
    assert any("2.9 KiB" in line for line in lines)
    assert all(line.endswith("just now") for line in lines)


def test_a_program_gets_claims_that_fetch_the_payloads(command: Command) -> None:
    for payload in PAYLOADS:
        command.succeed("put", "-", stdin=payload)
    found = [json.loads(line) for line in command.succeed("ls", "--json").text.splitlines()]
    assert [set(item) for item in found] == [{"claim", "key", "last_modified"}] * 3
    for item in found:
        assert abs(datetime.now(UTC) - datetime.fromisoformat(item["last_modified"])) < timedelta(
            minutes=5
        )
    fetched = [command.succeed("get", json.dumps(item["claim"])).out for item in found]
    assert sorted(fetched) == sorted(PAYLOADS)


def test_listing_a_url_makes_its_claims_readable(local: Command, tmp_path: Path) -> None:
    url = (tmp_path / "shared").as_uri()
    local.succeed("put", "-", "--to", url, stdin=b"payload")
    reader = Command(tmp_path / "reader")
    reader.home.mkdir()
    claim = json.dumps(reader.succeed("ls", url, "--json").value["claim"])
    assert json.loads(claim)["store"] == "shared"
    assert reader.succeed("get", claim).out == b"payload"


def test_stat_tells_what_is_known(command: Command) -> None:
    claim = command.succeed("put", "-", stdin=b"two" * 1000).text
    digest = Digest.of(b"two" * 1000).hex
    lines = command.succeed("stat", claim).text.splitlines()
    told = dict(line.split(maxsplit=1) for line in lines)
    assert told["payload"] == f"sha256:{digest}"
    assert told["size"] == "2.9 KiB (3,000 bytes)"
    assert told["stored"].startswith("just now, ")
    assert told["store"].startswith("default, ")
    assert told["key"] == f"v1/sha256/{digest[:2]}/{digest}"
    assert told["etag"].startswith('"')


def test_stat_for_programs(command: Command) -> None:
    claim = command.succeed("put", "-", stdin=b"one").text
    told = command.succeed("stat", claim, "--json").value
    assert set(told) == {"claim", "key", "location", "size_bytes", "etag", "last_modified"}
    assert told["claim"] == json.loads(claim)
    assert told["size_bytes"] == 3
    assert datetime.fromisoformat(told["last_modified"]).tzinfo is not None

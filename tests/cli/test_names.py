"""Which name a store's URL gets, and that it is found again."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from coatcheck import Claim, ClaimRejected, ConfigError, Digest
from coatcheck.cli import names


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://my-bucket", "my-bucket"),
        ("s3://my-bucket/a/b/", "my-bucket/a/b"),
        ("s3://my-bucket/Reports%20of%202026?region=eu-west-1", "my-bucket/reports-of-2026"),
        ("s3://arn%3Aaws%3As3%3Aeu-west-1%3A123456789012%3Aaccesspoint%2Fmine", "arn-aws-s3-eu"),
        ("file:///var/lib/payloads", "payloads"),
        ("file:///var/lib/payloads/", "payloads"),
        ("file:///", "store"),
        ("file:///var/%C3%BC", "store"),
        ("s3://my-bucket/" + "long/" * 50, "my-bucket/long/long"),
    ],
)
def test_a_url_gets_a_name_that_a_claim_can_carry(url: str, name: str) -> None:
    given = names.remember(url)
    assert given.startswith(name)
    assert Claim(Digest.of(b""), 0, given).store == given
    assert names.url_of(given) == url


def test_a_place_keeps_its_name_and_its_last_url(home: Path) -> None:
    assert names.remember("s3://bucket/a?region=eu-west-1") == "bucket/a"
    assert names.remember("s3://bucket/a/?region=eu-west-1&max_attempts=9") == "bucket/a"
    assert names.url_of("bucket/a") == "s3://bucket/a/?region=eu-west-1&max_attempts=9"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("file:///a/payloads", "file:///b/payloads"),
        ("s3://bucket?endpoint=http://one.example", "s3://bucket?endpoint=http://two.example"),
        ("s3://bucket/a.b", "s3://bucket/A.B"),
    ],
)
def test_two_places_never_share_a_name(first: str, second: str) -> None:
    one, two = names.remember(first), names.remember(second)
    assert one != two
    assert two.startswith(f"{one}-")
    assert (names.url_of(one), names.url_of(two)) == (first, second)
    assert (names.remember(first), names.remember(second)) == (one, two)


def test_no_place_is_called_as_the_default_store_is() -> None:
    assert names.remember("s3://default") != "default"


def test_a_name_that_nobody_gave_is_refused() -> None:
    with pytest.raises(ClaimRejected, match="--from"):
        names.url_of("somebody/elses")


def test_a_url_that_cannot_be_right_is_not_remembered() -> None:
    with pytest.raises(ConfigError):
        names.remember("s3://key:secret@bucket")
    assert not names.names_file().exists()


def test_the_file_is_the_users_own() -> None:
    names.remember("s3://bucket")
    file = names.names_file()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert json.loads(file.read_text()) == {"version": 1, "stores": {"bucket": "s3://bucket"}}
    assert sorted(os.listdir(file.parent)) == ["stores.json", "stores.lock"]


def test_folders_are_where_the_user_keeps_such_things(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert names.names_file() == home / ".config/coatcheck/stores.json"
    assert names.default_url() == (home / ".local/share/coatcheck/store").as_uri()
    monkeypatch.setenv("XDG_CONFIG_HOME", "/settings")
    monkeypatch.setenv("XDG_DATA_HOME", "relative/paths/are/ignored")
    assert names.names_file() == Path("/settings/coatcheck/stores.json")
    assert names.default_url() == (home / ".local/share/coatcheck/store").as_uri()
    monkeypatch.setenv("COATCHECK_STORE", "s3://bucket")
    assert names.default_url() == names.url_of("default") == "s3://bucket"


def test_many_commands_at_once_lose_no_name() -> None:
    program = "import sys; from coatcheck.cli import names; names.remember(sys.argv[1])"
    urls = [f"file:///{number}/payloads" for number in range(12)]
    running = [subprocess.Popen([sys.executable, "-c", program, url]) for url in urls]
    assert [process.wait(60) for process in running] == [0] * len(urls)
    stores = json.loads(names.names_file().read_text())["stores"]
    assert sorted(stores.values()) == sorted(urls)

"""The Temporal act's verdict on itself, and its table on narrow and wide screens."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from demo.screen import Screen
from demo.temporal.history import Reference
from demo.temporal.outcome import Moved, StoredObject, TemporalOutcome

DIGEST = "ab" * 32
RUN = "v0/ns/default/wt/Publish/wi/the-cloakroom/ri/0199c0de-0000-7000-8000-000000000000"


def reference(number: int) -> Reference:
    claim = {
        "bucket": "payloads",
        "key": f"{RUN}/d/sha256/{number}{DIGEST[1:]}",
        "hash_algorithm": "sha256",
        "hash_value": f"{number}{DIGEST[1:]}",
    }
    return Reference(f"payload {number}", 3 * 1024 * 1024, claim, 431)


def outcome() -> TemporalOutcome:
    references = [reference(number) for number in range(6)]
    return TemporalOutcome(
        moved=[Moved(item, store_seconds=0.04, retrieve_seconds=0.02) for item in references],
        objects=[
            StoredObject(item.key, item.size_bytes, item.claim["hash_value"]) for item in references
        ],
        history_bytes=4000,
        refusal="Blob data size exceeds limit.",
        result_sha256=DIGEST,
        expected_sha256=DIGEST,
    )


def test_what_is_right_has_no_problems() -> None:
    assert outcome().problems == []


def test_a_wrong_result_is_a_problem() -> None:
    assert "the result" in replace(outcome(), result_sha256="cd" * 32).problems[0]


def test_a_missing_object_is_a_problem() -> None:
    found = outcome()
    problems = replace(found, objects=found.objects[1:]).problems
    assert problems == [f"there is no object for the payload 0: {found.objects[0].key}"]


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda item: replace(item, size_bytes=7), id="size"),
        pytest.param(lambda item: replace(item, sha256="cd" * 32), id="digest"),
    ],
)
def test_an_altered_object_is_a_problem(alter: Callable[[StoredObject], StoredObject]) -> None:
    found = outcome()
    first, *others = found.objects
    problems = replace(found, objects=[alter(first), *others]).problems
    assert problems == ["the object of the payload 0 is not what its claim says"]


def test_a_payload_that_stayed_in_the_history_is_a_problem() -> None:
    found = outcome()
    assert "5 payloads" in replace(found, moved=found.moved[:5]).problems[0]


def test_the_history_without_claims_is_the_one_with_them_and_the_payloads_in_their_place() -> None:
    assert outcome().history_bytes_without == 4000 + 6 * (3 * 1024 * 1024 - 431)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_keeps_to_the_screen_and_shows_what_tells_payloads_apart(
    columns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen(to_stderr=False)
    screen.resize(columns)
    outcome().show(screen)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= columns
    keys = [line for line in lines if "/d/sha256/" in line]
    assert len(keys) == 6
    assert all(f"/d/sha256/{number}" in key for number, key in enumerate(keys))


def test_an_object_shared_by_two_payloads_is_shown_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = outcome()
    again = replace(found.moved[0], reference=replace(found.moved[0].reference, role="another"))
    replace(found, moved=[*found.moved[:5], again]).show(Screen(to_stderr=False))
    assert "the object of the payload 0" in capsys.readouterr().out

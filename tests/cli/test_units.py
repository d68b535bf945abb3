from datetime import UTC, datetime, timedelta

import pytest

from coatcheck.cli import units


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (64 * 1024**2, "64.0 MiB"),
        (1024**3, "1.0 GiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_sizes(size_bytes: int, shown: str) -> None:
    assert units.size(size_bytes) == shown


@pytest.mark.parametrize(
    ("ago", "shown"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(seconds=61), "1 minute ago"),
        (timedelta(hours=23, minutes=59), "23 hours ago"),
        (timedelta(days=3), "3 days ago"),
        (timedelta(days=65), "2 months ago"),
        (timedelta(days=800), "2 years ago"),
    ],
)
def test_ages(ago: timedelta, shown: str) -> None:
    assert units.age(datetime.now(UTC) - ago) == shown


def test_an_age_that_is_not_known() -> None:
    assert units.age(None) == "-"


def test_counts() -> None:
    assert [units.count(number, "byte") for number in (0, 1, 2000)] == [
        "0 bytes",
        "1 byte",
        "2,000 bytes",
    ]

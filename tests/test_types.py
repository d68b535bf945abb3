"""The values: strict about what they are made of, frozen, and able to cross processes."""

import hashlib
import pickle
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import ClaimRejected
from coatcheck.types import (
    NO_ATTRIBUTES,
    Attributes,
    ByteRange,
    DeleteFailure,
    Digest,
    Fetched,
    IfAbsent,
    IfMatch,
    ObjectInfo,
)

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.binary(max_size=200))
def test_a_digest_is_the_sha256_of_any_buffer(data):
    expected = hashlib.sha256(data).hexdigest()
    assert Digest.of(data).hex == expected
    assert Digest.of(bytearray(data)) == Digest.of(memoryview(data)) == Digest(expected)


def test_the_text_of_a_digest_reads_back():
    digest = Digest.of(b"")
    assert str(digest) == f"sha256:{EMPTY}"
    assert Digest.parse(str(digest)) == digest
    assert digest.algorithm == "sha256"


@pytest.mark.parametrize(
    "text",
    [
        "",
        EMPTY,
        f"sha256:{EMPTY.upper()}",
        f"SHA256:{EMPTY}",
        f"md5:{EMPTY}",
        f"sha256:{EMPTY[:-1]}",
        f"sha256:{EMPTY}0",
        f"sha256:{EMPTY}\n",
        f"sha256: {EMPTY}",
        f"sha256::{EMPTY}",
        f"sha256:{'g' * 64}",
        f"sha256:{'٣' * 64}",
        "sha256:../../../etc/passwd",
    ],
)
def test_what_is_not_a_digest_is_refused_with_a_remedy(text):
    with pytest.raises(ClaimRejected) as caught:
        Digest.parse(text)
    assert "64" in caught.value.remedy
    assert str(caught.value).isprintable()


def test_a_long_impostor_of_a_digest_does_not_fill_the_log():
    with pytest.raises(ClaimRejected) as caught:
        Digest.parse("x" * 100_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 0), (0, -1)])
def test_impossible_ranges_are_refused(start, length):
    with pytest.raises(ValueError, match="no such range"):
        ByteRange(start, length)


@pytest.mark.parametrize(
    "value",
    [
        Digest(EMPTY),
        ByteRange(3, 5),
        IfAbsent(),
        IfMatch('"e"'),
        ObjectInfo("k", 1, '"e"', datetime(2026, 1, 1, tzinfo=UTC)),
        Fetched(b"x", 1, '"e"'),
        DeleteFailure("k", "AccessDenied", "no"),
    ],
)
def test_values_are_frozen_comparable_hashable_and_pickle(value):
    name = next(iter(value.__slots__), "anything")
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        setattr(value, name, 1)
    assert not hasattr(value, "__dict__")
    back = pickle.loads(pickle.dumps(value))
    assert back == value
    assert hash(back) == hash(value)


def test_attributes_default_to_nothing():
    assert Attributes(None, None, {}) == NO_ATTRIBUTES


def test_two_conditions_of_different_kind_are_never_equal():
    conditions: list[object] = [IfAbsent(), IfMatch("*")]
    assert conditions[0] != conditions[1]

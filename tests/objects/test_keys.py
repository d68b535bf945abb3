"""What may name an object."""

import pytest

from coatcheck.errors import ConfigError
from coatcheck.objects.keys import check_key, check_s3_key, is_key, join_prefix


@pytest.mark.parametrize(
    "key",
    ["a", "a/b", "...", ".a", "a.", "a b", "\u00fc/\U0001f9e5", "k" * 1024, "\u00e9" * 512, "a\nb"],
)
def test_a_key_is_returned_as_it_is(key):
    assert check_key(key) == check_s3_key(key) == key
    assert is_key(key)


@pytest.mark.parametrize("key", ["", "k" * 1025, "\u00e9" * 513, "\U0001f9e5" * 257, "\ud800"])
def test_what_s3_cannot_hold_is_no_key_anywhere(key):
    assert not is_key(key)
    for check in (check_key, check_s3_key):
        with pytest.raises(ConfigError) as caught:
            check(key)
        assert caught.value.remedy


@pytest.mark.parametrize(
    "key", ["/a", "a/", "/", "a//b", ".", "..", "a/./b", "../a", "a/..", "a\0b", "./a"]
)
def test_what_a_folder_cannot_hold_is_a_key_for_s3_alone(key):
    assert check_s3_key(key) == key
    assert not is_key(key)
    with pytest.raises(ConfigError):
        check_key(key)


def test_an_error_shows_a_hostile_key_on_one_short_line():
    with pytest.raises(ConfigError) as caught:
        check_key("forged\nline/../" + "x" * 900)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 300


@pytest.mark.parametrize(
    ("prefix", "key", "joined"),
    [
        ("", "a/b", "a/b"),
        ("p", "a", "p/a"),
        ("p/q/", "a", "p/q/a"),
        ("p", "", "p/"),
        ("", "", ""),
    ],
)
def test_a_prefix_and_a_key_are_parted_by_one_slash(prefix, key, joined):
    assert join_prefix(prefix, key) == joined

"""Settings and URLs: wrong ones are refused by name, and no secret in them is repeated."""

import copy
import dataclasses
import pickle
import traceback
import typing
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import blocking, opening
from coatcheck.errors import ConfigError
from coatcheck.settings import (
    LONGEST_SECONDS,
    Location,
    S3Arguments,
    S3Settings,
    check_positive,
    parse_url,
)

CANARY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYcanary"
KEYS: Any = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": CANARY}


def test_arguments_and_settings_have_the_same_fields_of_the_same_types():
    settings = {field.name: field.type for field in dataclasses.fields(S3Settings)}
    assert typing.get_type_hints(S3Arguments) == settings


def test_the_docstring_names_every_setting_and_every_default():
    text = S3Settings.__doc__ or ""
    for field in dataclasses.fields(S3Settings):
        assert field.name in text, field.name
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            start = text.index(field.name)
            assert f"({field.default:g}" in text[start : start + 60], field.name


@pytest.mark.parametrize(
    ("arguments", "named", "remedy"),
    [
        ({"access_key_id": "a"}, "access_key_id is given without secret_access_key", "both"),
        ({"secret_access_key": CANARY}, "secret_access_key is given without", "both"),
        ({"session_token": CANARY}, "session_token is given without access_key_id", "keys"),
        ({**KEYS, "profile": "p"}, "profile and access_key_id", "one of the two"),
        ({"addressing_style": "sideways"}, "addressing_style is 'sideways'", "auto, path, virtual"),
        ({"server_side_encryption": "rot13"}, "server_side_encryption is 'rot13'", "AES256"),
        ({"kms_key_id": "k"}, "kms_key_id has no effect", "aws:kms"),
        ({"kms_key_id": "k", "server_side_encryption": "AES256"}, "kms_key_id", "aws:kms"),
        ({"expected_bucket_owner": "123"}, "expected_bucket_owner is '123'", "12 digits"),
        ({"expected_bucket_owner": "٣" * 12}, "expected_bucket_owner is", "12 digits"),
        ({"tags": {str(i): "" for i in range(11)}}, "11 tags", "at most 10"),
        ({"connect_timeout_seconds": 0}, "connect_timeout_seconds is 0", "above 0"),
        ({"stall_timeout_seconds": -1}, "stall_timeout_seconds is -1", "above 0"),
        ({"request_timeout_seconds": float("nan")}, "request_timeout_seconds is nan", "above 0"),
        ({"request_timeout_seconds": float("inf")}, "is inf", "at most 31,536,000"),
        ({"request_timeout_seconds": 1e300}, "request_timeout_seconds is 1e+300", "at most"),
        ({"request_timeout_seconds": "60"}, "request_timeout_seconds is '60'", "number"),
        ({"connect_timeout_seconds": True}, "connect_timeout_seconds is True", "above 0"),
        ({"max_attempts": 0}, "max_attempts is 0", "above 0"),
        ({"max_attempts": 2.5}, "max_attempts is 2.5", "whole number"),
        ({"proxy": f"ftp://me:{CANARY}@host"}, "the proxy has the scheme 'ftp'", "socks5"),
        ({"endpoint_url": f"http://me:{CANARY}@host"}, "endpoint_url holds credentials", "Give"),
    ],
)
def test_an_impossible_setting_is_refused_by_name_and_without_its_secrets(arguments, named, remedy):
    with pytest.raises(ConfigError) as caught:
        S3Settings(**arguments)
    assert named in caught.value.message
    assert remedy in caught.value.remedy
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_the_largest_and_smallest_timeouts_are_accepted():
    for seconds in (0.001, 1, LONGEST_SECONDS):
        assert S3Settings(request_timeout_seconds=seconds).request_timeout_seconds == seconds


@given(
    st.one_of(st.none(), st.text(), st.binary(), st.floats(max_value=0), st.integers(max_value=0))
)
def test_check_positive_raises_nothing_but_config_errors(value):
    with pytest.raises(ConfigError):
        check_positive("size", value)


def test_settings_are_frozen_and_do_not_see_later_changes_to_the_callers_dicts():
    tags = {"team": "a"}
    settings = S3Settings(tags=tags, extra_headers=tags)
    tags["team"] = "b"
    assert settings.tags == settings.extra_headers == {"team": "a"}
    with pytest.raises(TypeError):
        settings.tags["team"] = "c"  # type: ignore[index] # that is the point
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.region = "x"  # type: ignore[misc] # that is the point


def test_secrets_stay_out_of_repr_and_pickles():
    settings = S3Settings(
        **KEYS,
        session_token=CANARY,
        proxy=f"http://me:{CANARY}@proxy",
        extra_headers={"x-amz-server-side-encryption-customer-key": CANARY},
    )
    assert CANARY not in repr(settings)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled") as caught:
            leak(settings)
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket", Location("s3", "bucket", "", {})),
        ("s3://bucket/", Location("s3", "bucket", "", {})),
        ("s3://bucket/a/b/", Location("s3", "bucket", "a/b", {})),
        ("s3://bucket/a%20b/%3F%23%25", Location("s3", "bucket", "a b/?#%", {})),
        ("s3://bucket/a+b?region=r+1", Location("s3", "bucket", "a+b", {"region": "r 1"})),
        (
            "s3://arn%3Aaws%3As3%3Aeu-west-1%3A123456789012%3Aaccesspoint%2Fmine/p",
            Location("s3", "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine", "p", {}),
        ),
        (
            "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/mine/p?region=r",
            Location(
                "s3", "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine", "p", {"region": "r"}
            ),
        ),
        (
            "s3://b?endpoint=http://127.0.0.1:9000&region=",
            Location("s3", "b", "", {"endpoint": "http://127.0.0.1:9000", "region": ""}),
        ),
        ("file:///var/lib/x%20y", Location("file", "", "/var/lib/x y", {})),
        ("file://localhost/a", Location("file", "", "/a", {})),
        ("memory://", Location("memory", "", "", {})),
        ("memory://name/below/", Location("memory", "name", "below", {})),
        ("S3://bucket/K", Location("s3", "bucket", "K", {})),
    ],
)
def test_urls_name_places(url, expected):
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("", "scheme 'none'"),
        ("bucket/prefix", "scheme 'none'"),
        ("gs://bucket", "scheme 'gs'"),
        ("https://bucket.s3.amazonaws.com", "scheme 'https'"),
        ("s3:///prefix", "names no bucket"),
        ("s3://bucket:9000/prefix", "names no bucket"),
        ("s3://bucket/a#b", "fragment"),
        ("s3://[bucket/", "cannot be read"),
        ("s3://bucket:port/", "cannot be read"),
        ("s3://b?region=a&region=b", "region twice"),
        ("file://host/path", "absolute path"),
        ("file:relative", "absolute path"),
        ("file:///a?region=x", "takes no options"),
        ("memory://a?region=x", "takes no options"),
    ],
)
def test_a_url_that_names_no_place_is_refused_with_a_remedy(url, named):
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert named in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIDEXAMPLE:{CANARY}@bucket/prefix",
        "s3://AKIDEXAMPLE:canary@bucket/prefix",
        "s3://canary@bucket",
        f"s3://bucket?secret_access_key={CANARY}",
        f"s3://bucket?session_token={CANARY}",
        f"s3://bucket?access_key_id={CANARY}&secret_access_key={CANARY}",
        f"s3://bucket?aws_secret={CANARY}",
        f"s3://bucket?Security-Token={CANARY}",
        f"s3://bucket?endpoint=http://me:{CANARY}@host",
        f"s3://bucket?proxy=http://me:{CANARY}@host",
        f"memory://canary:{CANARY}@name",
        f"gs://canary:{CANARY}@name",
    ],
)
@pytest.mark.parametrize("open_at", [opening.open_store, blocking.open_store, opening.open_objects])
def test_a_secret_in_a_url_is_refused_and_never_repeated(open_at, url):
    with pytest.raises(ConfigError) as caught:
        open_at(url)
    told = "".join(traceback.format_exception(caught.value))
    # What is looked for is in the URL, which the source lines of a traceback do not show.
    for secret in (CANARY, "canary", CANARY.split("/", maxsplit=1)[0]):
        assert secret not in told
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("options", "suggestion"),
    [
        ({"regoin": "x"}, "Did you mean region?"),
        ({"end_point": "x"}, "Did you mean endpoint?"),
        ({"storage_clas": "x"}, "Did you mean storage_class?"),
        ({"zzz": "x"}, "There are: addressing_style, "),
    ],
)
def test_a_misspelt_option_of_a_url_is_told_the_right_name(options, suggestion):
    with pytest.raises(ConfigError, match="there is no setting") as caught:
        Location("s3", "b", "", options).settings({})
    assert caught.value.remedy.startswith(suggestion)
    assert "secret_access_key" not in caught.value.remedy, "it must not invite a secret into a URL"


@pytest.mark.parametrize("open_at", [opening.open_store, blocking.open_store])
@pytest.mark.parametrize("url", ["s3://bucket", "memory://x", "file:///x"])
def test_a_misspelt_argument_is_told_the_right_name_by_every_store(open_at, url):
    with pytest.raises(ConfigError) as caught:
        open_at(url, storage_clas="x")
    assert caught.value.remedy == "Did you mean storage_class?"


def test_what_is_no_option_of_a_url_is_refused_even_if_it_is_a_setting():
    for name in ("tags", "extra_headers", "proxy"):
        with pytest.raises(ConfigError, match=name):
            Location("s3", "b", "", {name: "x"}).settings({})


def test_one_setting_under_two_names_is_refused():
    options = {"endpoint": "http://a", "endpoint_url": "http://b"}
    with pytest.raises(ConfigError, match="endpoint_url twice"):
        Location("s3", "b", "", options).settings({})


def test_the_options_of_a_url_have_the_types_of_the_settings():
    options = {
        "endpoint": "http://127.0.0.1:9",
        "max_attempts": "3",
        "request_timeout_seconds": "1.5",
        "use_fips": "no",
        "use_dualstack": "TRUE",
        "addressing_style": "path",
    }
    made = Location("s3", "b", "", options).settings({})
    assert (made.endpoint_url, made.max_attempts) == ("http://127.0.0.1:9", 3)
    assert made.request_timeout_seconds == 1.5
    assert made.use_fips is False
    assert made.use_dualstack is True


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max_attempts", "3.5"),
        ("max_attempts", "many"),
        ("request_timeout_seconds", "soon"),
        ("use_fips", "perhaps"),
        ("addressing_style", "sideways"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused_by_name(name, text):
    with pytest.raises(ConfigError, match=name) as caught:
        Location("s3", "b", "", {name: text}).settings({})
    assert caught.value.remedy


def test_arguments_win_over_the_url():
    made = Location("s3", "b", "", {"region": "a", "max_attempts": "2"}).settings({"region": "b"})
    assert (made.region, made.max_attempts) == ("b", 2)


@given(st.text(max_size=60))
def test_no_text_makes_the_url_reader_raise_anything_but_config_errors(text):
    for url in (text, f"s3://{text}", f"s3://b?{text}", f"file://{text}", f"memory://{text}"):
        with suppress(ConfigError):
            parse_url(url).settings({})


@pytest.mark.parametrize("bucket", ["ab", "a..b", "192.168.0.1", "xn--abc", "-abc", "x" * 300])
def test_an_impossible_bucket_is_refused_when_the_store_is_opened(bucket):
    with pytest.raises(ConfigError, match="bucket") as caught:
        opening.open_store(f"s3://{bucket}/prefix")
    assert caught.value.remedy

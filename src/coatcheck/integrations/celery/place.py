"""Where the results go: from the result backend's URL and the `s3_*` settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from celery.exceptions import ImproperlyConfigured

from coatcheck.settings import S3Arguments

_FROM_CONFIGURATION = {
    "s3_access_key_id": "access_key_id",
    "s3_secret_access_key": "secret_access_key",
    "s3_session_token": "session_token",
    "s3_endpoint_url": "endpoint_url",
    "s3_region": "region",
}

_OWN_SCHEMES = frozenset({"", "coatcheck"})
"""Of a URL that is only the backend's name: everything else is in the settings."""


@dataclass(frozen=True, slots=True)
class Place:
    """A store's URL and arguments, and what every key of the results in it begins with."""

    url: str
    base: str
    arguments: S3Arguments = field(repr=False)


def find_place(url: str | None, configuration: Mapping[str, Any]) -> Place:
    """Return where the results go. No I/O.

    What the URL says wins over the settings, part by part (bucket, path, each option), and both
    win over the environment. Raises ImproperlyConfigured for what cannot be right.
    """
    parts = urlsplit(url or "")
    if parts.scheme in _OWN_SCHEMES and (parts.netloc or parts.path.strip("/") or parts.query):
        raise ImproperlyConfigured(
            "The result backend's URL has no scheme for its place: write"
            " coatcheck+s3://bucket/prefix, coatcheck+file:///path or coatcheck+memory://name"
        )
    if parts.scheme in _OWN_SCHEMES or parts.scheme == "s3":
        return _s3_place(parts.netloc, parts.path, parts.query, parts.fragment, configuration)
    return Place(url or "", "", {})


def _s3_place(
    netloc: str, path: str, query: str, fragment: str, configuration: Mapping[str, Any]
) -> Place:
    bucket = netloc or quote(str(configuration.get("s3_bucket") or ""), safe="")
    if not bucket:
        raise ImproperlyConfigured(
            "Missing bucket name: set s3_bucket, or write it into the result backend's URL,"
            " coatcheck+s3://bucket/prefix"
        )
    in_url = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    arguments: dict[str, Any] = dict(configuration.get("s3_options") or {})
    for setting, name in _FROM_CONFIGURATION.items():
        if (value := configuration.get(setting)) is not None:
            arguments[name] = value
    for name in in_url:
        arguments.pop({"endpoint": "endpoint_url"}.get(name, name), None)
    return Place(
        urlunsplit(("s3", bucket, "", query, fragment)),
        _base(path, configuration),
        cast("S3Arguments", arguments),  # checked, by name and value, where the store is opened
    )


def _base(path: str, configuration: Mapping[str, Any]) -> str:
    """Return what keys begin with: the URL's path as a folder, or s3_base_path as Celery joins it.

    Celery's own backend puts s3_base_path before the key with nothing in between, so "results"
    gives "resultscelery-task-meta-...": results that lie in a bucket lie there.
    """
    if path.strip("/"):
        return unquote(path).strip("/") + "/"
    base = str(configuration.get("s3_base_path") or "")
    if base and configuration.get("s3_base_path_join"):
        return base.strip("/") + "/"
    return base


def check_credentials(place: Place) -> None:
    """Raise ImproperlyConfigured if there are no credentials for an S3 place.

    No I/O where they are given or in the environment; else botocore's chain is asked, once per
    process and profile.
    """
    if not place.url.startswith("s3:") or place.arguments.get("access_key_id"):
        return
    options = dict(parse_qsl(urlsplit(place.url).query))
    profile = place.arguments.get("profile") or options.get("profile")
    in_environment = "AWS_ACCESS_KEY_ID" in os.environ and "AWS_SECRET_ACCESS_KEY" in os.environ
    if (profile is None and in_environment) or _chain_has_credentials(profile):
        return
    raise ImproperlyConfigured(
        "Missing aws s3 creds: set s3_access_key_id and s3_secret_access_key, or AWS_ACCESS_KEY_ID"
        " and AWS_SECRET_ACCESS_KEY in the environment, or name a profile in the URL"
        " (?profile=...), or give the machine a role"
    )


@lru_cache(maxsize=16)
def _chain_has_credentials(profile: str | None) -> bool:
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        return Session(profile=profile).get_credentials() is not None
    except BotoCoreError as error:
        raise ImproperlyConfigured(f"The AWS credentials cannot be found: {error}") from error

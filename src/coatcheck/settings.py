"""Settings: frozen, checked when made, read from arguments and URLs. Sizes in bytes, durations in
seconds, as their names say."""

import difflib
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from coatcheck.errors import ConfigError, printable

MIB = 1024 * 1024
LONGEST_SECONDS = 365 * 86_400.0
"""What a timeout may be at most; nothing that waits for a year is waited for."""

_ACCESS_POINT = re.compile(r"^s3://(arn:[^/?#]*:accesspoint[/:][^/?#:]+)")

_PROXY_SCHEMES = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})

AddressingStyle = Literal["auto", "path", "virtual"]
ServerSideEncryption = Literal["AES256", "aws:kms", "aws:kms:dsse"]


@dataclass(frozen=True, kw_only=True)
class S3Settings:
    """How to reach S3, and what to ask of it on every write.

    Where to go: region (default: AWS_REGION, AWS_DEFAULT_REGION, the AWS profile, us-east-1),
    endpoint_url (default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile, AWS itself),
    addressing_style ("auto": the bucket in the host name on AWS, in the path elsewhere),
    use_fips, use_dualstack (default: AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT, the
    profile, no).

    Who asks: access_key_id, secret_access_key, session_token; or profile; default: the AWS_*
    environment variables, else the whole AWS chain of botocore.

    How to connect: ca_bundle (a PEM file, or "system"; default AWS_CA_BUNDLE, else certifi),
    proxy (a URL, or "" for none; default http_proxy, https_proxy, no_proxy),
    connect_timeout_seconds (5), stall_timeout_seconds (20; less than 1 KiB/s for so long ends
    an attempt), request_timeout_seconds (120; one request with all its retries), max_attempts (5).

    What to write with: server_side_encryption, kms_key_id, storage_class, tags (at most 10),
    expected_bucket_owner (a 12-digit account; sent with reads too), extra_headers.
    """

    region: str | None = None
    endpoint_url: str | None = None
    addressing_style: AddressingStyle = "auto"
    use_fips: bool | None = None
    use_dualstack: bool | None = None

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None

    ca_bundle: str | None = None
    proxy: str | None = field(default=None, repr=False)
    connect_timeout_seconds: float = 5.0
    stall_timeout_seconds: float = 20.0
    request_timeout_seconds: float = 120.0
    max_attempts: int = 5

    server_side_encryption: ServerSideEncryption | None = None
    kms_key_id: str | None = None
    storage_class: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    expected_bucket_owner: str | None = None
    extra_headers: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            given, missing = "access_key_id", "secret_access_key"
            if self.access_key_id is None:
                given, missing = missing, given
            raise ConfigError(f"{given} is given without {missing}", remedy="Give both, or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ConfigError(
                "session_token is given without access_key_id", remedy="Give the keys as well"
            )
        if self.profile is not None and self.access_key_id is not None:
            raise ConfigError(
                "profile and access_key_id are both given", remedy="Give one of the two"
            )
        for name in ("addressing_style", "server_side_encryption"):
            _check_choice(name, getattr(self, name), _choices(name))
        for name in ("connect_timeout_seconds", "stall_timeout_seconds", "request_timeout_seconds"):
            check_positive(name, getattr(self, name), at_most=LONGEST_SECONDS)
        check_positive("max_attempts", self.max_attempts)
        if not isinstance(self.max_attempts, int):
            raise ConfigError(
                f"max_attempts is {self.max_attempts!r}", remedy="Give a whole number"
            )
        if "@" in (self.endpoint_url or ""):
            raise ConfigError(
                "endpoint_url holds credentials",
                remedy="Give them as access_key_id and secret_access_key",
            )
        scheme, separator, _ = (self.proxy or "").partition("://")
        if separator and scheme.lower() not in _PROXY_SCHEMES:
            raise ConfigError(
                f"the proxy has the scheme {printable(scheme, 20)!r}",
                remedy=f"Give one of {', '.join(sorted(_PROXY_SCHEMES))}",
            )
        if self.kms_key_id is not None and self.server_side_encryption not in (
            "aws:kms",
            "aws:kms:dsse",
        ):
            raise ConfigError(
                "kms_key_id has no effect without server_side_encryption",
                remedy='Set server_side_encryption="aws:kms"',
            )
        owner = self.expected_bucket_owner
        if owner is not None and not (owner.isascii() and owner.isdigit() and len(owner) == 12):
            raise ConfigError(
                f"expected_bucket_owner is {printable(owner, 40)!r}",
                remedy="Give the 12 digits of an AWS account",
            )
        if len(self.tags) > 10:
            raise ConfigError(f"{len(self.tags)} tags are given", remedy="S3 takes at most 10")
        object.__setattr__(self, "tags", MappingProxyType(dict(self.tags)))
        object.__setattr__(self, "extra_headers", MappingProxyType(dict(self.extra_headers)))

    def __reduce__(self) -> typing.NoReturn:
        raise TypeError("S3Settings may hold secrets and are not pickled: pass the URL instead")


_SECRETS = frozenset({"access_key_id", "secret_access_key", "session_token"})
_NOT_IN_URL = frozenset({"tags", "extra_headers", "proxy"})
_URL_NAMES = {"endpoint": "endpoint_url"}


class S3Arguments(typing.TypedDict, total=False):
    """The fields of S3Settings as keyword arguments, for `**settings: Unpack[S3Arguments]`."""

    region: str | None
    endpoint_url: str | None
    addressing_style: AddressingStyle
    use_fips: bool | None
    use_dualstack: bool | None
    access_key_id: str | None
    secret_access_key: str | None
    session_token: str | None
    profile: str | None
    ca_bundle: str | None
    proxy: str | None
    connect_timeout_seconds: float
    stall_timeout_seconds: float
    request_timeout_seconds: float
    max_attempts: int
    server_side_encryption: ServerSideEncryption | None
    kms_key_id: str | None
    storage_class: str | None
    tags: Mapping[str, str]
    expected_bucket_owner: str | None
    extra_headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Location:
    """A place for objects as a URL names it: scheme, bucket (or memory name), prefix (or path)."""

    scheme: Literal["s3", "file", "memory"]
    bucket: str
    prefix: str
    options: Mapping[str, str]

    def settings(self, arguments: "S3Arguments") -> S3Settings:
        """Make the settings of an s3:// URL; `arguments` win over the URL's options."""
        known = {item.name: item for item in fields(S3Settings)}
        values: dict[str, Any] = {}
        for name, text in self.options.items():
            setting = _URL_NAMES.get(name, name)
            if setting not in known or setting in _NOT_IN_URL:
                raise unknown_setting(name, [*_URL_NAMES, *(set(known) - _SECRETS - _NOT_IN_URL)])
            if setting in values:
                raise ConfigError(f"the store's URL gives {setting} twice")
            values[setting] = _from_text(name, text, known[setting].type)
        for name in arguments:
            if name not in known:
                raise unknown_setting(name, list(known))
        return S3Settings(**{**values, **arguments})


def parse_url(url: str) -> Location:
    """Read s3://bucket/prefix?region=..., file:///path or memory://name.

    Raises ConfigError for anything else, and for a URL that holds a secret; the message never
    repeats it.
    """
    # An access point's ARN has colons, and a slash, where a URL has its host.
    url = _ACCESS_POINT.sub(lambda found: "s3://" + quote(found[1], safe=""), url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # Without its cause, which repeats the part that is wrong: it may be half a secret key.
        raise ConfigError("the store's URL cannot be read", remedy=_URL_HELP) from None
    if parts.password is not None or "@" in parts.netloc:
        raise ConfigError(
            "the store's URL holds credentials",
            remedy="Give them as arguments or in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if parts.fragment:
        raise ConfigError("the store's URL has a fragment (#)", remedy="Write it as %23")
    options = _options(parts)
    prefix = unquote(parts.path)
    match parts.scheme:
        case "s3":
            if not parts.netloc or port is not None:
                raise ConfigError("the store's URL names no bucket", remedy=_URL_HELP)
            return Location("s3", unquote(parts.netloc), prefix.strip("/"), options)
        case "file":
            if parts.netloc not in ("", "localhost") or not prefix.startswith("/"):
                raise ConfigError(
                    "a file URL names an absolute path", remedy="Write file:///absolute/path"
                )
            _refuse_options(options, "file")
            return Location("file", "", prefix, options)
        case "memory":
            _refuse_options(options, "memory")
            return Location("memory", unquote(parts.netloc), prefix.strip("/"), options)
        case _:
            scheme = printable(parts.scheme, 20) or "none"
            raise ConfigError(f"the store's URL has the scheme {scheme!r}", remedy=_URL_HELP)


_URL_HELP = (
    "Write s3://bucket/prefix?region=...&endpoint=..., file:///absolute/path or memory://name"
)


def _options(parts: SplitResult) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _SECRETS or "secret" in name.lower() or "token" in name.lower():
            raise ConfigError(
                f"the store's URL holds {printable(name, 40)}",
                remedy="Credentials never go into a URL: give them as arguments or in the"
                " environment",
            )
        if name in options:
            raise ConfigError(f"the store's URL gives {printable(name, 40)} twice")
        options[name] = value
    return options


def _refuse_options(options: Mapping[str, str], scheme: str) -> None:
    if options:
        raise ConfigError(
            f"a {scheme} URL takes no options, but has {printable(', '.join(options), 80)}"
        )


def unknown_setting(name: str, known: list[str]) -> ConfigError:
    """Make the error for a setting that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, known, 1)
    remedy = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(known))}"
    return ConfigError(f"there is no setting {printable(name, 40)!r}", remedy=remedy)


def check_positive(name: str, value: object, *, at_most: float = math.inf) -> None:
    """Raise ConfigError unless `value` is a finite number above 0, and not above `at_most`."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 < number <= at_most or number == math.inf:
        limit = f", at most {at_most:,.0f}" if at_most < math.inf else ""
        raise ConfigError(
            f"{name} is {printable(repr(value), 40)}", remedy=f"Give a number above 0{limit}"
        )


def _choices(name: str) -> tuple[str, ...]:
    kinds = {"addressing_style": AddressingStyle, "server_side_encryption": ServerSideEncryption}
    return typing.get_args(kinds[name])


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise ConfigError(
            f"{name} is {printable(str(value), 40)!r}", remedy=f"Give one of {', '.join(choices)}"
        )


def _from_text(name: str, text: str, kind: Any) -> str | float | bool:
    if kind == bool | None:
        if text.lower() in ("true", "1", "yes"):
            return True
        if text.lower() in ("false", "0", "no"):
            return False
        raise ConfigError(f"{name} is {printable(text, 40)!r}", remedy="Write true or false")
    if kind in (int, float):
        try:
            number: float = kind(text)
        except ValueError as error:
            raise ConfigError(
                f"{name} is {printable(text, 40)!r}", remedy="Write a number"
            ) from error
        return number
    return text

"""Where a request goes: the host, the path before the key, and the region that signs.

Follows botocore's own endpoint rules for S3 (the tests compare the two over every region it
knows), except that what botocore drops in silence or cannot sign is refused here by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from coatcheck.errors import ConfigError, printable

AddressingStyle = Literal["auto", "path", "virtual"]
"""Whether the bucket stands in the path or in the host name."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The fixed part of every request to one bucket.

    host: in lower case, with the port where it is not the scheme's default.
    path_prefix: what stands before `/` and the key, percent-encoded: "" or "/bucket", after the
        path of a custom endpoint if it has one.
    signing_region: the region to sign for; an access point's own, whatever was asked for.
    """

    scheme: str
    host: str
    path_prefix: str
    signing_region: str


@dataclass(frozen=True, slots=True)
class _Partition:
    """A part of AWS with accounts and a domain of its own."""

    name: str
    domain: str


_COMMERCIAL = _Partition("aws", "amazonaws.com")
_PARTITION_OF_REGION_PREFIX: Mapping[str, _Partition] = MappingProxyType(
    {
        "cn-": _Partition("aws-cn", "amazonaws.com.cn"),
        "us-gov-": _Partition("aws-us-gov", "amazonaws.com"),
        "us-iso-": _Partition("aws-iso", "c2s.ic.gov"),
        "us-isob-": _Partition("aws-iso-b", "sc2s.sgov.gov"),
        "eu-isoe-": _Partition("aws-iso-e", "cloud.adc-e.uk"),
        "us-isof-": _Partition("aws-iso-f", "csp.hci.ic.gov"),
        "eusc-": _Partition("aws-eusc", "amazonaws.eu"),
    }
)

_REGION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_BUCKET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{1,253}[A-Za-z0-9_]")
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?\.?")
_ENDPOINT_PATH = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)*/?")
_ACCESS_POINT = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):s3:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12})"
    r":accesspoint[/:](?P<name>[a-z0-9][a-z0-9-]{1,48}[a-z0-9])"
)
_UNSUPPORTED_SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        "--x-s3": "an S3 Express directory bucket",
        "--xa-s3": "an access point of an S3 Express directory bucket",
        "--ol-s3": "an S3 Object Lambda access point",
        "--op-s3": "an S3 on Outposts access point",
        "--table-s3": "an S3 table bucket",
        ".mrap": "a multi-region access point",
    }
)
_UNSUPPORTED_REMEDY = "Use a general purpose bucket, or an access point of one region"
_ARN_REMEDY = "An access point is written arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME"


def resolve(
    bucket: str,
    *,
    region: str,
    endpoint_url: str | None = None,
    addressing_style: AddressingStyle = "auto",
    use_fips: bool = False,
    use_dualstack: bool = False,
) -> Endpoint:
    """Find where requests for `bucket`, a name or an access point's ARN, must go.

    addressing_style: "auto" is path style on a custom endpoint and virtual-host style on AWS. A
        name that cannot be part of a host name goes into the path in every style; over HTTPS that
        is any name with a dot, since no certificate would match. An access point is always part
        of the host name.
    use_fips, use_dualstack: AWS's endpoints for these; not together with `endpoint_url`.

    us-east-1 alone has no region in its host name, as in botocore. Raises `ConfigError` for what
    cannot be right and for what coatcheck cannot address. Sends nothing; remembered per argument.
    """
    return _resolve(bucket, region, endpoint_url, addressing_style, use_fips, use_dualstack)


def validate_bucket(bucket: str) -> None:
    """Raise `ConfigError` unless `bucket` is a possible bucket name, or an access point's ARN.

    Names follow S3's rules (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html),
    with botocore's allowance for old buckets and other servers: upper case, underscores, and up
    to 255 characters.
    """
    if bucket.startswith("arn:"):
        _parse_access_point(bucket)
        return
    problem = _problem_with_name(bucket)
    if problem:
        raise ConfigError(
            f"{printable(bucket, 80)!r} cannot be a bucket: {problem}",
            remedy="A bucket's name has 3 to 63 lower-case letters, digits, hyphens and dots",
        )
    for suffix, kind in _UNSUPPORTED_SUFFIXES.items():
        if bucket.endswith(suffix):
            raise ConfigError(
                f"{printable(bucket, 80)!r} is {kind}, which coatcheck does not support",
                remedy=_UNSUPPORTED_REMEDY,
            )


@lru_cache(maxsize=256)
def _resolve(
    bucket: str,
    region: str,
    endpoint_url: str | None,
    addressing_style: AddressingStyle,
    use_fips: bool,
    use_dualstack: bool,
) -> Endpoint:
    validate_bucket(bucket)
    if not _REGION.fullmatch(region):
        raise ConfigError(
            f"{printable(region, 80)!r} cannot be a region",
            remedy="Regions look like eu-west-1; many other servers take us-east-1 or auto",
        )
    if endpoint_url is not None and (use_fips or use_dualstack):
        raise ConfigError(
            "FIPS and dual-stack endpoints are AWS's own; they cannot be asked of another endpoint",
            remedy="Give either the endpoint URL, or use_fips and use_dualstack",
        )
    if bucket.startswith("arn:"):
        return _access_point(bucket, region, endpoint_url, use_fips, use_dualstack)

    if endpoint_url is not None:
        server = _parse_endpoint_url(endpoint_url, region)
        wants_path = addressing_style != "virtual"
    else:
        server = Endpoint("https", _aws_host("s3", region, use_fips, use_dualstack), "", region)
        wants_path = addressing_style == "path"
    if wants_path or not _can_be_in_host(bucket, server):
        return replace(server, path_prefix=f"{server.path_prefix}/{bucket}")
    return replace(server, host=f"{bucket}.{server.host}")


def _problem_with_name(bucket: str) -> str:
    if not _BUCKET.fullmatch(bucket):
        return "its length, its first or last character, or another one is not allowed"
    if ".." in bucket:
        return "two dots stand side by side"
    if _IPV4.fullmatch(bucket):
        return "it looks like an IP address"
    if bucket.startswith("xn--"):
        return "names that begin with xn-- are reserved"
    return ""


def _can_be_in_host(bucket: str, server: Endpoint) -> bool:
    if _is_ip_address(server.host):
        return False
    labels = bucket.split(".") if server.scheme == "http" else [bucket]
    return all(_HOST_LABEL.fullmatch(label) for label in labels)


def _is_ip_address(host: str) -> bool:
    return host.startswith("[") or _IPV4.fullmatch(host.partition(":")[0]) is not None


def _partition_of(region: str) -> _Partition:
    for prefix, partition in _PARTITION_OF_REGION_PREFIX.items():
        if region.startswith(prefix):
            return partition
    return _COMMERCIAL


def _aws_host(service: str, region: str, use_fips: bool, use_dualstack: bool) -> str:
    if region.endswith(("-global", "-fips")) or region.startswith("fips-"):
        raise ConfigError(
            f"{region} is not one region of AWS",
            remedy="Give the region the bucket lies in, and use_fips for a FIPS endpoint",
        )
    partition = _partition_of(region)
    if use_fips and partition.name == "aws-cn":
        raise ConfigError(
            f"There is no FIPS endpoint in {region}", remedy="Leave use_fips out in China"
        )
    if service == "s3" and region == "us-east-1" and not use_fips and not use_dualstack:
        return f"s3.{partition.domain}"
    variant = ("-fips" if use_fips else "") + (".dualstack" if use_dualstack else "")
    return f"{service}{variant}.{region}.{partition.domain}"


def _access_point(
    arn: str, region: str, endpoint_url: str | None, use_fips: bool, use_dualstack: bool
) -> Endpoint:
    point = _parse_access_point(arn)
    point_region = point["region"]
    home = _partition_of(point_region).name
    if point["partition"] != home or _partition_of(region).name != home:
        raise ConfigError(
            f"The access point {arn} lies in {point_region}, in the partition {home}, but the ARN "
            f"or the region {region} says otherwise",
            remedy="Use credentials and a region of the access point's own partition",
        )
    name_in_host = f"{point['name']}-{point['account']}"
    if endpoint_url is None:
        host = _aws_host("s3-accesspoint", point_region, use_fips, use_dualstack)
        return Endpoint("https", f"{name_in_host}.{host}", "", point_region)
    server = _parse_endpoint_url(endpoint_url, point_region)
    if _is_ip_address(server.host):
        raise ConfigError(
            "An access point is part of the host name, and the endpoint has an IP address",
            remedy="Give the endpoint by its host name",
        )
    return replace(server, host=f"{name_in_host}.{server.host}")


def _parse_access_point(arn: str) -> Mapping[str, str]:
    match = _ACCESS_POINT.fullmatch(arn)
    if match:
        return match.groupdict()
    shown = printable(arn, 160)
    # arn : partition : service : region : account : resource
    _, _, service, region, account, resource = (*arn.split(":", 5), *[""] * 5)[:6]
    if service in ("s3-outposts", "s3-object-lambda", "s3express", "s3tables"):
        raise ConfigError(
            f"{shown} belongs to {service}, which coatcheck does not support",
            remedy=_UNSUPPORTED_REMEDY,
        )
    if service == "s3" and not region and account and resource.startswith("accesspoint"):
        raise ConfigError(
            f"{shown} is a multi-region access point, which needs a signature (SigV4A) that "
            "coatcheck does not make",
            remedy=_UNSUPPORTED_REMEDY,
        )
    if service == "s3" and not region and not account and resource:
        raise ConfigError(
            f"{shown} is the ARN of a bucket or an object", remedy="Give the bucket by its name"
        )
    raise ConfigError(f"{shown} is not the ARN of an access point", remedy=_ARN_REMEDY)


def _parse_endpoint_url(url: str, region: str) -> Endpoint:
    # The URL is never quoted in a message: what is wrong with it may be a password in it.
    if not url.isascii() or not url.isprintable() or " " in url:
        raise _bad_endpoint("holds white space, control characters, or characters outside ASCII")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _bad_endpoint("has an impossible host or port") from None
    if parts.scheme not in ("http", "https"):
        raise _bad_endpoint("does not begin with http:// or https://")
    if "@" in parts.netloc:
        raise _bad_endpoint("holds credentials, which are never taken from a URL")
    if "?" in url or "#" in url:
        raise _bad_endpoint("has a query or a fragment")
    if parts.netloc.startswith("["):
        host = _ipv6(host)
    elif not _HOST_NAME.fullmatch(host) or ".." in host:
        raise _bad_endpoint("has no host, or an impossible one")
    if not _ENDPOINT_PATH.fullmatch(parts.path):
        raise _bad_endpoint("has a path with an empty, relative or encoded segment")
    if port is not None and port != {"http": 80, "https": 443}[parts.scheme]:
        host = f"{host}:{port}"
    return Endpoint(parts.scheme, host, parts.path.rstrip("/"), region)


def _ipv6(host: str) -> str:
    try:
        IPv6Address(host)
    except ValueError:
        raise _bad_endpoint("has an impossible IPv6 address") from None
    if "%" in host:
        raise _bad_endpoint("has an IPv6 address with a zone")
    return f"[{host}]"


def _bad_endpoint(problem: str) -> ConfigError:
    return ConfigError(
        f"The endpoint URL {problem}", remedy="Write it like https://s3.example.com:9000"
    )

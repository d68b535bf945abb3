"""What AWS's settings say beside the keys: the environment first, then the profile.

Nothing here does I/O, or imports botocore, before a function is called; they block, so the client
runs them where they hold up nobody.
"""

import os
from pathlib import Path

from coatcheck.errors import ConfigError, printable

SETTINGS_REMEDY = (
    "Check AWS_PROFILE and the files it is looked up in: ~/.aws/config and ~/.aws/credentials, or "
    "what AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name"
)


def discover_region(profile: str | None = None) -> str | None:
    """Find the region: AWS_REGION, AWS_DEFAULT_REGION, then the profile's `region`.

    This and its neighbours read at most the two AWS settings files, and import botocore only
    where one of them mentions the setting. Without `profile`, AWS_PROFILE or "default" is meant.
    They raise `ConfigError` for files that cannot be parsed and profiles that do not exist.
    """
    return region_in_environment() or _profile_setting(profile, "region")


def region_in_environment() -> str | None:
    """Find the region in AWS_REGION or AWS_DEFAULT_REGION. No I/O."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None


def discover_endpoint(profile: str | None = None) -> str | None:
    """Find the endpoint URL for S3, None where AWS's own is meant.

    AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, then `endpoint_url` of the profile: in its services
    section under s3, or its own. AWS_IGNORE_CONFIGURED_ENDPOINT_URLS, or the profile's setting of
    that name, switches all of them off.
    """
    ignored = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or _profile_setting(
        profile, "ignore_configured_endpoint_urls"
    )
    if ignored is not None and ignored.lower() == "true":
        return None
    return (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or _profile_setting(profile, "endpoint_url")
    )


def discover_ca_bundle(profile: str | None = None) -> str | None:
    """Find the file of certificate authorities: AWS_CA_BUNDLE, then the profile's `ca_bundle`."""
    return os.environ.get("AWS_CA_BUNDLE") or _profile_setting(profile, "ca_bundle")


def discover_fips(profile: str | None = None) -> bool:
    """Whether AWS_USE_FIPS_ENDPOINT, or the profile's `use_fips_endpoint`, says true."""
    return _flag("AWS_USE_FIPS_ENDPOINT", profile, "use_fips_endpoint")


def discover_dualstack(profile: str | None = None) -> bool:
    """Whether AWS_USE_DUALSTACK_ENDPOINT, or the profile's `use_dualstack_endpoint`, says true."""
    return _flag("AWS_USE_DUALSTACK_ENDPOINT", profile, "use_dualstack_endpoint")


def _flag(variable: str, profile: str | None, name: str) -> bool:
    value = os.environ.get(variable) or _profile_setting(profile, name) or "false"
    return value.lower() == "true"


def _profile_setting(profile: str | None, name: str) -> str | None:
    if not _settings_files_mention(name):
        return None
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    session = Session(profile=profile)
    try:
        settings = session.get_scoped_config()
        services = session.full_config.get("services", {})
    except BotoCoreError as error:
        problem = harmless_reason(error)
    else:
        section = settings.get("services")
        if section is None or section in services:
            for_s3 = services.get(section, {}).get("s3")
            specific = for_s3.get(name) if isinstance(for_s3, dict) else None
            value = specific or settings.get(name)
            return value if isinstance(value, str) else None
        problem = f"the profile names the services section {section!r}, which does not exist"
    raise ConfigError(f"The AWS settings could not be read: {problem}", remedy=SETTINGS_REMEDY)


def _settings_files_mention(name: str) -> bool:
    for variable, default in (
        ("AWS_CONFIG_FILE", "~/.aws/config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ):
        path = os.path.expandvars(os.environ.get(variable) or default)
        try:
            if name.encode() in Path(path).expanduser().read_bytes():
                return True
        except OSError:
            continue  # missing or not ours to read: botocore passes over it too
    return False


def harmless_reason(error: Exception) -> str:
    """Say why, without quoting what may hold keys: settings files, or a process's output."""
    from botocore import exceptions as aws

    if isinstance(error, aws.ConfigParseError):
        return f"the file {printable(str(error.kwargs.get('path')), 200)} cannot be parsed"
    if getattr(error, "kwargs", {}).get("provider") == "custom-process":
        return "the profile's credential_process failed; run it by hand to see its output"
    if isinstance(error, aws.BotoCoreError | aws.ClientError):
        return printable(str(error).rstrip("."), 400)
    return type(error).__name__

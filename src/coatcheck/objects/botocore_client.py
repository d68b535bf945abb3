"""What a botocore or boto3 client was told, for ours: where to go, and as whom."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from coatcheck.errors import ConfigError
from coatcheck.objects.buckets import Buckets
from coatcheck.objects.opening import Backend
from coatcheck.s3.client import S3Client
from coatcheck.s3.sign import Credentials
from coatcheck.settings import S3Arguments, S3Settings

if TYPE_CHECKING:
    from botocore.client import BaseClient

_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn")


def adopted(client: "BaseClient", backend: Backend) -> Buckets:
    """Return the buckets that `client` reaches, on `backend`. No I/O.

    Raises ConfigError for anything but an S3 client that has credentials.
    """
    meta: Any = getattr(client, "meta", None)
    service = getattr(getattr(meta, "service_model", None), "service_name", None)
    if service != "s3":
        raise ConfigError(
            f"{type(client).__name__} is not an S3 client",
            remedy='Give coatcheck\'s own, or boto3.client("s3", ...)',
        )
    source = getattr(getattr(client, "_request_signer", None), "_credentials", None)
    if source is None:
        raise ConfigError(
            "the boto3 client has no credentials", remedy="Give it some; S3 asks for them"
        )
    return Buckets(
        S3Client(
            S3Settings(**_arguments(client, meta)),
            runtime=backend.runtime,
            make_wire=backend.make_wire,
            credentials=BotocoreCredentials(source),
        )
    )


def _arguments(client: "BaseClient", meta: Any) -> S3Arguments:
    config = meta.config
    options: Mapping[str, Any] = config.s3 or {}
    arguments: S3Arguments = {"region": meta.region_name}
    host = urlsplit(meta.endpoint_url).hostname or ""
    if host.endswith(_AWS_DOMAINS):
        # AWS's own rules choose the host for each bucket.
        arguments["use_fips"] = bool(config.use_fips_endpoint)
        arguments["use_dualstack"] = bool(
            config.use_dualstack_endpoint or options.get("use_dualstack_endpoint")
        )
    else:
        arguments["endpoint_url"] = meta.endpoint_url
    style = options.get("addressing_style")
    if style in ("auto", "path", "virtual"):
        arguments["addressing_style"] = style
    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    ca_bundle = getattr(session, "_verify", None)
    if isinstance(ca_bundle, str):
        arguments["ca_bundle"] = ca_bundle
    return arguments


class BotocoreCredentials:
    """Keys from a botocore credentials object, which renews them itself. A CredentialSource."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._refused: Credentials | None = None

    def __repr__(self) -> str:
        return "BotocoreCredentials()"

    def current(self, now: float) -> Credentials | None:
        """Return the keys at once, or None if they must be renewed first. No I/O."""
        renewal_is_due = getattr(self._source, "refresh_needed", None)
        if renewal_is_due is not None and renewal_is_due():
            return None
        held = self._frozen()
        return held if held != self._refused else None

    def load(self, now: float) -> Credentials:
        """Renew the keys if they need it, and return them. Blocks."""
        return self._frozen()

    def invalidate(self, refused: Credentials) -> None:
        """Hand out `refused` no more without looking again."""
        self._refused = refused

    def _frozen(self) -> Credentials:
        frozen = self._source.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or None)

"""URLs open object stores: s3://bucket/prefix?..., file:///path, memory://name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coatcheck.objects.port import ObjectStore
from coatcheck.runtime.port import Runtime
from coatcheck.settings import Location, S3Arguments, parse_url
from coatcheck.wire.port import Wire, WireSettings


@dataclass(frozen=True, slots=True)
class Backend:
    """How a store waits and how it speaks: a runtime and the wire that belongs to it."""

    runtime: Runtime
    make_wire: Callable[[WireSettings], Wire]


def open_on(backend: Backend, url: str, arguments: S3Arguments) -> ObjectStore:
    """Open the object store at `url` on `backend`. No I/O.

    `arguments` are fields of `coatcheck.settings.S3Settings` and win over the URL's options.
    Raises ConfigError.
    """
    location = parse_url(url)
    if location.scheme == "s3":
        return _open_s3(backend, location, arguments)
    location.settings(arguments)
    if location.scheme == "memory":
        from coatcheck.objects.memory import MemoryObjects

        name = f"{location.bucket}/{location.prefix}".rstrip("/")
        return MemoryObjects(name, backend.runtime)
    from coatcheck.objects.local import LocalObjects

    return LocalObjects(Path(location.prefix), backend.runtime)


def _open_s3(backend: Backend, location: Location, arguments: S3Arguments) -> ObjectStore:
    from coatcheck.objects.s3 import S3Objects
    from coatcheck.s3.client import S3Client
    from coatcheck.s3.endpoint import validate_bucket

    validate_bucket(location.bucket)
    client = S3Client(
        location.settings(arguments), runtime=backend.runtime, make_wire=backend.make_wire
    )
    return S3Objects(client, location.bucket, location.prefix)

"""Places for volumes, and witnesses of what lies there."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from coatcheck.objects.local import LocalObjects
from coatcheck.objects.memory import SHELVES, Held, MemoryObjects, forget
from coatcheck.objects.opening import Backend, open_on
from coatcheck.runtime.port import Runtime
from coatcheck.testing import S3Server
from coatcheck.volumes.volume import Volume


class FolderWitness:
    """Plain files below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, key: str) -> bytes | None:
        file = self._root / key
        return file.read_bytes() if file.is_file() else None

    def write(self, key: str, body: bytes) -> None:
        file = self._root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)

    def all_keys(self) -> set[str]:
        files = (file.relative_to(self._root) for file in self._root.rglob("*") if file.is_file())
        return {file.as_posix() for file in files if file.parts[0] != ".coatcheck-tmp"}


class MemoryWitness:
    """The dict behind a memory store."""

    def __init__(self, name: str) -> None:
        self._shelf = SHELVES.setdefault(name, {})

    def read(self, key: str) -> bytes | None:
        return self._shelf[key].body if key in self._shelf else None

    def write(self, key: str, body: bytes) -> None:
        self._shelf[key] = Held(body, f'"witness-{uuid4()}"', datetime.now(UTC))

    def all_keys(self) -> set[str]:
        return set(self._shelf)


class S3Witness:
    """boto3, on the objects of a bucket below a prefix."""

    def __init__(self, server: S3Server, bucket: str, prefix: str = "") -> None:
        self.client = server.witness()
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def read(self, key: str) -> bytes | None:
        try:
            reply = self.client.get_object(Bucket=self._bucket, Key=self._prefix + key)
        except self.client.exceptions.NoSuchKey:
            return None
        with reply["Body"] as body:
            return body.read()

    def write(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body)

    def all_keys(self) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        )
        found = (entry["Key"] for page in pages for entry in page.get("Contents", []))
        return {key.removeprefix(self._prefix) for key in found}

    def uploads(self) -> list[str]:
        """The keys of multipart uploads that are open."""
        reply = self.client.list_multipart_uploads(Bucket=self._bucket)
        return [upload["Key"] for upload in reply.get("Uploads", [])]


def volume_on(server: S3Server, bucket: str, backend: Backend, prefix: str = "") -> Volume:
    """Open a volume on a test server."""
    objects = open_on(
        backend,
        server.url(bucket, prefix),
        {
            "access_key_id": server.access_key_id,
            "secret_access_key": server.secret_access_key,
        },
    )
    return Volume(objects)


@contextmanager
def in_memory(runtime: Runtime) -> Iterator[tuple[Volume, MemoryWitness]]:
    name = uuid4().hex
    yield Volume(MemoryObjects(name, runtime)), MemoryWitness(name)
    forget(name)


def in_folder(runtime: Runtime, root: Path) -> tuple[Volume, FolderWitness]:
    return Volume(LocalObjects(root, runtime)), FolderWitness(root)

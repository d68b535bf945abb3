"""Every object store keeps the contract, on every runtime."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from coatcheck.objects.local import LocalObjects
from coatcheck.objects.memory import SHELVES, Held, MemoryObjects, forget
from coatcheck.objects.opening import Backend, open_on
from coatcheck.objects.port import ObjectStore
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.runtime.port import Runtime
from coatcheck.settings import S3Arguments
from coatcheck.testing.objects import CHECKS, Capability, Check, Witness
from coatcheck.testing.servers import S3Server
from coatcheck.wire.aio import AsyncioWire
from coatcheck.wire.blocking import BlockingWire

Opened = AbstractContextManager[tuple[ObjectStore, Witness]]


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


@contextmanager
def local(
    runtime: Runtime, request: pytest.FixtureRequest
) -> Iterator[tuple[ObjectStore, Witness]]:
    root = request.getfixturevalue("tmp_path") / "store"
    yield LocalObjects(root, runtime), FolderWitness(root)


@contextmanager
def memory(
    runtime: Runtime, request: pytest.FixtureRequest
) -> Iterator[tuple[ObjectStore, Witness]]:
    name = uuid4().hex
    yield MemoryObjects(name, runtime), MemoryWitness(name)
    forget(name)


class BotocoreWitness:
    """The AWS SDK, without its guesses about what a server wants."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self._client = server.witness()
        self._bucket = bucket

    def read(self, key: str) -> bytes | None:
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return None

    def write(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=key, Body=body)

    def all_keys(self) -> set[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
        return {item["Key"] for page in pages for item in page.get("Contents", ())}


def s3(server_fixture: str) -> Callable[[Runtime, pytest.FixtureRequest], Opened]:
    @contextmanager
    def opened(
        runtime: Runtime, request: pytest.FixtureRequest
    ) -> Iterator[tuple[ObjectStore, Witness]]:
        server: S3Server = request.getfixturevalue(server_fixture)
        bucket = f"contract-{uuid4().hex}"
        server.create_bucket(bucket)
        make_wire = AsyncioWire if runtime is ASYNCIO else BlockingWire
        keys = S3Arguments(
            access_key_id=server.access_key_id, secret_access_key=server.secret_access_key
        )
        store = open_on(Backend(runtime, make_wire), server.url(bucket), keys)
        yield store, BotocoreWitness(server, bucket)

    return opened


@dataclass(frozen=True)
class Subject:
    """A store to be tested: `open` makes an empty one, and its witness."""

    open: Callable[[Runtime, pytest.FixtureRequest], Opened]
    lacks: frozenset[Capability] = frozenset()


SUBJECTS = {
    "local": Subject(local, frozenset({Capability.NESTED_KEYS, Capability.FREE_KEYS})),
    "memory": Subject(memory, frozenset({Capability.FREE_KEYS})),
    "moto": Subject(
        s3("moto"),
        frozenset({Capability.DIGESTS, Capability.CONTROL_CHARACTERS, Capability.THOUSANDS}),
    ),
    "rclone": Subject(
        s3("rclone"),
        frozenset(
            {
                Capability.CONDITIONAL_WRITES,
                Capability.CONDITIONAL_READS,
                Capability.DIGESTS,
                Capability.ATOMIC_WRITES,
                Capability.NESTED_KEYS,
                Capability.FREE_KEYS,
                Capability.THOUSANDS,
            }
        ),
    ),
}


@dataclass(frozen=True)
class Driver:
    """What runs a check."""

    runtime: Runtime
    run: Callable[[Coroutine[object, object, None]], None]


DRIVERS = {"asyncio": Driver(ASYNCIO, asyncio.run), "blocking": Driver(BLOCKING, BLOCKING.run)}


@pytest.mark.parametrize("check", CHECKS, ids=str)
@pytest.mark.parametrize("driver", DRIVERS.values(), ids=DRIVERS)
@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_contract(
    subject: Subject, driver: Driver, check: Check, request: pytest.FixtureRequest
) -> None:
    lacking = check.needs & subject.lacks
    if lacking:
        pytest.skip(f"no store that {' or '.join(need.value for need in lacking)}")
    with subject.open(driver.runtime, request) as (store, witness):
        driver.run(check(store, witness))

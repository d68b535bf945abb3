"""Both faces of the client, and stand-ins for what tests must see or decide: time and the wire."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from coatcheck.objects.opening import Backend
from coatcheck.objects.s3 import S3Objects
from coatcheck.runtime.aio import ASYNCIO, AsyncioRuntime
from coatcheck.runtime.blocking import BLOCKING, BlockingRuntime
from coatcheck.s3.client import S3Client
from coatcheck.settings import S3Settings
from coatcheck.testing import FaultServer
from coatcheck.wire.aio import AsyncioWire
from coatcheck.wire.blocking import BlockingWire
from coatcheck.wire.port import Request, Response, WireSettings

T = TypeVar("T")

KEYS: Any = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret-example"}


class Hurried(AsyncioRuntime):
    """asyncio, except that pauses are written down in place of being waited for."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.chance = 1.0
        self.clock_offset_seconds = 0.0

    def random(self) -> float:
        return self.chance

    def wall_clock(self) -> float:
        return super().wall_clock() + self.clock_offset_seconds

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


class HurriedBlocking(BlockingRuntime):
    """The same on plain threads."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.chance = 1.0
        self.clock_offset_seconds = 0.0

    def random(self) -> float:
        return self.chance

    def wall_clock(self) -> float:
        return super().wall_clock() + self.clock_offset_seconds

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@dataclass(frozen=True)
class Face:
    """One of the two ways to run the same coroutines."""

    name: str
    backend: Backend
    run: Callable[[Coroutine[Any, Any, T]], T]

    def hurried(self) -> "tuple[Hurried | HurriedBlocking, Face]":
        """Return this face with a runtime that does not wait, and that runtime."""
        runtime = Hurried() if self.name == "asyncio" else HurriedBlocking()
        return runtime, Face(self.name, Backend(runtime, self.backend.make_wire), self.run)

    def client(self, endpoint: str, **settings: Any) -> S3Client:
        """Make a client of the server at `endpoint`."""
        given = {"endpoint_url": endpoint, "region": "us-east-1", **KEYS, **settings}
        return S3Client(
            S3Settings(**given), runtime=self.backend.runtime, make_wire=self.backend.make_wire
        )

    def objects(self, endpoint: str, bucket: str = "bucket", **settings: Any) -> S3Objects:
        """Open a bucket of the server at `endpoint`."""
        return S3Objects(self.client(endpoint, **settings), bucket)


def _run_on_asyncio(coroutine: Coroutine[Any, Any, T]) -> T:
    results: list[T] = []

    async def keep_result() -> None:
        # asyncio.run makes the repr of what its task returned, which takes long for payloads.
        results.append(await coroutine)

    asyncio.run(keep_result())
    return results[0]


FACES = [
    Face("asyncio", Backend(ASYNCIO, AsyncioWire), _run_on_asyncio),
    Face("blocking", Backend(BLOCKING, BlockingWire), BLOCKING.run),
]

both_faces = pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)


@dataclass
class RecordingWire:
    """Answers every request alike, and keeps what it was asked."""

    response: Response
    requests: list[Request] = field(default_factory=list)

    def __call__(self, _settings: WireSettings) -> "RecordingWire":
        return self

    async def exchange(self, request: Request) -> Response:
        self.requests.append(request)
        return self.response


def response(status: int = 200, body: bytes = b"", **headers: str) -> Response:
    """Make a reply; in the names of headers, write _ for -."""
    lines = [f"{name.replace('_', '-')}: {value}".encode() for name, value in headers.items()]
    return Response(status, lines, body, len(body))


@contextmanager
def interrupting(server: FaultServer, requests: int, error: type[BaseException]) -> Iterator[None]:
    """Let a signal handler raise `error` in this thread once the server has got so many requests.

    So do Ctrl-C, and Celery's soft time limit.
    """

    def handler(_number: int, _frame: object) -> None:
        raise error

    def watch() -> None:
        server.wait_for_requests(requests)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, handler)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()
        signal.signal(signal.SIGUSR1, previous)


async def all_of(items: AsyncIterator[T]) -> list[T]:
    """Collect what an asynchronous iterator yields."""
    return [item async for item in items]

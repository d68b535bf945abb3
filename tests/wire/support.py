"""Both wires behind one face, and small servers for what a fault server does not do."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import uvloop

from coatcheck.runtime.aio import ASYNCIO
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.runtime.port import Runtime
from coatcheck.wire import aio, blocking
from coatcheck.wire.aio import AsyncioWire
from coatcheck.wire.blocking import BlockingWire
from coatcheck.wire.port import Request, Response, Wire, WireSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Face:
    """A wire, and the runtime that belongs to it."""

    name: str
    runtime: Runtime
    wire: Callable[[WireSettings | None], Wire]
    run: Callable[[Coroutine[Any, Any, T]], T]

    def exchange(self, request: Request, **settings: Any) -> Response:
        return self.run(self.wire(WireSettings(**settings)).exchange(request))


BLOCKING_FACE = Face("blocking", BLOCKING, BlockingWire, BLOCKING.run)
ASYNCIO_FACE = Face("asyncio", ASYNCIO, AsyncioWire, asyncio.run)
UVLOOP_FACE = Face("uvloop", ASYNCIO, AsyncioWire, uvloop.run)

faces = pytest.mark.parametrize("face", [ASYNCIO_FACE, BLOCKING_FACE], ids=lambda face: face.name)
all_faces = pytest.mark.parametrize(
    "face", [ASYNCIO_FACE, UVLOOP_FACE, BLOCKING_FACE], ids=lambda face: face.name
)


def get(url: str, *, limit: int = 1 << 20, seconds: float = 20.0, **more: Any) -> Request:
    return Request("GET", url, [], seconds, limit, **more)


def put(url: str, body: bytes | memoryview, *, seconds: float = 20.0) -> Request:
    return Request("PUT", url, [], seconds, 0, body)


@contextlib.contextmanager
def raw_server(
    talk: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Serve each connection with `talk` on a thread of its own; yield the URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        scheme = "http" if tls is None else "https"
        threads: list[threading.Thread] = []
        accepted: list[socket.socket] = []

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                if tls is not None:
                    connection = tls.wrap_socket(
                        connection,
                        server_side=True,
                        do_handshake_on_connect=False,
                        suppress_ragged_eofs=False,
                    )
                accepted.append(connection)
                with connection:
                    talk(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=serve, args=(connection,)))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for connection in accepted:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def read_head(connection: socket.socket) -> bytes:
    """Read a request's head; raises ConnectionError if the client leaves before its end."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            raise ConnectionAbortedError
        head += data
    return head


def reset(connection: socket.socket) -> None:
    """Close with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """A port whose backlog is full: the kernel drops what wants to connect. Yield its URL."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def signalled(number: signal.Signals, seconds: float) -> Iterator[list[float]]:
    """Send this process a signal after `seconds`; yield a list that then holds the time."""
    sent: list[float] = []

    def send() -> None:
        time.sleep(seconds)
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        thread.join()


@contextlib.contextmanager
def takes(*, at_least: float = 0.0, at_most: float) -> Iterator[None]:
    """Check how many seconds the block takes, whether it raises or not."""
    started = time.monotonic()
    try:
        yield
    finally:
        taken = time.monotonic() - started
        assert at_least <= taken <= at_most, f"took {taken:.2f} s"


@contextlib.contextmanager
def fresh_engines() -> Iterator[None]:
    """Hide the engines that are kept with their handles and connections; drop those made here."""
    kept = list(aio._engines), list(blocking._idle_engines)
    aio._engines.clear()
    blocking._idle_engines.clear()
    try:
        yield
    finally:
        aio._engines[:] = kept[0]
        blocking._idle_engines.clear()
        blocking._idle_engines.extend(kept[1])


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))

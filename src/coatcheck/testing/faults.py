"""An HTTP server that misbehaves to order: lost replies, resets, stalls, lies, corruption.

A test hands it a script; each request is answered by one behaviour of the script:

    with FaultServer([reply(503), forward(s3.endpoint).closed(), forward(s3.endpoint)]) as server:
        ...  # the 1st request is refused, the 2nd is carried out but its reply lost, the 3rd works
        assert [request.method for request in server.requests] == ["PUT", "PUT", "PUT"]

It speaks HTTP/1.1 with keep-alive on 127.0.0.1, from one thread and one more for each connection.
A child forked from the process holds the sockets too: until it ends, no reset reaches a client.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import NoReturn, Self

from coatcheck.testing.behaviours import Behaviour, Request, Script, reply


class FaultServer:
    """The server, which listens from its construction until `close`, best as a context manager.

    A request beyond the end of a script of several behaviours is answered with 501.
    """

    def __init__(self, script: Script = ()) -> None:
        self._changed = threading.Condition()
        self._closing = False
        self._requests: list[Request] = []
        self._connections: dict[_Connection, threading.Thread] = {}
        self._accepted = 0
        self.play(script)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        """The port that the server listens on."""
        self._acceptor = threading.Thread(target=self._accept, name="fault-server", daemon=True)
        self._acceptor.start()

    @property
    def endpoint(self) -> str:
        """The base URL, such as `http://127.0.0.1:9000`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in the order in which their bodies were complete."""
        with self._changed:
            return list(self._requests)

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        with self._changed:
            return self._accepted

    def play(self, script: Script) -> None:
        """Answer from this script from now on. Replies stalled by it wait for a new `release`."""
        with self._changed:
            self._choose = _chooser(script)
            self._released = False

    def release(self) -> None:
        """Let stalled replies go on: those that wait now, and those to come until `play`."""
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def wait_for_requests(self, count: int = 1, timeout_seconds: float = 10.0) -> list[Request]:
        """Wait until at least `count` requests have arrived, and return all that have.

        Raises TimeoutError. In async code: `await asyncio.to_thread(server.wait_for_requests)`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._requests) >= count, timeout_seconds):
                raise TimeoutError(f"{len(self._requests)} of {count} requests have arrived")
            return list(self._requests)

    def wait_for_disconnect(self, timeout_seconds: float = 10.0) -> None:
        """Wait until no connection is open any more, as after a client was closed or cancelled.

        A stalled connection ends soon after its client has hung up. Raises TimeoutError.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._connections, timeout_seconds):
                raise TimeoutError(f"{len(self._connections)} connections are still open")

    def close(self) -> None:
        """Hang up on everybody, stop listening, and wait for the threads. Again: no effect."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
            remaining = dict(self._connections)
            for connection in remaining:
                connection.shut_down()
        # A last connection, its own, wakes the acceptor: closing a listener wakes nobody.
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in [self._acceptor, *remaining.values()]:
            thread.join()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            accepted, _ = self._listener.accept()
            with self._changed:
                if self._closing:
                    accepted.close()
                    return
                self._accepted += 1
                connection = _Connection(self, accepted, self._accepted)
                thread = threading.Thread(
                    target=connection.serve, name=f"fault-server-{self._accepted}", daemon=True
                )
                self._connections[connection] = thread
                thread.start()

    def _forget(self, connection: "_Connection") -> None:
        with self._changed:
            connection.dispose()
            del self._connections[connection]
            self._changed.notify_all()

    def _record(self, request: Request) -> None:
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def _behaviour(self, head: Request) -> Behaviour:
        with self._changed:
            return self._choose(head)

    def _wait(self, seconds: float, until: Callable[[], bool]) -> bool:
        """Return whether `until` came true within `seconds`. Raises if the server is closed."""
        with self._changed:
            fulfilled = self._changed.wait_for(lambda: self._closing or until(), seconds)
            if self._closing:
                raise ConnectionAbortedError
            return fulfilled


def _chooser(script: Script) -> Callable[[Request], Behaviour]:
    if isinstance(script, Behaviour):
        return lambda head: script
    if callable(script):
        return script
    behaviours = iter(script)
    exhausted = reply(501, b"The script of the fault server has no behaviour left.")
    return lambda head: next(behaviours, exhausted)


class _Connection:
    """One accepted connection and the thread that serves it."""

    method = ""

    def __init__(self, server: FaultServer, accepted: socket.socket, number: int) -> None:
        self._server = server
        self._socket = accepted
        self._reader = accepted.makefile("rb")
        self._number = number

    def serve(self) -> None:
        try:
            while self._serve_request():
                pass
        except ConnectionError:
            return  # an end that the script wanted, or the client's own: nobody is left to tell
        finally:
            self._server._forget(self)

    def _serve_request(self) -> bool:
        """Answer one request; return whether another may follow."""
        head = self._read_head()
        if head is None:
            return False
        self.method = head.method
        behaviour = self._server._behaviour(head)
        body = self._read_body(head.headers, behaviour.request_body_bytes)
        request = replace(head, body=body)
        self._server._record(request)
        behaviour.delivery(self, behaviour.source(request))
        if behaviour.request_body_bytes is not None:
            self.close()
        return head.headers.get("connection", "").lower() != "close"

    def _read_head(self) -> Request | None:
        """Return the next request, its body still to be read; None if this is not HTTP/1."""
        method, _, rest = self._read_line().partition(" ")
        target, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/1."):
            return None
        headers: dict[str, str] = {}
        while line := self._read_line():
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        return Request(method, target, headers, b"", self._number)

    def _read_body(self, headers: Mapping[str, str], limit: int | None) -> bytes:
        if headers.get("expect", "").lower() == "100-continue" and limit != 0:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join(self._chunks())[:limit]
        length = int(headers.get("content-length", "0"))
        return self._read(length if limit is None else min(length, limit))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._read_line().partition(";")[0], 16):
            yield self._read(size)
            self._read_line()
        while self._read_line():
            pass  # trailers

    def _read_line(self) -> str:
        line = self._reader.readline(65536)
        if not line.endswith(b"\n"):
            raise ConnectionAbortedError
        return line.rstrip(b"\r\n").decode("latin-1")

    def _read(self, length: int) -> bytes:
        data = self._reader.read(length)
        if len(data) < length:
            raise ConnectionAbortedError
        return data

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def pause(self, seconds: float) -> None:
        self._server._wait(seconds, until=lambda: False)

    def hold(self) -> None:
        while not self._server._wait(0.02, until=lambda: self._server._released):
            self._leave_if_client_left()

    def _leave_if_client_left(self) -> None:
        try:
            if self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                raise ConnectionAbortedError
        except BlockingIOError:
            return  # still there, with nothing to say

    def close(self) -> NoReturn:
        # In order means that what the client still sends is read: the kernel answers unread data
        # with a reset, which could overtake the reply.
        self._shut_down(socket.SHUT_WR)
        while self._reader.read1(65536):
            pass
        raise ConnectionAbortedError

    def reset(self) -> NoReturn:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionAbortedError

    def dispose(self) -> None:
        self._reader.close()
        self._socket.close()

    def shut_down(self) -> None:
        """Wake the thread wherever it waits for the client. Called by another thread."""
        self._shut_down(socket.SHUT_RDWR)

    def _shut_down(self, direction: int) -> None:
        with contextlib.suppress(OSError):  # the client has reset the connection meanwhile
            self._socket.shutdown(direction)

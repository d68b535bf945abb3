"""What a fault server can do with a request: answer well, badly, late, in part, or not at all.

A behaviour is a reply, made up or fetched from a real server, and a way to deliver it:

    reply(503, headers={"Retry-After": "1"})       # refuse
    forward(s3.endpoint).closed()                   # carry it out, lose the reply
    forward(s3.endpoint).with_flipped_bit()         # damage the body on its way
    reply(body=b"x" * 1000).stalled(after_body_bytes=500)
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

UPSTREAM_SECONDS = 30.0
"""How long `forward` waits for the real server before it answers 502 in its place."""

_HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the server received it."""

    method: str
    target: str
    """Path and query, exactly as sent."""
    headers: Mapping[str, str]
    """By lower-case name; the values of a repeated header are joined by commas."""
    body: bytes = field(repr=False)
    connection: int
    """On which connection it came: 1 is the first that the server accepted."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a behaviour answers. Content-Length follows from the body unless a header gives it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)

    def head(self, content_length: int | None) -> bytes:
        """Return the status line and the headers, as bytes, with this Content-Length or none."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if content_length is not None:
            lines.append(f"Content-Length: {content_length}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Connection(Protocol):
    """What a delivery can do to the connection that its request came on."""

    @property
    def method(self) -> str:
        """The method of the request."""

    def send(self, data: bytes) -> None:
        """Send all of `data`."""

    def pause(self, seconds: float) -> None:
        """Wait that long; not, if the server is closed meanwhile."""

    def hold(self) -> None:
        """Wait until the test calls `FaultServer.release`."""

    def close(self) -> NoReturn:
        """End the connection in order, and with it the delivery."""

    def reset(self) -> NoReturn:
        """End the connection with a TCP reset, and with it the delivery."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the server does with one request. Made by `reply`, `forward` and the like.

    Each method returns a new behaviour. Of those that say how the reply is delivered, the last
    one counts. Where one takes `after_body_bytes`, None (the default) means before the first byte
    of the reply, 0 after its head, and n after that many bytes of its body.
    """

    source: Callable[[Request], Reply]
    delivery: Callable[[Connection, Reply], None]
    request_body_bytes: int | None = None

    def closed(self, after_body_bytes: int | None = None) -> "Behaviour":
        """Carry out the request, then close the connection: at once, or in the middle."""
        return self._interrupted(after_body_bytes, lambda connection: connection.close())

    def reset(self, after_body_bytes: int | None = None) -> "Behaviour":
        """Like `closed`, but with a TCP reset in place of an orderly end."""
        return self._interrupted(after_body_bytes, lambda connection: connection.reset())

    def stalled(self, after_body_bytes: int | None = None) -> "Behaviour":
        """Fall silent until the test calls `FaultServer.release`, then deliver the rest."""
        return self._interrupted(after_body_bytes, lambda connection: connection.hold())

    def _interrupted(
        self, after_body_bytes: int | None, interrupt: Callable[[Connection], None]
    ) -> "Behaviour":
        def deliver(connection: Connection, answer: Reply) -> None:
            message = _message(connection, answer)
            head_bytes = message.index(b"\r\n\r\n") + 4
            sent = 0 if after_body_bytes is None else head_bytes + after_body_bytes
            connection.send(message[:sent])
            interrupt(connection)
            connection.send(message[sent:])

        return replace(self, delivery=deliver)

    def dripped(self, step_bytes: int, interval_seconds: float) -> "Behaviour":
        """Send the head, then the body in steps of `step_bytes`, a pause before each."""

        def deliver(connection: Connection, answer: Reply) -> None:
            head, _, body = _message(connection, answer).partition(b"\r\n\r\n")
            connection.send(head + b"\r\n\r\n")
            for start in range(0, len(body), step_bytes):
                connection.pause(interval_seconds)
                connection.send(body[start : start + step_bytes])

        return replace(self, delivery=deliver)

    def declaring(self, content_length: int | None) -> "Behaviour":
        """Send the whole body under this Content-Length (None: without one), then close."""

        def deliver(connection: Connection, answer: Reply) -> None:
            connection.send(answer.head(content_length) + answer.body)
            connection.close()

        return replace(self, delivery=deliver)

    def chunked(self, chunk_bytes: int) -> "Behaviour":
        """Send the body with `Transfer-Encoding: chunked`, in chunks of `chunk_bytes`."""

        def deliver(connection: Connection, answer: Reply) -> None:
            headers = (*answer.headers, ("Transfer-Encoding", "chunked"))
            connection.send(replace(answer, headers=headers).head(None))
            for start in range(0, len(answer.body), chunk_bytes):
                chunk = answer.body[start : start + chunk_bytes]
                connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            connection.send(b"0\r\n\r\n")

        return replace(self, delivery=deliver)

    def early(self, request_body_bytes: int = 0) -> "Behaviour":
        """Answer when only that much of the request's body has arrived, as a busy server does.

        The rest is read and thrown away; the connection is closed after the reply.
        """
        return replace(self, request_body_bytes=request_body_bytes)

    def changed(self, change: Callable[[Reply], Reply]) -> "Behaviour":
        """Alter the reply, such as a real server's, before it is delivered."""
        return replace(self, source=lambda request: change(self.source(request)))

    def with_body(self, body: bytes) -> "Behaviour":
        """Deliver this body in place of the reply's own, under the reply's own headers."""
        return self.changed(lambda answer: replace(answer, body=body))

    def with_flipped_bit(self, bit: int = 0) -> "Behaviour":
        """Invert one bit of the body, counted from its start."""

        def flip(answer: Reply) -> Reply:
            body = bytearray(answer.body)
            body[bit // 8] ^= 1 << bit % 8
            return replace(answer, body=bytes(body))

        return self.changed(flip)

    def with_header(self, name: str, value: str) -> "Behaviour":
        """Add a header to the reply, in place of one of the same name."""

        def add(answer: Reply) -> Reply:
            others = (pair for pair in answer.headers if pair[0].lower() != name.lower())
            return replace(answer, headers=(*others, (name, value)))

        return self.changed(add)

    def with_huge_headers(self, total_bytes: int) -> "Behaviour":
        """Add headers of about 1,000 bytes each, `total_bytes` or a little more in all."""
        padding = tuple((f"X-Padding-{i}", "p" * 980) for i in range(-(-total_bytes // 980)))
        return self.changed(lambda answer: replace(answer, headers=(*answer.headers, *padding)))


Script = Behaviour | Iterable[Behaviour] | Callable[[Request], Behaviour]
"""One behaviour for every request; or one after the other, in the order in which requests arrive;
or a function that chooses when it is given a request's head (the body is empty at that time)."""


def reply(
    status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Behaviour:
    """Answer with this status, body and headers."""
    answer = Reply(status, tuple((headers or {}).items()), body)
    return Behaviour(lambda request: answer, _whole)


def s3_error(status: int, code: str, message: str = "made by a fault server") -> Behaviour:
    """Answer as S3 reports an error: an XML body with `code`, and a request id."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    headers = {"Content-Type": "application/xml", "x-amz-request-id": "FAULT0000000001"}
    return reply(status, body.encode(), headers)


def web_page(status: int = 200) -> Behaviour:
    """Answer with HTML, as a proxy's error page or a hotel's login page does."""
    body = b"<!DOCTYPE html><html><title>Welcome</title><body>Please log in</body></html>"
    return reply(status, body, {"Content-Type": "text/html"})


def redirect(location: str, status: int = 301) -> Behaviour:
    """Send the client elsewhere."""
    return reply(status, headers={"Location": location})


def garbage(data: bytes = b"\x00\xffnot HTTP\r\n\r\n") -> Behaviour:
    """Send bytes that are no HTTP reply, then close."""

    def deliver(connection: Connection, answer: Reply) -> None:
        connection.send(answer.body)
        connection.close()

    return Behaviour(lambda request: Reply(0, body=data), deliver)


def forward(endpoint: str) -> Behaviour:
    """Let a real server answer, such as `S3Server.endpoint`; 502 if it cannot be reached.

    Every end-to-end header is handed on as it came, Host included, so signatures stay valid.
    """

    def fetch(request: Request) -> Reply:
        upstream = HTTPConnection(urlsplit(endpoint).netloc, timeout=UPSTREAM_SECONDS)
        try:
            return _fetch(upstream, request)
        except (OSError, HTTPException) as error:
            return Reply(502, body=f"the upstream server failed: {error!r}".encode())
        finally:
            upstream.close()

    return Behaviour(fetch, _whole)


def _fetch(upstream: HTTPConnection, request: Request) -> Reply:
    upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers.items():
        if name not in _HOP_BY_HOP:
            upstream.putheader(name, value)
    if "content-length" not in request.headers and request.body:
        upstream.putheader("content-length", str(len(request.body)))
    upstream.endheaders(request.body)
    response = upstream.getresponse()
    # The length of a reply to HEAD is that of a body which is not there; others follow from it.
    dropped = _HOP_BY_HOP if request.method == "HEAD" else _HOP_BY_HOP | {"content-length"}
    headers = tuple(pair for pair in response.getheaders() if pair[0].lower() not in dropped)
    return Reply(response.status, headers, response.read())


def _whole(connection: Connection, answer: Reply) -> None:
    connection.send(_message(connection, answer))


def _message(connection: Connection, answer: Reply) -> bytes:
    """Return the reply as an honest server sends it."""
    given = any(name.lower() == "content-length" for name, _ in answer.headers)
    bodiless = answer.status < 200 or answer.status in (204, 304)
    head = answer.head(None if given or bodiless else len(answer.body))
    return head if bodiless or connection.method == "HEAD" else head + answer.body

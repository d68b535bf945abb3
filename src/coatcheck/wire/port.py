"""One HTTP exchange: what goes out, what comes back, what can go wrong."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WireSettings:
    """How to connect. Durations are in seconds.

    connect_timeout_seconds: to resolve, connect and shake hands; waiting for one of the 64
        connections to a host does not count. Default 5.
    stall_timeout_seconds: how long fewer than `stall_bytes_per_second` may move, waiting for the
        reply included, before the exchange is given up. Whole seconds, 1 at least. Default 20.
        After a fast start it is noticed up to 6 seconds late: the speed is an average over these.
    ca_bundle: a PEM file of certificate authorities; "system" for the operating system's;
        None (default) for certifi's.
    proxy: a proxy URL; "" for none; None (default) for what http_proxy, https_proxy and no_proxy
        in the environment say, as curl reads them.
    """

    connect_timeout_seconds: float = 5.0
    stall_timeout_seconds: float = 20.0
    stall_bytes_per_second: int = 1024
    ca_bundle: str | None = None
    proxy: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class Request:
    """What to send. `headers` are whole lines, "name: value".

    timeout_seconds bounds the whole exchange. reply_limit_bytes bounds the reply's body. Where
    `into` is given, a reply with a 2xx status is written there, and must fill it exactly to be
    of use; other replies (an error's XML) arrive in `Response.body` as ever.
    """

    method: str
    url: str
    headers: list[str] = field(repr=False)
    timeout_seconds: float
    reply_limit_bytes: int
    body: bytes | memoryview | None = field(default=None, repr=False)
    into: memoryview | None = None


@dataclass(slots=True)
class Response:
    """What came back. `received_bytes` counts the body, also where it went `into` a buffer."""

    status: int
    header_lines: list[bytes]
    body: bytes
    received_bytes: int

    def header(self, name: str) -> str | None:
        """Return the last header called `name`, given in lower case, or None. Cheap: no dict."""
        # Searched as one text, since a loop over a score of lines would cost ten times as much.
        block = b"\n".join([b"", *self.header_lines, b""])
        folded = block.lower()
        # What stands before the last status line belongs to an interim reply.
        reply = max(0, folded.rfind(b"\nhttp/"))
        found = folded.rfind(b"\n%b:" % name.encode(), reply)
        if found < 0:
            return None
        start = found + len(name) + 2
        return block[start : block.index(b"\n", start)].strip().decode("latin-1")

    def headers(self) -> dict[str, str]:
        """Return the headers with lower-case names; the last of a repeated name wins.

        Those of an interim reply (status 1xx) are left out. Decoded as latin-1, which never fails:
        header values are data from strangers.
        """
        found: dict[str, str] = {}
        for line in self.header_lines:
            name, separator, value = line.partition(b":")
            if name.startswith(b"HTTP/"):
                found.clear()
            elif separator:
                found[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
        return found


class Wire(Protocol):
    """Sends one request and returns its reply; no retries, no redirects, nothing remembered."""

    async def exchange(self, request: Request) -> Response:
        """Send `request` and return the whole reply, whatever its status.

        Raises `WireError`. Cancelled, it drops the connection at once. A body goes out at most
        once. A request without one may go out again on a new connection, where a kept connection
        broke before the first byte of the reply; not so a PUT.
        """
        ...


class WireError(Exception):
    """No whole reply. `sent` tells whether the server may have seen, and done, the request."""

    def __init__(self, reason: str, sent: bool) -> None:
        super().__init__(reason, sent)
        self.reason = reason
        self.sent = sent

    def __str__(self) -> str:
        return self.reason


class ConnectFailed(WireError):
    """No connection: name, address, port, proxy, or a handshake cut short. Nothing was sent."""


class TlsFailed(WireError):
    """The server's certificate or TLS itself was refused. Nothing was sent."""


class Disconnected(WireError):
    """The connection broke, or what came over it was not HTTP."""


class Stalled(WireError):
    """Too few bytes for too long."""


class TimedOut(WireError):
    """The exchange did not end within its time."""


class ReplyTooLarge(WireError):
    """The reply's body is over the request's limit."""

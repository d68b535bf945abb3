"""What both wires share of libcurl: engines, the transfers under way on them, and errors."""

import contextlib
import ssl
from collections.abc import Callable
from enum import Enum
from io import BytesIO

import certifi
import pycurl

from coatcheck.wire.inheritance import Heirloom
from coatcheck.wire.port import (
    ConnectFailed,
    Disconnected,
    ReplyTooLarge,
    Request,
    Response,
    Stalled,
    TimedOut,
    TlsFailed,
    WireError,
    WireSettings,
)

RECEIVE_BUFFER_BYTES = 128 * 1024
SEND_BUFFER_BYTES = 2 * 1024 * 1024
MAX_CONNECTIONS = 64
USER_AGENT = "coatcheck"
# CURLOPT_QUICK_EXIT, for which pycurl has no name: who drops an exchange does not wait for a name
# server that is silent.
QUICK_EXIT = 322
# An error's XML must fit even where a reply of 0 bytes is expected.
ERROR_REPLY_BYTES = 64 * 1024

# Asked for now, because certifi imports more when it is asked first.
_CERTIFI_BUNDLE = certifi.where()

Outcome = Response | Exception
Done = Callable[[Outcome], None]


class _Verb(Enum):
    """The ways a handle is set up; a handle keeps to one, so that nothing need be undone."""

    GET = 1
    HEAD = 2
    DELETE = 3
    PUT = 4
    POST = 5


class Transfer:
    """One exchange under way, on the handle that serves it meanwhile."""

    __slots__ = (
        "_body",
        "_chunks",
        "_header_lines",
        "_received_bytes",
        "done",
        "handle",
        "pool",
        "request",
    )

    def __init__(
        self, request: Request, handle: pycurl.Curl, pool: list[pycurl.Curl], done: Done
    ) -> None:
        self.request = request
        self.handle = handle
        self.pool = pool
        self.done = done
        self._header_lines: list[bytes] = []
        # BytesIO hands out what it has gathered without a copy.
        self._body = BytesIO()
        self._chunks: list[bytes] = []
        self._received_bytes = 0

    def load(self, connect_timeout_seconds: float) -> None:
        """Tell the handle what to send, and where to put what comes back."""
        request, handle = self.request, self.handle
        # The callbacks are C functions on purpose: what a Python function raises may get lost in
        # there, and that might be the KeyboardInterrupt of a signal that arrived just then.
        handle.setopt(
            pycurl.WRITEFUNCTION, self._body.write if request.into is None else self._chunks.append
        )
        handle.setopt(pycurl.HEADERFUNCTION, self._header_lines.append)
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(pycurl.TIMEOUT_MS, _milliseconds(request.timeout_seconds))
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, _milliseconds(connect_timeout_seconds))
        if request.method != "HEAD":
            limit_bytes = max(request.reply_limit_bytes, ERROR_REPLY_BYTES)
            handle.setopt(pycurl.MAXFILESIZE_LARGE, limit_bytes)
        if request.method in ("PUT", "POST"):
            self._load_body()
        else:
            handle.setopt(pycurl.HTTPHEADER, request.headers)

    def _load_body(self) -> None:
        request, handle = self.request, self.handle
        # libcurl would wait for "100 Continue", and call every body a web form.
        own = ["Expect:"] if _has_content_type(request.headers) else ["Expect:", "Content-Type:"]
        handle.setopt(pycurl.HTTPHEADER, request.headers + own)
        body = request.body or b""
        handle.setopt(pycurl.POSTFIELDSIZE_LARGE, len(body))
        # On a kept connection that breaks before the reply, libcurl sends a request again unasked,
        # though the server may have done it. It cannot where a body has gone out that it is unable
        # to rewind, such as this one; an empty body gets a connection of its own.
        handle.setopt(pycurl.READFUNCTION, BytesIO(body).read)
        handle.setopt(pycurl.FRESH_CONNECT, request.method == "PUT" and not body)

    def drain(self) -> None:
        """Move what has arrived into the request's buffer, so that it is held only once."""
        into = self.request.into
        if into is None or not self._chunks or not 200 <= self.status() < 300:
            return
        start = self._received_bytes
        for chunk in self._chunks:
            end = start + len(chunk)
            # What does not fit is dropped here and refused when the reply is complete.
            if end <= len(into):
                into[start:end] = chunk
            start = end
        self._received_bytes = start
        self._chunks.clear()

    def status(self) -> int:
        """Return the status of the reply, 0 before it is there."""
        status: int = self.handle.getinfo(pycurl.RESPONSE_CODE)
        return status

    def outcome(self) -> Response | WireError:
        """Return the reply of an exchange that ended well, unless it is too large."""
        self.drain()
        status = self.status()
        body = self._body.getvalue() if self.request.into is None else b"".join(self._chunks)
        received_bytes = self._received_bytes + len(body)
        if 200 <= status < 300 and received_bytes > self.request.reply_limit_bytes:
            return _too_large(self.request)
        return Response(status, self._header_lines, body, received_bytes)

    def unload(self) -> None:
        """Let the handle forget the bodies, and wait in its pool for the next request."""
        self._body.close()
        self._chunks.clear()
        if self.request.body:
            self.handle.setopt(pycurl.READFUNCTION, _NOTHING.read)
        if len(self.pool) < MAX_CONNECTIONS:
            self.pool.append(self.handle)


_NOTHING = BytesIO()


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _has_content_type(headers: list[str]) -> bool:
    return any(line[:13].lower() == "content-type:" for line in headers)


def _too_large(request: Request) -> ReplyTooLarge:
    return ReplyTooLarge(f"the reply is over the limit of {request.reply_limit_bytes} bytes", True)


class Engine(Heirloom):
    """A libcurl multi handle with its connections, and the transfers under way on it.

    It belongs to one loop, or to one blocking run at a time; it is never used from two threads
    at once. A signal handler may raise between any two steps: what `active` holds may then be out
    of libcurl's hands, never the reverse.
    """

    def __init__(self) -> None:
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, MAX_CONNECTIONS)
        self.multi.setopt(pycurl.M_MAXCONNECTS, MAX_CONNECTIONS)
        self.active: dict[pycurl.Curl, Transfer] = {}
        self._filling: set[Transfer] = set()
        self._pools: dict[tuple[WireSettings, str], list[pycurl.Curl]] = {}
        super().__init__()

    def begin(self, settings: WireSettings, request: Request, done: Done) -> Transfer:
        """Hand `request` to libcurl. Nothing moves until the engine's owner drives it.

        `done` is called once, when the exchange has ended, unless it is aborted. It must not
        raise.
        """
        if self.is_inherited:
            raise RuntimeError(
                "forked in the midst of a call, which only the parent can go on with"
            )
        with self.lock:
            pool = self._pools.setdefault((settings, request.method), [])
            handle = pool.pop() if pool else _new_handle(settings, _Verb[request.method])
            transfer = Transfer(request, handle, pool, done)
            self.active[handle] = transfer
            try:
                if request.into is not None:
                    self._filling.add(transfer)
                transfer.load(self._connect_timeout_seconds(settings, request))
                self.multi.add_handle(handle)
            except BaseException:
                self.abort(transfer)
                raise
            return transfer

    def _connect_timeout_seconds(self, settings: WireSettings, request: Request) -> float:
        if len(self.active) <= MAX_CONNECTIONS:
            return settings.connect_timeout_seconds
        # libcurl counts the time that a request waits for one of the connections as connecting.
        return request.timeout_seconds

    def abort(self, transfer: Transfer) -> None:
        """Drop the exchange with its connection, if it is still under way. Any number of times."""
        handle = transfer.handle
        if self.active.get(handle) is not transfer:
            return
        with self.lock:
            # What an interruption came between is not with libcurl, or not any more.
            with contextlib.suppress(pycurl.error):
                self.multi.remove_handle(handle)
            self._filling.discard(transfer)
            self.active.pop(handle, None)

    def abort_all(self) -> None:
        """Drop all that is under way."""
        for transfer in list(self.active.values()):
            self.abort(transfer)

    def abandon(self) -> None:
        """In a forked child: what is under way is the parent's."""
        self.active, self._filling, self._pools = {}, set(), {}

    def collect(self, running: int) -> None:
        """Tell the owners of exchanges that have ended; libcurl said that `running` have not."""
        if self._filling:
            self._drain()
        if running < len(self.active):
            _, succeeded, failed = self.multi.info_read()
            for handle in succeeded:
                self._end(handle, None)
            for handle, code, text in failed:
                self._end(handle, _wire_error(self.active[handle], code, text))

    def _drain(self) -> None:
        for transfer in list(self._filling):
            try:
                transfer.drain()
            except Exception as failure:
                # A buffer that takes nothing is the problem of who gave it, and of nobody else.
                self.abort(transfer)
                transfer.done(failure)

    def _end(self, handle: pycurl.Curl, error: WireError | None) -> None:
        transfer = self.active[handle]
        self.multi.remove_handle(handle)
        self._filling.discard(transfer)
        self.active.pop(handle)
        outcome: Outcome
        try:
            outcome = error or transfer.outcome()
        except Exception as failure:
            outcome = failure
        transfer.done(outcome)
        transfer.unload()


def _new_handle(settings: WireSettings, verb: _Verb) -> pycurl.Curl:
    handle = pycurl.Curl()
    for option, value in (
        (pycurl.NOSIGNAL, 1),
        (QUICK_EXIT, 1),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.FOLLOWLOCATION, 0),
        # Keys may hold "." and ".." segments; they are names, not places.
        (pycurl.PATH_AS_IS, 1),
        (pycurl.BUFFERSIZE, RECEIVE_BUFFER_BYTES),
        (pycurl.UPLOAD_BUFFERSIZE, SEND_BUFFER_BYTES),
        (pycurl.TCP_KEEPALIVE, 1),
        (pycurl.USERAGENT, USER_AGENT),
        (pycurl.LOW_SPEED_LIMIT, settings.stall_bytes_per_second),
        (pycurl.LOW_SPEED_TIME, max(1, round(settings.stall_timeout_seconds))),
    ):
        handle.setopt(option, value)
    _trust(handle, settings.ca_bundle)
    if settings.proxy is not None:
        handle.setopt(pycurl.PROXY, settings.proxy)
    match verb:
        case _Verb.GET:
            handle.setopt(pycurl.HTTPGET, 1)
        case _Verb.HEAD:
            handle.setopt(pycurl.NOBODY, 1)
        case _Verb.DELETE:
            handle.setopt(pycurl.CUSTOMREQUEST, "DELETE")
        case _Verb.PUT | _Verb.POST:
            handle.setopt(pycurl.POST, 1)
            handle.setopt(pycurl.CUSTOMREQUEST, verb.name)
    return handle


def _trust(handle: pycurl.Curl, ca_bundle: str | None) -> None:
    # pycurl presets the system's authorities; left in place they would be trusted as well.
    handle.unsetopt(pycurl.CAPATH)
    if ca_bundle is None:
        handle.setopt(pycurl.CAINFO, _CERTIFI_BUNDLE)
    elif ca_bundle == "system":
        paths = ssl.get_default_verify_paths()
        if paths.cafile:
            handle.setopt(pycurl.CAINFO, paths.cafile)
        if paths.capath:
            handle.setopt(pycurl.CAPATH, paths.capath)
    else:
        handle.setopt(pycurl.CAINFO, ca_bundle)


_TLS = frozenset(
    {
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CACERT_BADFILE,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_SSL_CIPHER,
        pycurl.E_SSL_ISSUER_ERROR,
        pycurl.E_USE_SSL_FAILED,
    }
)


def _wire_error(transfer: Transfer, code: int, text: str) -> WireError:
    """Map libcurl's error codes (https://curl.se/libcurl/c/libcurl-errors.html); the only place."""
    handle = transfer.handle
    text = text or f"libcurl error {code}"
    sent = handle.getinfo(pycurl.REQUEST_SIZE) > 0
    if code == pycurl.E_OPERATION_TIMEDOUT:
        # Two clocks of libcurl's that differ by less than a millisecond.
        limit_seconds = transfer.request.timeout_seconds - 0.01
        if handle.getinfo(pycurl.TOTAL_TIME) >= limit_seconds:
            return TimedOut(text, sent)
        return Stalled(text, sent) if sent else ConnectFailed(text, sent)
    if code == pycurl.E_FILESIZE_EXCEEDED:
        return _too_large(transfer.request)
    if code == pycurl.E_SEND_FAIL_REWIND:
        return Disconnected("the kept connection broke before the reply", sent)
    if sent:
        return Disconnected(text, sent)
    if code in _TLS or (code == pycurl.E_SSL_CONNECT_ERROR and _is_protocol_error(text)):
        return TlsFailed(text, sent)
    return ConnectFailed(text, sent)


def _is_protocol_error(text: str) -> bool:
    """Whether a handshake failed by disagreement rather than by a connection that broke."""
    return "error:" in text and "error:00000000" not in text and "unexpected eof" not in text

"""What both wires share of libcurl: handles, transfers, errors, and what a fork leaves behind."""

import os
from collections.abc import Callable
from enum import Enum

import pycurl

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

RECEIVE_BUFFER_BYTES = 512 * 1024
SEND_BUFFER_BYTES = 2 * 1024 * 1024
MAX_CONNECTIONS = 64
USER_AGENT = "coatcheck"
# An error's XML must fit even where a reply of 0 bytes is expected.
ERROR_REPLY_BYTES = 64 * 1024

Done = Callable[["Transfer", WireError | None], None]


class _Verb(Enum):
    """The ways a handle is set up; a handle keeps to one, so that nothing need be undone."""

    GET = 1
    HEAD = 2
    DELETE = 3
    PUT = 4
    POST = 5


class Transfer:
    """One exchange under way, and the handle that serves it."""

    __slots__ = ("chunks", "done", "handle", "header_lines", "pool", "received_bytes", "request")

    def __init__(self, settings: WireSettings, verb: _Verb, pool: list["Transfer"]) -> None:
        self.header_lines: list[bytes] = []
        self.chunks: list[bytes] = []
        self.received_bytes = 0
        self.pool = pool
        self.request: Request | None = None
        self.done: Done | None = None
        # The callbacks are C functions on purpose: pycurl drops what a Python function raises, and
        # that might be the KeyboardInterrupt of a signal that arrived just then.
        self.handle = _new_handle(settings, verb)
        self.handle.setopt(pycurl.WRITEFUNCTION, self.chunks.append)
        self.handle.setopt(pycurl.HEADERFUNCTION, self.header_lines.append)

    def load(self, request: Request, done: Done) -> None:
        """Make ready to send `request`; `done` is called once, when it has ended."""
        self.request, self.done = request, done
        handle = self.handle
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(pycurl.TIMEOUT_MS, max(1, int(request.timeout_seconds * 1000)))
        if request.method != "HEAD":
            limit_bytes = max(request.reply_limit_bytes, ERROR_REPLY_BYTES)
            handle.setopt(pycurl.MAXFILESIZE_LARGE, limit_bytes)
        if request.method not in ("PUT", "POST"):
            handle.setopt(pycurl.HTTPHEADER, request.headers)
        else:
            # libcurl would wait for "100 Continue", and call every body a web form.
            own = (
                ["Expect:"] if _has_content_type(request.headers) else ["Expect:", "Content-Type:"]
            )
            handle.setopt(pycurl.HTTPHEADER, request.headers + own)
            body = request.body
            # pycurl keeps a reference to bytes and sends from there; it takes no memoryview.
            handle.setopt(
                pycurl.POSTFIELDS, body if isinstance(body, bytes) else bytes(body or b"")
            )

    def drain(self) -> None:
        """Move what has arrived into the request's buffer, so that it is held only once."""
        request = self.request
        if request is None or request.into is None or not self.chunks:
            return
        if not self._succeeded():
            return
        start = self.received_bytes
        for chunk in self.chunks:
            end = start + len(chunk)
            # What does not fit is dropped here and refused when the reply is complete.
            if end <= len(request.into):
                request.into[start:end] = chunk
            start = end
        self.received_bytes = start
        self.chunks.clear()

    def response(self) -> Response:
        """Return the reply of an exchange that ended well, or raise `ReplyTooLarge`."""
        request = self.request
        assert request is not None
        self.drain()
        if request.into is None or not self._succeeded():
            body = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
            self.received_bytes = len(body)
        else:
            body = b""
        if self._succeeded() and self.received_bytes > request.reply_limit_bytes:
            raise ReplyTooLarge(
                f"the reply has {self.received_bytes} bytes, over the limit of"
                f" {request.reply_limit_bytes}",
                True,
            )
        status: int = self.handle.getinfo(pycurl.RESPONSE_CODE)
        return Response(status, self.header_lines.copy(), body, self.received_bytes)

    def _succeeded(self) -> bool:
        status: int = self.handle.getinfo(pycurl.RESPONSE_CODE)
        return 200 <= status < 300

    def unload(self) -> None:
        """Let go of request and reply, and wait in the pool for the next."""
        if self.request is not None and self.request.body is not None:
            self.handle.setopt(pycurl.POSTFIELDS, b"")
        self.request = self.done = None
        self.header_lines.clear()
        self.chunks.clear()
        self.received_bytes = 0
        self.pool.append(self)


def _has_content_type(headers: list[str]) -> bool:
    return any(line[:13].lower() == "content-type:" for line in headers)


class Engine:
    """A libcurl multi handle with its connections, and the transfers under way on it.

    It belongs to one loop, or to one blocking run at a time; it is never used from two threads
    at once.
    """

    def __init__(self) -> None:
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, MAX_CONNECTIONS)
        self.multi.setopt(pycurl.M_MAXCONNECTS, MAX_CONNECTIONS)
        self.active: dict[pycurl.Curl, Transfer] = {}
        self._filling: set[Transfer] = set()
        self._pools: dict[tuple[WireSettings, str], list[Transfer]] = {}
        _engines.add(self)

    def begin(self, settings: WireSettings, request: Request, done: Done) -> Transfer:
        """Hand `request` to libcurl. Nothing moves until the engine's owner drives it."""
        pool = self._pools.setdefault((settings, request.method), [])
        transfer = pool.pop() if pool else Transfer(settings, _Verb[request.method], pool)
        transfer.load(request, done)
        self.active[transfer.handle] = transfer
        if request.into is not None:
            self._filling.add(transfer)
        self.multi.add_handle(transfer.handle)
        return transfer

    def abort(self, transfer: Transfer) -> None:
        """End an exchange that nobody waits for any more; its connection is dropped."""
        if self.active.pop(transfer.handle, None) is not None:
            self.multi.remove_handle(transfer.handle)
            self._filling.discard(transfer)
            transfer.unload()

    def collect(self, running: int) -> None:
        """Tell the owners of exchanges that have ended; libcurl said that `running` have not."""
        for transfer in self._filling:
            transfer.drain()
        queued = int(running < len(self.active))
        while queued:
            queued, succeeded, failed = self.multi.info_read()
            for handle in succeeded:
                self._end(handle, None)
            for handle, code, text in failed:
                self._end(handle, _wire_error(handle, code, text))

    def _end(self, handle: pycurl.Curl, error: WireError | None) -> None:
        self.multi.remove_handle(handle)
        transfer = self.active.pop(handle)
        self._filling.discard(transfer)
        done = transfer.done
        assert done is not None
        done(transfer, error)
        transfer.unload()

    def close(self) -> None:
        """Close every connection. Of several threads that try, one does."""
        try:
            _engines.remove(self)
        except KeyError:
            return
        for handle in self.active:
            self.multi.remove_handle(handle)
        self.active.clear()
        self._pools.clear()
        self.multi.close()


def _new_handle(settings: WireSettings, verb: _Verb) -> pycurl.Curl:
    handle = pycurl.Curl()
    for option, value in (
        (pycurl.NOSIGNAL, 1),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.FOLLOWLOCATION, 0),
        # Keys may hold "." and ".." segments; they are names, not places.
        (pycurl.PATH_AS_IS, 1),
        (pycurl.BUFFERSIZE, RECEIVE_BUFFER_BYTES),
        (pycurl.UPLOAD_BUFFERSIZE, SEND_BUFFER_BYTES),
        (pycurl.TCP_KEEPALIVE, 1),
        (pycurl.USERAGENT, USER_AGENT),
        (pycurl.CONNECTTIMEOUT_MS, max(1, int(settings.connect_timeout_seconds * 1000))),
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
    if ca_bundle is None:
        import certifi

        handle.setopt(pycurl.CAINFO, certifi.where())
    elif ca_bundle == "system":
        import ssl

        paths = ssl.get_default_verify_paths()
        if paths.cafile:
            handle.setopt(pycurl.CAINFO, paths.cafile)
        if paths.capath:
            handle.setopt(pycurl.CAPATH, paths.capath)
    else:
        handle.setopt(pycurl.CAINFO, ca_bundle)


_NOT_CONNECTED = frozenset(
    {
        pycurl.E_COULDNT_RESOLVE_HOST,
        pycurl.E_COULDNT_RESOLVE_PROXY,
        pycurl.E_COULDNT_CONNECT,
        pycurl.E_URL_MALFORMAT,
        pycurl.E_UNSUPPORTED_PROTOCOL,
        pycurl.E_INTERFACE_FAILED,
    }
)
_TLS = frozenset(
    {
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CACERT_BADFILE,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_SSL_CIPHER,
        pycurl.E_SSL_ISSUER_ERROR,
        pycurl.E_USE_SSL_FAILED,
    }
)


def _wire_error(handle: pycurl.Curl, code: int, text: str) -> WireError:
    """Map libcurl's error codes (https://curl.se/libcurl/c/libcurl-errors.html); the only place."""
    sent = handle.getinfo(pycurl.REQUEST_SIZE) > 0
    if code in _NOT_CONNECTED:
        return ConnectFailed(text, False)
    if code in _TLS:
        return TlsFailed(text, False)
    if code == pycurl.E_OPERATION_TIMEDOUT:
        if not sent:
            return ConnectFailed(text, False)
        if "too slow" in text:
            return Stalled(text, sent)
        return TimedOut(text, sent)
    if code == pycurl.E_FILESIZE_EXCEEDED:
        return ReplyTooLarge(text, sent)
    return Disconnected(text or f"libcurl error {code}", sent)


_engines: set[Engine] = set()


def all_engines() -> list[Engine]:
    """Return the engines of this process that are not closed."""
    return list(_engines)


def _abandon_inherited() -> None:
    """In a forked child: never touch the parent's handles again, not even to free them.

    Freeing a handle closes its connections, and closing a TLS connection speaks on a socket that
    the parent is using. Interpreter shutdown would free them too, so each gets a reference that
    is never given back.
    """
    if not _engines:
        return
    import ctypes

    for engine in _engines:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    _engines.clear()


os.register_at_fork(after_in_child=_abandon_inherited)

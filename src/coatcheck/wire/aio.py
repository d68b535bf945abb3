"""The wire on asyncio: libcurl's multi-socket interface, driven by the running loop."""

import asyncio
import os
import threading
import weakref
from functools import partial

import pycurl

from coatcheck.wire.curl import Engine, Outcome
from coatcheck.wire.port import Request, Response, WireSettings


class AsyncioWire:
    """Exchanges requests on whatever loop is running. Each loop has its own connections, shared
    by all wires; share one wire between loops and threads freely."""

    def __init__(self, settings: WireSettings | None = None) -> None:
        self._settings = settings or WireSettings()

    async def exchange(self, request: Request) -> Response:
        """Send `request` and return the whole reply. Cancelled, it drops the connection at once."""
        loop = asyncio.get_running_loop()
        engine = _by_loop.get(loop) or _adopt(loop)
        reply: asyncio.Future[Response] = loop.create_future()
        transfer = engine.begin(self._settings, request, partial(_settle, reply))
        try:
            # Starting now rather than at the timer's call saves a turn of the loop.
            engine.act(pycurl.SOCKET_TIMEOUT, 0)
            return await reply
        finally:
            engine.abort(transfer)
            # Both lead to the error, whose traceback holds this frame: a cycle, and the bodies.
            del reply, transfer


def _settle(reply: "asyncio.Future[Response]", outcome: Outcome) -> None:
    if reply.done():
        return
    if isinstance(outcome, Exception):
        reply.set_exception(outcome)
    else:
        reply.set_result(outcome)


class _LoopEngine(Engine):
    """An engine whose sockets and timer are watched by one event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._watched: dict[int, int] = {}
        self._timer: asyncio.Handle | None = None
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self.multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)

    def live_loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop that watches, or None if it was closed; nothing else tells of that."""
        loop = self._loop() if self._loop is not None else None
        return None if loop is None or loop.is_closed() else loop

    def move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve `loop` from now on. The one before was closed, and what it waited for with it."""
        self.abort_all()
        self._watched.clear()
        self._timer = None
        self._loop = weakref.ref(loop)

    def act(self, fd: int, events: int) -> None:
        """Tell libcurl that something has happened, and tell the owners of what has ended."""
        with self.lock:
            running = 0
            try:
                _, running = self.multi.socket_action(fd, events)
            finally:
                # Also where a signal handler raised in there: nobody else would ask again.
                self.collect(running)

    def _on_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = self.live_loop()
        if loop is None or milliseconds < 0:
            return
        if milliseconds == 0:
            self._timer = loop.call_soon(self._on_time)
        else:
            self._timer = loop.call_later(milliseconds / 1000, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.act(pycurl.SOCKET_TIMEOUT, 0)

    def _on_socket(self, what: int, fd: int, _multi: pycurl.CurlMulti, _data: object) -> None:
        loop = self.live_loop()
        if loop is None:
            return
        wanted = 0 if what == pycurl.POLL_REMOVE else what
        watched = self._watched.pop(fd, 0)
        if wanted & pycurl.POLL_IN and not watched & pycurl.POLL_IN:
            loop.add_reader(fd, self.act, fd, pycurl.CSELECT_IN)
        elif watched & pycurl.POLL_IN and not wanted & pycurl.POLL_IN:
            loop.remove_reader(fd)
        if wanted & pycurl.POLL_OUT and not watched & pycurl.POLL_OUT:
            loop.add_writer(fd, self.act, fd, pycurl.CSELECT_OUT)
        elif watched & pycurl.POLL_OUT and not wanted & pycurl.POLL_OUT:
            loop.remove_writer(fd)
        if wanted:
            self._watched[fd] = wanted


_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopEngine] = (
    weakref.WeakKeyDictionary()
)
_engines: list[_LoopEngine] = []
_engines_lock = threading.Lock()


def _adopt(loop: asyncio.AbstractEventLoop) -> _LoopEngine:
    """Give `loop` an engine: that of a closed loop, with its open connections, or a new one."""
    with _engines_lock:
        engine = next((engine for engine in _engines if engine.live_loop() is None), None)
        if engine is None:
            engine = _LoopEngine()
            _engines.append(engine)
        engine.move_to(loop)
        _by_loop[loop] = engine
        return engine


def _forget_engines() -> None:
    global _engines_lock
    _engines_lock = threading.Lock()
    _engines.clear()
    _by_loop.clear()


# After `coatcheck.wire.inheritance` has seen to it that nothing is freed by this.
os.register_at_fork(after_in_child=_forget_engines)

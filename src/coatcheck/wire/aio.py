"""The wire on asyncio: libcurl's multi-socket interface, driven by the running loop."""

import asyncio
import os
import weakref

import pycurl

from coatcheck.wire.curl import Engine, Transfer, all_engines
from coatcheck.wire.port import Request, Response, WireError, WireSettings


class AsyncioWire:
    """Exchanges requests on whatever loop is running. Each loop has its own connections, shared
    by all wires; share one wire between loops and threads freely."""

    def __init__(self, settings: WireSettings | None = None) -> None:
        self._settings = settings or WireSettings()

    async def exchange(self, request: Request) -> Response:
        """Send `request` and return the whole reply. Cancelled, it drops the connection at once."""
        engine = _engine_of(asyncio.get_running_loop())
        transfer, reply = engine.start(self._settings, request)
        try:
            return await reply
        finally:
            # Ended exchanges have left `active`; what is still there was cancelled.
            if not reply.done() or reply.cancelled():
                engine.abort(transfer)


class _LoopEngine(Engine):
    """An engine whose sockets and timer are watched by one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = weakref.ref(loop)
        self._watched: dict[int, int] = {}
        self._timer: asyncio.Handle | None = None
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self.multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)

    def start(
        self, settings: WireSettings, request: Request
    ) -> tuple[Transfer, "asyncio.Future[Response]"]:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Response] = loop.create_future()

        def settle(transfer: Transfer, error: WireError | None) -> None:
            if reply.done():
                return
            if error is None:
                try:
                    reply.set_result(transfer.response())
                except WireError as too_large:
                    reply.set_exception(too_large)
            else:
                reply.set_exception(error)

        transfer = self.begin(settings, request, settle)
        # Starting now rather than at the timer's call saves a turn of the loop.
        self._act(pycurl.SOCKET_TIMEOUT, 0)
        return transfer, reply

    def _act(self, fd: int, events: int) -> None:
        _, running = self.multi.socket_action(fd, events)
        self.collect(running)

    def _on_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = self.loop()
        if milliseconds < 0 or loop is None or loop.is_closed():
            return
        if milliseconds == 0:
            self._timer = loop.call_soon(self._act, pycurl.SOCKET_TIMEOUT, 0)
        else:
            self._timer = loop.call_later(milliseconds / 1000, self._act, pycurl.SOCKET_TIMEOUT, 0)

    def _on_socket(self, what: int, fd: int, _multi: pycurl.CurlMulti, _data: object) -> None:
        loop = self.loop()
        if loop is None or loop.is_closed():
            return
        wanted = 0 if what == pycurl.POLL_REMOVE else what
        watched = self._watched.pop(fd, 0)
        if wanted & pycurl.POLL_IN and not watched & pycurl.POLL_IN:
            loop.add_reader(fd, self._act, fd, pycurl.CSELECT_IN)
        elif watched & pycurl.POLL_IN and not wanted & pycurl.POLL_IN:
            loop.remove_reader(fd)
        if wanted & pycurl.POLL_OUT and not watched & pycurl.POLL_OUT:
            loop.add_writer(fd, self._act, fd, pycurl.CSELECT_OUT)
        elif watched & pycurl.POLL_OUT and not wanted & pycurl.POLL_OUT:
            loop.remove_writer(fd)
        if wanted:
            self._watched[fd] = wanted


_by_loop: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopEngine]" = (
    weakref.WeakKeyDictionary()
)


def _engine_of(loop: asyncio.AbstractEventLoop) -> _LoopEngine:
    engine = _by_loop.get(loop)
    if engine is None:
        _close_orphans()
        engine = _by_loop[loop] = _LoopEngine(loop)
    return engine


def _close_orphans() -> None:
    """Close the connections of loops that are gone: nothing else tells that a loop was closed."""
    for engine in all_engines():
        if isinstance(engine, _LoopEngine):
            loop = engine.loop()
            if loop is None or loop.is_closed():
                engine.close()


os.register_at_fork(after_in_child=_by_loop.clear)

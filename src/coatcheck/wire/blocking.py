"""The wire on plain threads: the calling thread drives libcurl while it waits for its reply."""

import os
import time
from collections import deque
from collections.abc import Generator
from typing import Any

from coatcheck.runtime.blocking import Run, Task, Trap
from coatcheck.wire.curl import Engine, Transfer
from coatcheck.wire.port import Request, Response, WireError, WireSettings

# libcurl's select() cannot see descriptors over 1,023 and returns at once; waiting this long
# between two looks keeps such a process from spinning.
BLIND_WAIT_SECONDS = 0.001


class BlockingWire:
    """Exchanges requests from any thread. Connections are kept for the process and lent to one
    call at a time; share one wire between threads freely."""

    def __init__(self, settings: WireSettings | None = None) -> None:
        self._settings = settings or WireSettings()

    async def exchange(self, request: Request) -> Response:
        """Send `request` and return the whole reply. Interrupted, it drops the connection."""
        return await _Exchange(self._settings, request)


class _Exchange:
    """The trap in which a coroutine waits for its reply."""

    __slots__ = ("_poller", "_request", "_run", "_settings", "_task", "_transfer")

    def __init__(self, settings: WireSettings, request: Request) -> None:
        self._settings = settings
        self._request = request
        self._poller: _Poller | None = None
        self._transfer: Transfer | None = None

    def __await__(self) -> Generator[Trap, Response, Response]:
        return (yield self)

    def arm(self, run: Run, task: Task[Any]) -> None:
        self._run, self._task = run, task
        self._poller = poller = run.poller(_Poller)
        self._transfer = poller.engine.begin(self._settings, self._request, self._settle)

    def disarm(self) -> None:
        if self._poller is not None and self._transfer is not None:
            self._poller.engine.abort(self._transfer)

    def _settle(self, transfer: Transfer, error: WireError | None) -> None:
        # What has ended must not be aborted: its handle may serve another by then.
        self._transfer = None
        if error is not None:
            self._run.resume(self._task, None, error)
            return
        try:
            self._run.resume(self._task, transfer.response())
        except WireError as too_large:
            self._run.resume(self._task, None, too_large)


class _Poller:
    """Lends an engine to a run."""

    def __init__(self) -> None:
        try:
            self.engine = _idle_engines.pop()
        except IndexError:
            self.engine = Engine()

    def busy(self) -> bool:
        return bool(self.engine.active)

    def poll(self, seconds: float) -> None:
        if self._perform():
            return
        started = time.monotonic()
        self.engine.multi.select(seconds)
        if not self._perform() and time.monotonic() - started < BLIND_WAIT_SECONDS:
            time.sleep(min(seconds, BLIND_WAIT_SECONDS))

    def _perform(self) -> bool:
        """Move what can be moved; return whether an exchange has ended."""
        engine = self.engine
        before = len(engine.active)
        _, running = engine.multi.perform()
        engine.collect(running)
        return len(engine.active) < before

    def release(self) -> None:
        engine = self.engine
        if engine.active:
            # Only a second interruption, in the midst of cleaning up, leaves anything under way.
            engine.close()
        else:
            _idle_engines.append(engine)


_idle_engines: deque[Engine] = deque()

os.register_at_fork(after_in_child=_idle_engines.clear)

"""The wire on plain threads: the calling thread drives libcurl while it waits for its reply."""

import os
import select
import time
from collections import deque
from types import BuiltinFunctionType
from typing import Any

import pycurl

from coatcheck.runtime.run import Failure, Run, Task, Trap
from coatcheck.wire.curl import Engine, Outcome, Transfer
from coatcheck.wire.port import Request, Response, WireSettings

MAX_IDLE_ENGINES = 64

# Between two looks at connections that cannot be waited for: often enough, and no spinning.
BLIND_WAIT_SECONDS = 0.001


class BlockingWire:
    """Exchanges requests from any thread. Connections are kept for the process and lent to one
    call at a time; share one wire between threads freely."""

    def __init__(self, settings: WireSettings | None = None) -> None:
        self._settings = settings or WireSettings()

    async def exchange(self, request: Request) -> Response:
        """Send `request` and return the whole reply. Interrupted, it drops the connection."""
        response: Response = await _Exchange(self._settings, request)
        return response


class _Exchange(Trap):
    """The trap in which a coroutine waits for its reply."""

    __slots__ = ("_engine", "_request", "_settings", "_transfer")

    def __init__(self, settings: WireSettings, request: Request) -> None:
        self._settings = settings
        self._request = request
        self._engine: Engine | None = None
        self._transfer: Transfer | None = None

    def arm(self, run: Run, task: Task[Any]) -> None:
        def settle(outcome: Outcome) -> None:
            self._transfer = None
            run.resume(task, self, Failure(outcome) if isinstance(outcome, Exception) else outcome)

        self._engine = run.poller(_Poller).engine
        self._transfer = self._engine.begin(self._settings, self._request, settle)

    def disarm(self) -> None:
        if self._engine is not None and self._transfer is not None:
            self._engine.abort(self._transfer)
            self._transfer = None


class _ThreadEngine(Engine):
    """An engine that whoever waits for its replies drives."""

    def __init__(self) -> None:
        super().__init__()
        self._is_blind = False

    def poll(self, seconds: float) -> None:
        """Wait for replies for at most `seconds`."""
        if self._perform():
            return
        due_milliseconds = self.multi.timeout()
        if due_milliseconds >= 0:
            seconds = min(seconds, due_milliseconds / 1000)
        if self._is_blind:
            seconds = min(seconds, BLIND_WAIT_SECONDS)
        is_seen = self._wait(seconds)
        if self._perform():
            # A reply that came unseen tells that select() does not see all connections.
            self._is_blind = not is_seen

    def _wait(self, seconds: float) -> bool:
        """Wait for a connection to be ready; return whether one is seen to be.

        pycurl waits with select(), which sees no descriptor over 1,023, and with nothing to see
        does not wait at all.
        """
        started = time.monotonic()
        if _select(self.multi, seconds):
            return True
        left = min(seconds, BLIND_WAIT_SECONDS) - (time.monotonic() - started)
        if left > 0:
            time.sleep(left)
        return False

    def _perform(self) -> bool:
        """Move what can be moved; return whether an exchange has ended."""
        with self.lock:
            before = len(self.active)
            _, running = self.multi.perform()
            self.collect(running)
            return len(self.active) < before


def _select(multi: pycurl.CurlMulti, seconds: float) -> int:
    """Wait until libcurl has something to do; return how many descriptors say so.

    Under gevent or eventlet, `select.select` is theirs by now, and lets other greenlets run; the
    one inside pycurl would hold up all of them.
    """
    if isinstance(select.select, BuiltinFunctionType):
        seen: int = multi.select(seconds)
        return seen
    reading, writing, failing = multi.fdset()
    if not (reading or writing or failing):
        return 0
    return sum(map(len, select.select(reading, writing, failing, seconds)))


class _Poller:
    """Lends an engine to a run."""

    def __init__(self) -> None:
        try:
            self.engine = _idle_engines.pop()
        except IndexError:
            self.engine = _ThreadEngine()

    def busy(self) -> bool:
        return bool(self.engine.active)

    def poll(self, seconds: float) -> None:
        self.engine.poll(seconds)

    def release(self) -> None:
        self.engine.abort_all()
        if not self.engine.is_inherited:
            _idle_engines.append(self.engine)


# The one used last is lent first; beyond the maximum, the one used longest ago is dropped.
_idle_engines: deque[_ThreadEngine] = deque(maxlen=MAX_IDLE_ENGINES)

# After `coatcheck.wire.inheritance` has seen to it that nothing is freed by this.
os.register_at_fork(after_in_child=_idle_engines.clear)

"""The bytes that the whole process may have in flight."""

import os
import threading
from collections import deque

from coatcheck.errors import ConfigError
from coatcheck.runtime.port import Runtime, Waiter

DEFAULT_BYTES = 128 * 1024 * 1024


class _Turn:
    __slots__ = ("granted", "size_bytes", "waiter")

    def __init__(self, size_bytes: int, waiter: Waiter) -> None:
        self.size_bytes = size_bytes
        self.waiter = waiter
        self.granted = False


class ByteBudget:
    """Bytes that may be in flight at once; who finds none left waits, first come, first served.

    Shared by all threads and event loops. A request for more than the whole budget is counted
    as the whole budget, so that it is served alone rather than never.
    """

    def __init__(self, limit_bytes: int = DEFAULT_BYTES) -> None:
        self._limit_bytes = self._free_bytes = limit_bytes
        self._queue: deque[_Turn] = deque()
        self._lock = threading.Lock()

    @property
    def free_bytes(self) -> int:
        """Bytes that nobody holds."""
        return self._free_bytes

    def resize(self, limit_bytes: int) -> None:
        """Set the budget; what is held stays held."""
        if limit_bytes < 1:
            raise ConfigError(f"a budget of {limit_bytes} bytes", remedy="Give a number above 0")
        with self._lock:
            self._free_bytes += limit_bytes - self._limit_bytes
            self._limit_bytes = limit_bytes
            turns = self._grant()
        for turn in turns:
            turn.waiter.wake()

    async def take(self, size_bytes: int, runtime: Runtime) -> int:
        """Take `size_bytes`, waiting for them if need be; return what `give_back` wants.

        Cancelled, it takes nothing.
        """
        with self._lock:
            size_bytes = min(size_bytes, self._limit_bytes)
            if not self._queue and self._free_bytes >= size_bytes:
                self._free_bytes -= size_bytes
                return size_bytes
            turn = _Turn(size_bytes, runtime.waiter())
            self._queue.append(turn)
        try:
            await turn.waiter.wait()
        except BaseException:
            with self._lock:
                if not turn.granted:
                    self._queue.remove(turn)
            if turn.granted:
                self.give_back(size_bytes)
            raise
        return size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Give back what `take` returned."""
        with self._lock:
            self._free_bytes = min(self._limit_bytes, self._free_bytes + size_bytes)
            turns = self._grant()
        for turn in turns:
            turn.waiter.wake()

    def _grant(self) -> list[_Turn]:
        granted: list[_Turn] = []
        while self._queue and self._queue[0].size_bytes <= self._free_bytes:
            turn = self._queue.popleft()
            turn.granted = True
            self._free_bytes -= turn.size_bytes
            granted.append(turn)
        return granted

    def forget_holders(self) -> None:
        """In a forked child: whoever held or waited is a thread of the parent."""
        self._lock = threading.Lock()
        self._free_bytes = self._limit_bytes
        self._queue = deque()


PROCESS_BUDGET = ByteBudget()

os.register_at_fork(after_in_child=PROCESS_BUDGET.forget_holders)

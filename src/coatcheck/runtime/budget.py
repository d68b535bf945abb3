"""The bytes that the whole process may have in flight."""

import os
import threading
import weakref

from coatcheck.errors import ConfigError
from coatcheck.runtime.port import Runtime, Waiter

DEFAULT_BYTES = 128 * 1024 * 1024


class _Turn:
    __slots__ = ("granted", "size_bytes", "waiter")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.granted = False
        self.waiter: Waiter | None = None


class ByteBudget:
    """Bytes that may be in flight at once; who finds none left waits, first come, first served.

    Shared by all threads and event loops. A request for more than the whole budget is counted
    as the whole budget, so that it is served alone rather than never. A forked child begins
    with the whole budget.
    """

    # A signal handler may raise between any two steps below, and a signal handler or a finalizer
    # may take and give back in their midst. So the lock is reentrant, no call comes between two
    # steps that belong together, and a turn stays in the queue until its waiter is woken.

    def __init__(self, limit_bytes: int = DEFAULT_BYTES) -> None:
        self._limit_bytes = self._free_bytes = limit_bytes
        self._queue: dict[_Turn, None] = {}
        self._lock = threading.RLock()
        _budgets[:] = [known for known in _budgets if known() is not None]
        _budgets.append(weakref.ref(self))

    @property
    def free_bytes(self) -> int:
        """Bytes that nobody holds; 0 also while more is held than a new, smaller limit allows."""
        return max(0, self._free_bytes)

    def resize(self, limit_bytes: int) -> None:
        """Set the budget; what is held stays held. Raises ConfigError for less than 1."""
        if limit_bytes < 1:
            raise ConfigError(f"a budget of {limit_bytes} bytes", remedy="Give a number above 0")
        with self._lock:
            self._free_bytes += limit_bytes - self._limit_bytes
            self._limit_bytes = limit_bytes
            self._grant()

    async def take(self, size_bytes: int, runtime: Runtime) -> int:
        """Take `size_bytes`, waiting for them if need be; return what `give_back` wants.

        Cancelled, it takes nothing.
        """
        turn = _Turn(size_bytes)
        try:
            with self._lock:
                self._queue[turn] = None
                self._grant()
                if not turn.granted:
                    turn.waiter = runtime.waiter()
            if turn.waiter is not None:
                await turn.waiter.wait()
        except BaseException:
            self._leave(turn)
            raise
        return turn.size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Give back what `take` returned; that must reach this call, whatever is raised before."""
        with self._lock:
            free_bytes = self._free_bytes + size_bytes
            # A forked child may give back what was taken in the parent.
            self._free_bytes = free_bytes if free_bytes < self._limit_bytes else self._limit_bytes
            self._grant()

    def _leave(self, turn: _Turn) -> None:
        with self._lock:
            self._queue.pop(turn, None)
            if turn.granted:
                self.give_back(turn.size_bytes)
            else:
                # Whoever stood behind may fit where this one did not.
                self._grant()

    def _grant(self) -> None:
        """Serve those in front while there is enough."""
        while self._queue:
            turn = next(iter(self._queue))
            if not turn.granted:
                # The limit may have shrunk below what was asked for.
                size_bytes = min(turn.size_bytes, self._limit_bytes)
                if size_bytes > self._free_bytes:
                    return
                turn.size_bytes, turn.granted = size_bytes, True
                self._free_bytes -= size_bytes
            if turn.waiter is not None:
                turn.waiter.wake()
            self._queue.pop(turn, None)

    def forget_holders(self) -> None:
        """In a forked child: whoever held or waited is a thread of the parent."""
        self._lock = threading.RLock()
        self._free_bytes = self._limit_bytes
        self._queue = {}


# No WeakSet: what a signal handler raises in the callback with which that forgets is lost.
_budgets: list["weakref.ref[ByteBudget]"] = []


def _forget_all_holders() -> None:
    for known in _budgets:
        budget = known()
        if budget is not None:
            budget.forget_holders()


os.register_at_fork(after_in_child=_forget_all_holders)

PROCESS_BUDGET = ByteBudget()

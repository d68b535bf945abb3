"""What a forked child, and a process that ends, do with libcurl's handles: never touch them again.

Freeing a handle closes its connections, and closing a TLS connection speaks on a socket that the
parent goes on using. And a process that ends must not wait for a name server that is silent, as
freeing does. The system closes the sockets soon enough.

For a child's sake, too, the wire imports what it needs when it is imported itself: a module that
another thread was importing at the time of the fork can never be imported in the child.
"""

import atexit
import contextlib
import ctypes
import os
import threading
import weakref
from typing import Protocol

MAX_FORK_WAIT_SECONDS = 5.0


class _Lock(Protocol):
    def acquire(self, *, timeout: float) -> bool: ...
    def release(self) -> None: ...


class Heirloom:
    """Something that a forked child inherits and must neither use nor free.

    Its owner holds `lock` while it is inside: a fork waits until nobody is, so that no lock of
    libcurl's or OpenSSL's stays locked in the child by a thread that only the parent has.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_inherited = False
        with _registry_lock:
            _heirlooms[:] = [known for known in _heirlooms if known() is not None]
            _heirlooms.append(weakref.ref(self))

    def abandon(self) -> None:
        """In a forked child: forget what is under way. All that this holds is kept from harm."""


# No WeakSet: what a signal handler raises in the callback with which that forgets is lost.
_heirlooms: list["weakref.ref[Heirloom]"] = []
_registry_lock = threading.RLock()
_held_locks: list[_Lock] = []


def _living() -> list[Heirloom]:
    return [heirloom for known in _heirlooms if (heirloom := known()) is not None]


def _never_free(thing: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _hold(lock: _Lock) -> None:
    # Noted first: a signal handler's exception in between must not leave it locked.
    _held_locks.append(lock)
    # In vain only where a signal handler forks in the midst of a call while another thread forks.
    lock.acquire(timeout=MAX_FORK_WAIT_SECONDS)


def _before_fork() -> None:
    _hold(_registry_lock)
    for heirloom in _living():
        _hold(heirloom.lock)


def _after_fork() -> None:
    while _held_locks:
        with contextlib.suppress(RuntimeError):
            _held_locks.pop().release()


def _after_fork_in_child() -> None:
    _after_fork()
    for heirloom in _living():
        _never_free(vars(heirloom).copy())
        heirloom.is_inherited = True
        heirloom.abandon()
    _heirlooms.clear()


def _at_exit() -> None:
    for heirloom in _living():
        _never_free(heirloom)


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
atexit.register(_at_exit)

"""Ctrl-C, once or many times, at any moment, leads to one orderly end."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Interrupted(BaseException):
    """Raised where a signal ends what runs.

    Not KeyboardInterrupt: where that passes through an `exec`, as imports of classes made from
    text do, CPython remembers it and kills the process with SIGINT at its end, caught or not.
    """


class Interruption:
    """Watches for SIGINT and SIGTERM. The first one ends what runs; later ones change nothing.

    Python's own handling would let a second Ctrl-C break into the clean-up after the first.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal that came, or None."""
        self._react: Callable[[], object] = _raise

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        # For good: the interpreter's own last steps must not be broken into either.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def hold(self) -> None:
        """Only take note of signals, until `check`: what comes next is clean-up, and bounded."""
        self._react = _wait

    def check(self) -> None:
        """Raise Interrupted if a signal has come meanwhile; if not, the next one raises it."""
        self._react = _raise
        if self.number is not None:
            raise Interrupted

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `main` on an event loop; a signal cancels it, unless `main` holds signals off."""

        async def cancellable() -> T:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            self._react = lambda: loop.call_soon_threadsafe(task.cancel)
            try:
                return await main()
            finally:
                self.hold()

        result = asyncio.run(cancellable())
        self.check()
        return result

    def _arrived(self, number: int, _: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            self._react()


def _raise() -> None:
    raise Interrupted


def _wait() -> None:
    """Let the clean-up go on."""

"""The scheduler of one blocking call.

Coroutines yield *traps* to it ("wake me in a second", "wake me when this reply is here"). While
all of them wait, the run waits too, in slices short enough that a signal handler (Ctrl-C,
Celery's soft time limit) runs within `SLICE_SECONDS`. There is no hidden thread and no loop that
outlives the call, so it can be forked, interrupted and started on any thread.

What a signal handler raises can strike between any two steps of this file. Two rules keep that
harmless. It is always raised in a coroutine: where that one waits if its turn was under way, else
in the call's own, whose clean-up then ends all others. And a task goes on only if it still waits
in the trap that speaks up: what comes too late, or twice, is ignored.
"""

import heapq
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from coatcheck.runtime.port import Job, T

SLICE_SECONDS = 0.2
WAKE_SLICE_SECONDS = 0.005


class Cancelled(BaseException):
    """Raised in a coroutine whose result nobody wants; like asyncio's, it is not an Exception."""


class Trap:
    """What a coroutine of a run awaits: it tells the run what to wait for."""

    __slots__ = ()

    def arm(self, run: "Run", task: "Task[Any]") -> None:
        """Arrange for `run.resume(task, self, ...)`, now or later. May raise, half done."""
        raise NotImplementedError

    def disarm(self) -> None:
        """Forget it: the task does not wait for this any more. Any number of times."""

    def __await__(self) -> Generator["Trap", object, Any]:
        return _unwrap((yield self))


class Failure:
    """Sent to a coroutine in place of a value: what to raise there.

    Raised by the coroutine itself rather than thrown into it, an error has what the coroutine was
    handling at that time as its context, as it should.
    """

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error: BaseException | None = error

    def is_grave(self) -> bool:
        """Whether it is KeyboardInterrupt or the like, which must not be lost."""
        return _is_grave(self._error)

    def take(self) -> BaseException:
        """Return the error, once. The frames that hold this are in the error's traceback."""
        error, self._error = self._error, None
        assert error is not None
        return error


def _unwrap(answer: object) -> object:
    if isinstance(answer, Failure):
        raise answer.take()
    return answer


class Sleeper(Protocol):
    """Something that another thread may wake."""

    @property
    def is_woken(self) -> bool:
        """Whether that has happened."""
        ...

    def resume(self) -> None:
        """Let the waiting task go on."""
        ...


class Poller(Protocol):
    """A source of events that a run waits on: libcurl, for one."""

    def busy(self) -> bool:
        """Whether anything is under way."""
        ...

    def poll(self, seconds: float) -> None:
        """Wait for events for at most `seconds` and resume the tasks they concern."""
        ...

    def release(self) -> None:
        """The run is over: put away what can serve another."""
        ...


P = TypeVar("P", bound=Poller)


class Task(Generic[T]):
    """A job under way in a run. Its coroutine is made when its first turn has come.

    Whoever has learned of its error calls `forget`: the frames in an error's traceback lead to the
    task, and a cycle would keep the bodies that they hold.
    """

    __slots__ = ("coroutine", "done", "error", "is_started", "job", "result", "trap", "watcher")

    def __init__(self, job: Job[T]) -> None:
        self.job = job
        self.coroutine: Coroutine[Any, Any, T] | None = None
        self.trap: Trap | None = None
        self.is_started = False
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.watcher: Callable[[Task[Any]], None] | None = None

    def forget(self) -> None:
        """Hold neither result nor error any more."""
        self.result = self.error = None


_active = threading.local()


class Run:
    """Drives the coroutine of one call, and those it starts beside itself."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Task[Any], object]] = deque()
        self._live: set[Task[Any]] = set()
        self._timers: list[tuple[float, int, Task[Any], Trap]] = []
        self._sequence = count()
        self._pollers: list[Poller] = []
        # In the order in which they went to sleep.
        self._sleepers: dict[Sleeper, None] = {}
        self._woken: threading.Event | None = None

    @staticmethod
    def current() -> "Run":
        """Return the run under way on this thread, the innermost one."""
        run: Run = _active.run
        return run

    def start(self, task: Task[Any]) -> None:
        """Give `task` its first turn, after those who wait for theirs. Again: no effect."""
        self._live.add(task)
        if not task.is_started:
            task.is_started = True
            self._ready.append((task, None))

    def resume(self, task: Task[Any], trap: Trap, answer: object = None) -> None:
        """Let `task` go on with `answer`, a value or a Failure, if it still waits in `trap`."""
        if task.trap is trap:
            task.trap = None
            self._ready.append((task, answer))

    def interrupt(self, task: Task[Any], error: BaseException) -> None:
        """Raise `error` in `task` where it waits, in place of whatever was to come next there;
        but not in place of a KeyboardInterrupt or the like."""
        if task.done:
            return
        trap, task.trap = task.trap, None
        if trap is not None:
            trap.disarm()
        task.is_started = True
        coming = [answer for other, answer in self._ready if other is task]
        if not any(isinstance(answer, Failure) and answer.is_grave() for answer in coming):
            others = deque(entry for entry in self._ready if entry[0] is not task)
            others.append((task, Failure(error)))
            self._ready = others

    def at(self, when: float, task: Task[Any], trap: Trap) -> None:
        """Resume `task` at monotonic time `when`, if it still waits in `trap`."""
        heapq.heappush(self._timers, (when, next(self._sequence), task, trap))

    def poller(self, kind: type[P]) -> P:
        """Return this run's poller of that kind, made without arguments when first asked for."""
        for found in self._pollers:
            if isinstance(found, kind):
                return found
        made = kind()
        self._pollers.append(made)
        return made

    def expect_wake(self, sleeper: Sleeper) -> None:
        """Look after `sleeper` from now on."""
        if self._woken is None:
            self._woken = threading.Event()
        self._sleepers[sleeper] = None

    def forget_wake(self, sleeper: Sleeper) -> None:
        """Look after it no more."""
        self._sleepers.pop(sleeper, None)

    def notice_wake(self) -> None:
        """Look after the sleepers now. Called by any thread."""
        if self._woken is not None:
            self._woken.set()

    def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` to its end and return its result or raise its error.

        What a signal handler raises meanwhile is raised inside the coroutine, so that its
        clean-up runs; it comes out even if the coroutine has just ended.
        """
        outer: Run | None = None
        interruption: BaseException | None = None
        try:
            outer = getattr(_active, "run", None)
            root = Task(lambda: coroutine)
            _active.run = self
            self.start(root)
            while not root.done:
                try:
                    if interruption is not None:
                        self.interrupt(root, interruption)
                        interruption = None
                    while not root.done:
                        self._turn()
                except BaseException as raised:
                    interruption = raised
            if self._live:
                self._sweep()
            return _outcome(root, interruption)
        finally:
            # A frame that holds an error whose traceback holds the frame would keep the bodies.
            interruption = None
            _active.run = outer
            self._timers.clear()
            for poller in self._pollers:
                poller.release()

    def _sweep(self) -> None:
        """Cancel what an interruption in the midst of a clean-up has left running."""
        left = list(self._live)
        for task in left:
            self.interrupt(task, Cancelled())
        while self._live:
            self._turn()
        try:
            raise_grave(left)
        finally:
            for task in left:
                task.forget()

    def _turn(self) -> None:
        self._resume_due()
        if not self._ready:
            self._idle()
        for _ in range(len(self._ready)):
            task, answer = self._ready.popleft()
            self._step(task, answer)

    def _step(self, task: Task[Any], answer: object) -> None:
        try:
            trap = _advance(task, answer)
            task.trap = trap
            trap.arm(self, task)
            return
        except StopIteration as stop:
            task.result = stop.value
        except BaseException as failure:
            if task.coroutine and inspect.getcoroutinestate(task.coroutine) != inspect.CORO_CLOSED:
                # Raised on the coroutine's way out, or by what it wants to wait for.
                self.interrupt(task, failure)
                return
            task.error = failure
        task.done = True
        self._live.discard(task)
        watcher, task.watcher = task.watcher, None
        if watcher is not None:
            watcher(task)

    def _idle(self) -> None:
        """Wait until something may have happened, or for one slice."""
        seconds = SLICE_SECONDS
        if self._timers:
            seconds = min(seconds, max(0.0, self._timers[0][0] - time.monotonic()))
        busy = [poller for poller in self._pollers if poller.busy()]
        if busy:
            if self._sleepers:
                # A poller cannot be woken by another thread.
                seconds = min(seconds, WAKE_SLICE_SECONDS)
            for poller in busy:
                poller.poll(seconds / len(busy))
        elif self._sleepers and self._woken is not None:
            self._woken.wait(seconds)
            self._woken.clear()
        elif self._timers:
            time.sleep(seconds)
        else:
            raise RuntimeError(
                "nothing will wake this blocking call: the process was forked in its midst, and"
                " only the parent can go on with it"
            )

    def _resume_due(self) -> None:
        if self._sleepers:
            for sleeper in [sleeper for sleeper in self._sleepers if sleeper.is_woken]:
                sleeper.resume()
        if self._timers:
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                _, _, task, trap = heapq.heappop(self._timers)
                self.resume(task, trap)


def _advance(task: Task[Any], answer: object) -> Trap:
    """Give `task` its turn; return what it waits for then. Raises StopIteration at its end."""
    if task.coroutine is None:
        _unwrap(answer)
        task.coroutine = task.job()
    coroutine = task.coroutine
    trap = coroutine.send(answer)
    while not isinstance(trap, Trap):
        trap = coroutine.throw(RuntimeError(f"a blocking call cannot await {trap!r}"))
    return trap


def _is_grave(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, (Exception, Cancelled, GeneratorExit))


def raise_grave(tasks: list[Task[Any]]) -> None:
    """Raise what struck one of `tasks` though nobody asked for it, such as KeyboardInterrupt.

    Nobody looks at the error of a task that was cancelled; this one must not be lost.
    """
    for task in tasks:
        error = task.error
        while error is not None and not _is_grave(error):
            # Cancelled while it cleaned up after an interruption, a task ends as cancelled.
            error = error.__context__
        if error is not None:
            try:
                raise error
            finally:
                del task, error


def _outcome(root: Task[T], interruption: BaseException | None) -> T:
    error = interruption if interruption is not None else root.error
    if error is None:
        return root.result  # type: ignore[return-value] # done without error: it is a T
    root.forget()
    try:
        raise error
    finally:
        del error, interruption

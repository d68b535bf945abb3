"""How far a command is: shown on standard error once it has taken more than a second.

Only numbers that are known are shown: bytes that were read, requests that were answered. Where
there are none, the time that has gone by is.
"""

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from coatcheck.cli import units
from coatcheck.wire.port import Request, Response, Wire

if TYPE_CHECKING:
    from rich.console import RenderableType

QUIET_SECONDS = 1.0
REDRAW_SECONDS = 0.1


class Meter:
    """A context manager; inside, `begin` names a step and `advance` counts its bytes.

    Shows nothing where standard error is not a terminal. The drawing is done by one thread, which
    has ended when the block has, whatever way it ended.
    """

    def __init__(self) -> None:
        self._step = ""
        self._total_bytes: int | None = None
        self._done_bytes = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, step: str, total_bytes: int | None = None) -> None:
        """Go on to `step`, which is about `total_bytes`, if that is known."""
        self._total_bytes = None
        self._done_bytes = 0
        self._step, self._total_bytes = step, total_bytes

    def advance(self, done_bytes: int) -> None:
        """Count `done_bytes` more of the step."""
        self._done_bytes += done_bytes

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._thread = threading.Thread(target=self._show, name="meter", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _show(self) -> None:
        if self._ended.wait(QUIET_SECONDS):
            return
        # Not before now: most commands have ended by then, and this takes a moment to import.
        from rich.console import Console
        from rich.live import Live

        picture = _Picture()
        with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:
            while True:
                live.update(
                    picture.draw(self._step, self._done_bytes, self._total_bytes), refresh=True
                )
                if self._ended.wait(REDRAW_SECONDS):
                    return


class _Picture:
    """One line: a spinner, the step, a bar and the bytes where there are any, the time."""

    def __init__(self) -> None:
        from rich.spinner import Spinner

        self._spinner = Spinner("dots")
        self._started = time.monotonic() - QUIET_SECONDS

    def draw(self, step: str, done_bytes: int, total_bytes: int | None) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        cells: list[RenderableType] = [self._spinner, Text(step)]
        if done_bytes and total_bytes:
            done_bytes = min(done_bytes, total_bytes)
            cells.append(ProgressBar(total_bytes, done_bytes, width=20))
            cells.append(f"{units.size(done_bytes)} of {units.size(total_bytes)}")
        elif done_bytes:
            cells.append(units.size(done_bytes))
        seconds = time.monotonic() - self._started
        if done_bytes:
            cells.append(f"{units.size(round(done_bytes / seconds))}/s")
        cells.append(f"{seconds:.0f} s")
        if done_bytes and total_bytes and done_bytes < total_bytes:
            left = (total_bytes - done_bytes) * seconds / done_bytes
            cells.append(f"about {left:.0f} s left")
        line = Table.grid(padding=(0, 1))
        line.add_row(*cells)
        return line


class MeteredWire:
    """A wire that counts the bodies of requests that succeeded."""

    def __init__(self, wire: Wire, meter: Meter) -> None:
        self._wire = wire
        self._meter = meter

    async def exchange(self, request: Request) -> Response:
        """Exchange as the wire does."""
        response = await self._wire.exchange(request)
        if 200 <= response.status < 300:
            if request.method == "PUT":
                self._meter.advance(len(request.body or b""))
            elif request.method == "GET":
                self._meter.advance(response.received_bytes)
        return response

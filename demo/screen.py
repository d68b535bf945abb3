"""What the demo prints: spinners on a terminal, plain lines elsewhere."""

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

NARROWEST, WIDEST = 80, 120


class Screen:
    """Prints to standard output, or to standard error where that is for a program to read."""

    def __init__(self, *, to_stderr: bool) -> None:
        stream = sys.stderr if to_stderr else sys.stdout
        if isinstance(stream, io.TextIOWrapper):
            # A dash that a terminal cannot show must not end the demo.
            stream.reconfigure(errors="replace")
        self._console = Console(stderr=to_stderr, highlight=False, emoji=False)
        # Without a terminal there is no width to keep to; a log takes a wide line.
        self.resize(self._console.width if self._console.is_terminal else WIDEST)

    def resize(self, columns: int) -> None:
        """Keep to this width, within what the tables can be made for."""
        self._console.width = self.width = max(NARROWEST, min(columns, WIDEST))

    def say(self, text: str = "", style: str = "") -> None:
        """Print a paragraph, wrapped at the screen's width."""
        self._console.print(text, style=style, markup=False)

    def show(self, table: Table) -> None:
        """Print a table."""
        self._console.print(table)

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """Show that something is being done, and afterwards how long it took."""
        started = time.perf_counter()
        with self._console.status(doing):
            yield
        self.say(f"{doing:.<60} {time.perf_counter() - started:5.1f} s", style="dim")


def megabytes(size_bytes: float) -> str:
    """Write a size as people read it."""
    if size_bytes < 1024:
        return f"{size_bytes:.0f} B"
    if size_bytes < 1024 * 1024:
        return f"{size_bytes / 1024:.1f} KiB"
    return f"{size_bytes / 1024 / 1024:.1f} MiB"


def milliseconds(seconds: float) -> str:
    """Write a short time as people read it."""
    return f"{seconds * 1000:.0f} ms"

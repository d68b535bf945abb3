"""How a set of measurements is printed: tables, notes and targets, in plain text or JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text under a title; the first columns, up to `left`, are aligned to the left."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    note: str = ""

    def lines(self) -> list[str]:
        """Return the table as lines of text."""
        grid = [self.header, *self.rows]
        widths = [max(len(row[column]) for row in grid) for column in range(len(self.header))]
        found = [self.title]
        for row in grid:
            cells = [
                cell.ljust(width) if column < self.left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            found.append("  " + "  ".join(cells).rstrip())
        if self.note:
            found.extend(f"  {line}" for line in self.note.splitlines())
        return found


@dataclass(frozen=True)
class Target:
    """What was to be reached, and what was."""

    name: str
    measured: str
    limit: str
    met: bool

    def line(self) -> str:
        """Return the target as a line of text."""
        mark = "✓" if self.met else "✗"
        return f"  {mark} {self.name}: {self.measured} (target: {self.limit})"


@dataclass(frozen=True)
class Report:
    """What a set has measured."""

    title: str
    tables: Sequence[Table]
    targets: Sequence[Target]
    data: Mapping[str, object]
    """The measurements themselves, for programs."""

    def text(self) -> str:
        """Return the report for people."""
        lines = [self.title, "=" * len(self.title)]
        for table in self.tables:
            lines += ["", *table.lines()]
        lines += ["", "Targets", *[target.line() for target in self.targets]]
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """Return the report for programs."""
        targets = [
            {"name": t.name, "measured": t.measured, "limit": t.limit, "met": t.met}
            for t in self.targets
        ]
        return {"title": self.title, "targets": targets, **self.data}

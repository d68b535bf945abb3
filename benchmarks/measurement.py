"""What a process measures of itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One batch of operations."""

    count: int
    cpu_seconds: float
    """User and system time of the process, all of its threads."""
    wall_seconds: float
    peak_bytes: int | None
    """The most memory that was held above what was held before; None where the system cannot
    tell."""

"""How long each kind of record lives: result_expires and the settings that refine it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import states


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds from the last write of a record to its end; 0: for ever.

    results: result_expires. failures: result_failure_expires, else as results. chords:
    result_chord_expires, else as results; the parts of a chord live as long as it may take,
    since the last of them reads the results of all.
    """

    results: float
    failures: float
    chords: float

    @property
    def shortest(self) -> float:
        """The age up to which any record is alive; infinite where nothing expires."""
        finite = [seconds for seconds in (self.results, self.failures) if seconds]
        return min(finite, default=float("inf"))

    @property
    def longest(self) -> float:
        """The age from which any record is over; 0: never."""
        return _longest(self.results, self.failures, self.chords)

    def of(self, meta: Mapping[str, Any]) -> float:
        """Return the life of the record of a task."""
        own = self.failures if meta.get("status") in states.EXCEPTION_STATES else self.results
        return _longest(own, self.chords) if meta.get("group_id") else own


def _longest(*lives: float) -> float:
    return 0 if 0 in lives else max(lives)


def to_seconds(expires: Any) -> float:
    """Read a setting: a number of seconds or a timedelta; None and 0 are for ever."""
    if hasattr(expires, "total_seconds"):
        return float(expires.total_seconds())
    return float(expires or 0)

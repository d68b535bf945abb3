"""Sizes and times in words."""

from datetime import UTC, datetime

_UNITS = ("KiB", "MiB", "GiB", "TiB")
_SPANS = (
    (365 * 86_400, "year"),
    (30 * 86_400, "month"),
    (86_400, "day"),
    (3_600, "hour"),
    (60, "minute"),
)


def size(size_bytes: int) -> str:
    """Return 1536 as "1.5 KiB"."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    amount = float(size_bytes)
    for unit in _UNITS:
        amount /= 1024
        # What would be rounded to 1024.0 is 1.0 of the next unit.
        if amount < 1023.95 or unit == _UNITS[-1]:
            break
    return f"{amount:.1f} {unit}"


def age(then: datetime | None) -> str:
    """Return how long ago `then` was, in one unit; "-" if it is not known."""
    if then is None:
        return "-"
    seconds = (datetime.now(UTC) - then).total_seconds()
    for length, name in _SPANS:
        if seconds >= length:
            return f"{count(int(seconds // length), name)} ago"
    return "just now"


def count(number: int, noun: str) -> str:
    """Return "1 payload", "2 payloads"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

"""What a check has shown."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has shown, what that means, and what to do about it ("" for nothing)."""

    check: str
    verdict: Verdict
    meaning: str
    remedy: str = ""

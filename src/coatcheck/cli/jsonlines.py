"""Output for programs: JSON, one object on a line. The keys are promises: docs/how-to."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TextIO

from coatcheck.cli.output import Problem
from coatcheck.objects.doctor.finding import Finding, Verdict
from coatcheck.payloads.claim import Claim
from coatcheck.payloads.keys import key_of
from coatcheck.payloads.store import StoredPayload
from coatcheck.types import ObjectInfo


class JsonLines:
    """Implements Output."""

    def stored(self, claim: Claim, location: str) -> None:
        """Print claim, key and location."""
        _print({"claim": _claim(claim), "key": key_of(claim.digest), "location": location})

    def fetched(self, claim: Claim, file: str) -> None:
        """Print claim and file."""
        _print({"claim": _claim(claim), "file": file})

    def listed(self, payloads: Iterable[StoredPayload], location: str) -> None:
        """Print claim, key and last_modified of each payload."""
        for payload in payloads:
            _print(
                {
                    "claim": _claim(payload.claim),
                    "key": payload.key,
                    "last_modified": _time(payload.last_modified),
                }
            )

    def described(self, claim: Claim, info: ObjectInfo, location: str) -> None:
        """Print claim, key, location, size_bytes, etag and last_modified."""
        _print(
            {
                "claim": _claim(claim),
                "key": info.key,
                "location": location,
                "size_bytes": info.size_bytes,
                "etag": info.etag,
                "last_modified": _time(info.last_modified),
            }
        )

    def examined(self, findings: Sequence[Finding], location: str) -> None:
        """Print location, usable and findings, in one object."""
        _print(
            {
                "location": location,
                "usable": all(finding.verdict is not Verdict.PROBLEM for finding in findings),
                "findings": [
                    {
                        "check": finding.check,
                        "verdict": finding.verdict,
                        "meaning": finding.meaning,
                        "remedy": finding.remedy,
                    }
                    for finding in findings
                ],
            }
        )

    def failed(self, problem: Problem) -> None:
        """Print an object with the one key "error", on standard error."""
        error = {
            "code": problem.code,
            "message": problem.message,
            "remedy": problem.remedy,
            "transient": problem.transient,
            "context": problem.context,
        }
        _print({"error": error}, sys.stderr)

    def warned(self, message: str) -> None:
        """Print an object with the one key "warning", on standard error."""
        _print({"warning": message}, sys.stderr)


def _print(value: dict[str, object], stream: TextIO | None = None) -> None:
    print(json.dumps(value), file=stream or sys.stdout)


def _claim(claim: Claim) -> object:
    return json.loads(str(claim))


def _time(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None

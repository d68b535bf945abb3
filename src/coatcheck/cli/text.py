"""Output in words."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from coatcheck.cli import units
from coatcheck.cli.output import Problem
from coatcheck.errors import printable
from coatcheck.objects.doctor.finding import Finding, Verdict
from coatcheck.payloads.claim import Claim
from coatcheck.payloads.store import StoredPayload
from coatcheck.types import ObjectInfo

DIGEST_CHARACTERS = 12
_INDENT = 2

_STYLES = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.PROBLEM: "bold red",
    Verdict.SKIPPED: "dim",
}


class Words:
    """Implements Output."""

    def stored(self, claim: Claim, location: str) -> None:
        """Print the claim, and nothing else: it is what goes into a variable or a pipe."""
        print(claim)

    def fetched(self, claim: Claim, file: str) -> None:
        """Print nothing, as cp does."""

    def listed(self, payloads: Iterable[StoredPayload], location: str) -> None:
        """Print a line for each payload; to a terminal, how many there are."""
        number = total_bytes = 0
        for payload in payloads:
            if not number:
                print(f"{'DIGEST':<{DIGEST_CHARACTERS}}  {'SIZE':>10}  STORED")
            number += 1
            total_bytes += payload.claim.size_bytes
            digest = payload.claim.digest.hex[:DIGEST_CHARACTERS]
            stored = units.age(payload.last_modified)
            print(f"{digest}  {units.size(payload.claim.size_bytes):>10}  {stored}")
        if sys.stdout.isatty():
            found = f"{units.count(number, 'payload')}, {units.size(total_bytes)}, in {location}"
            hint = "; --json shows their claims" if number else ""
            _print(Console(stderr=True), Text(f"{found}{hint}", "dim"))

    def described(self, claim: Claim, info: ObjectInfo, location: str) -> None:
        """Print a line for each thing that is known."""
        print(f"payload  {claim.digest}")
        print(f"size     {units.size(info.size_bytes)} ({units.count(info.size_bytes, 'byte')})")
        if info.last_modified is not None:
            moment = info.last_modified.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
            print(f"stored   {units.age(info.last_modified)}, {moment}")
        print(f"store    {claim.store}, {location}")
        print(f"key      {info.key}")
        if info.etag is not None:
            print(f"etag     {info.etag}")

    def examined(self, findings: Sequence[Finding], location: str) -> None:
        """Print a table, and in a last line what it comes down to."""
        console = Console(highlight=False)
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            verdict = Text(finding.verdict, _STYLES[finding.verdict])
            table.add_row(finding.check, verdict, Text(finding.meaning))
            if finding.remedy:
                table.add_row("", "", Padding(Text(finding.remedy, "dim"), (0, 0, 0, _INDENT)))
        console.print(table)
        console.print(Text.assemble(f"\n{location}: ", _conclusion(findings)), soft_wrap=True)

    def failed(self, problem: Problem) -> None:
        """Print the error, what to do about it, and where it happened."""
        console = Console(stderr=True, highlight=False)
        _print(console, Text.assemble(("error: ", "bold red"), problem.message))
        if problem.remedy:
            _print(console, Text(problem.remedy), _INDENT)
        if problem.context:
            context = ", ".join(f"{name}={value}" for name, value in problem.context.items())
            _print(console, Text(f"[{printable(context)}]", "dim"), _INDENT)

    def warned(self, message: str) -> None:
        """Print the warning."""
        console = Console(stderr=True, highlight=False)
        _print(console, Text.assemble(("warning: ", "yellow"), message))


def _conclusion(findings: Sequence[Finding]) -> Text:
    numbers = Counter(finding.verdict for finding in findings)
    problems, warnings = numbers[Verdict.PROBLEM], numbers[Verdict.WARNING]
    parts = [units.count(problems, "problem")] if problems else []
    parts += [units.count(warnings, "warning")] if warnings else []
    usable = ("not usable", "bold red") if problems else ("usable", "bold green")
    return Text.assemble(usable, f", with {' and '.join(parts)}" if parts else "")


def _print(console: Console, text: Text, indent: int = 0) -> None:
    """Print a paragraph: folded at words on a terminal, on one line in a file."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)))
    else:
        console.print(Text(" " * indent).append_text(text), soft_wrap=True)

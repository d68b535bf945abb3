"""Starts the S3 server, plays the acts one after the other, and clears everything away."""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from demo.interruption import Interruption

if TYPE_CHECKING:
    from demo.screen import Screen
    from demo.stage import Outcome

ABOUT = """\
Show coatcheck at work: starts an S3 server (rclone) and a Temporal dev server on free ports of this
machine, runs a workflow whose input, activity results and output are megabytes, and prints what
stood in the history in their place, where they were kept, and how long that took; then runs a group
and a chord on a Celery worker, values and streams through labox, and a flowserv volume, and prints
what lay in the bucket. Needs no network, no account, no
settings; takes about fifteen seconds; leaves nothing behind."""

EXIT_CODES = """\
exit codes: 0 all went well and was verified; 1 it did not, or a server could not be started;
128 + signal when interrupted (130 after Ctrl-C)."""

NEXT = """\
What to try next:
  make bench                          CPU, requests and memory beside the peers
  .venv/bin/coatcheck put README.md   keep a file; then: coatcheck ls, stat, get
  docs/how-to/                        plug it into your own workers"""


def main() -> int:
    """Run the demo; return the exit code."""
    arguments = _arguments()
    with Interruption() as interruption:
        try:
            return _perform(interruption, as_json=arguments.json)
        # Whatever breaks after a signal, even as an error of another kind, broke because of it.
        except BaseException:
            if interruption.number is None:
                raise
            print("\nInterrupted; the servers and their files are gone.", file=sys.stderr)
            return 128 + interruption.number


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description=ABOUT,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object; the rest goes to stderr"
    )
    return parser.parse_args()


def _perform(interruption: Interruption, *, as_json: bool) -> int:
    started = time.perf_counter()
    try:
        # From here on it is mostly imports that take time; a Ctrl-C is looked after by now.
        import demo.temporal.act  # noqa: F401 - to find out what is missing before anything starts
        from coatcheck.testing import ServerError
        from demo.screen import Screen
        from demo.stage import Failed
    except ModuleNotFoundError as missing:
        print(f"error: {missing}; run: pip install 'coatcheck[demo]'", file=sys.stderr)
        return 1
    screen = Screen(to_stderr=as_json)
    screen.say("coatcheck: hand over your payload, keep the claim\n", style="bold")
    try:
        outcomes = _play(interruption, screen)
    except (Failed, ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - started
    problems = [problem for outcome in outcomes.values() for problem in outcome.problems]
    _show(screen, outcomes, problems, seconds)
    if as_json:
        report = {name: outcome.to_json() for name, outcome in outcomes.items()}
        print(json.dumps({**report, "problems": problems, "seconds": round(seconds, 3)}, indent=2))
    return 1 if problems else 0


def _play(interruption: Interruption, screen: "Screen") -> dict[str, "Outcome"]:
    """Play every act; the servers and their files are gone when this returns or raises."""
    from coatcheck.testing import start_rclone
    from demo.celery_act import play as celery
    from demo.flowserv_act import play as flowserv
    from demo.labox_act import play as labox
    from demo.stage import Act, Stage
    from demo.temporal.act import play as temporal

    acts: dict[str, Act] = {
        "temporal": temporal,
        "celery": celery,
        "labox": labox,
        "flowserv": flowserv,
    }
    with ExitStack() as resources:
        try:
            folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="coatcheck-demo-"))
            with screen.step("Starting an S3 server"):
                s3 = resources.enter_context(start_rclone(Path(folder)))
            stage = Stage(s3, screen, interruption, resources)
            outcomes = {name: play(stage) for name, play in acts.items()}
        finally:
            interruption.hold()
    interruption.check()
    return outcomes


def _show(
    screen: "Screen", outcomes: dict[str, "Outcome"], problems: list[str], seconds: float
) -> None:
    for outcome in outcomes.values():
        outcome.show(screen)
    for problem in problems:
        screen.say(f"WRONG: {problem}", style="bold red")
    screen.say(f"\nDone in {seconds:.1f} s; the servers and their files are gone.")
    screen.say(f"\n{NEXT}")


if __name__ == "__main__":
    sys.exit(main())

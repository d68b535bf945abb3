"""The `coatcheck` command. It comes with the extra `coatcheck[cli]`."""

import os
import sys

_EXTRA = frozenset({"typer", "rich", "click"})


def main() -> None:
    """Run the command that the process's arguments name, and exit with its code.

    The codes are in `coatcheck.cli.failures`.
    """
    if sys.stderr is None:
        # Closed by the caller. print() would fall back on standard output, which is for data.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process
    if sys.stdout is None:
        print("error: standard output is closed, and the result goes there", file=sys.stderr)
        sys.exit(2)
    try:
        from coatcheck.cli.commands import app
    except ModuleNotFoundError as missing:
        if missing.name not in _EXTRA:
            raise
        print(
            "error: the command line needs its extra: pip install 'coatcheck[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    app(prog_name="coatcheck")

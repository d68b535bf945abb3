"""How commands end that do not succeed: an error on standard error, and an exit code."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from coatcheck.cli.output import Output, Problem
from coatcheck.errors import CoatcheckError

FAILED = 1
WRONG_USE = 2
NOT_FOUND = 3
REFUSED = 4
CORRUPT = 5
TOO_LARGE = 6
BUG = 70
INTERRUPTED = 130
READER_GONE = 141

_EXIT_CODES = {
    "config": WRONG_USE,
    "not_found": NOT_FOUND,
    "bucket_not_found": NOT_FOUND,
    "expired": NOT_FOUND,
    "forbidden": REFUSED,
    "claim_rejected": REFUSED,
    "corrupt": CORRUPT,
    "too_large": TOO_LARGE,
}

EXIT_CODES_HELP = """\
\b
Exit codes:
  0    done
  1    failed: server away, out of time, disk full; `doctor` found a problem
  2    wrong use: a command line, setting or file that cannot be right
  3    not found: no such payload, or no such bucket
  4    refused: credentials denied, or a claim not taken
  5    corrupt: what is stored is not what was put; nothing was written
  6    too large: over --max-payload-bytes
  70   a fault in coatcheck itself
  130  interrupted (Ctrl-C); 141: whoever read the output has gone
"""


@contextmanager
def reported(output: Output) -> Iterator[None]:
    """Let nothing out of the block but typer.Exit: all else becomes a message and an exit code."""
    signal.signal(signal.SIGTERM, _leave)
    log = logging.getLogger("coatcheck")
    log.addHandler(handler := _Warnings(output))
    try:
        yield
        sys.stdout.flush()
    except typer.Exit:
        raise
    except CoatcheckError as error:
        output.failed(Problem.of(error))
        raise typer.Exit(_EXIT_CODES.get(error.code, FAILED)) from None
    except KeyboardInterrupt:
        output.failed(Problem("interrupted", "interrupted"))
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _let_go_of_output()
        raise typer.Exit(READER_GONE) from None
    except OSError as error:
        _let_go_of_output()
        output.failed(Problem("error", f"reading or writing failed: {error.strerror or error}"))
        raise typer.Exit(FAILED) from None
    except Exception as error:
        if os.environ.get("COATCHECK_DEBUG"):
            traceback.print_exc()
        output.failed(
            Problem(
                "bug",
                f"a fault in coatcheck itself: {type(error).__name__}: {error}",
                "Run it again with COATCHECK_DEBUG=1 and report what it shows",
            )
        )
        raise typer.Exit(BUG) from None
    finally:
        log.removeHandler(handler)


class _Warnings(logging.Handler):
    """Shows what the core logs as what it is: a warning to the user of the command."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.warned(record.getMessage())


def _leave(number: int, frame: FrameType | None) -> None:
    # An exception, so that temporary files and scratch objects are removed on the way out.
    raise SystemExit(128 + number)


def _let_go_of_output() -> None:
    """Keep the interpreter from trying again, at its end, to write what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

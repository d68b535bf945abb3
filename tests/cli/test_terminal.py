"""What a person sees: progress, colours, and no binary on the screen."""

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator

import pytest

from coatcheck import Claim, Digest
from coatcheck.testing import Behaviour, FaultServer, Request, S3Server, forward, reply
from tests.cli.command import Command

PAYLOAD = b"the payload\n"
CLAIM = str(Claim(Digest.of(PAYLOAD), len(PAYLOAD)))


class Terminal:
    """The other side of a terminal: what is written to `end` is seen here."""

    def __init__(self) -> None:
        self._screen, self.end = pty.openpty()
        self.seen = b""

    def wait_for(self, text: bytes, seconds: float = 20.0) -> None:
        """Read until `text` has been seen."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not in {self.seen!r}"
            self._read(left)

    def read_rest(self) -> bytes:
        """Read what is there already, once all who write have ended."""
        while self._read(0):
            pass
        return self.seen

    def close(self) -> None:
        os.close(self._screen)
        os.close(self.end)

    def _read(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._screen], [], [], seconds)
        data = os.read(self._screen, 65536) if ready else b""
        self.seen += data
        return data


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


def test_progress_is_shown_once_it_takes_more_than_a_second(
    faulty: Command, fault_server: FaultServer, terminal: Terminal
) -> None:
    fault_server.play(reply(200, PAYLOAD).stalled())
    command = faulty.start("get", CLAIM, stdout=subprocess.PIPE, stderr=terminal.end)
    fault_server.wait_for_requests()
    terminal.wait_for(b"Fetching 12 B")
    fault_server.release()
    out, _ = command.communicate(timeout=30)
    assert (command.returncode, out) == (0, PAYLOAD)
    # Cleared again, and the cursor is back.
    assert terminal.read_rest().rstrip().endswith(b"\x1b[2K")
    assert terminal.seen.rindex(b"\x1b[?25h") > terminal.seen.rindex(b"\x1b[?25l")


def test_parts_that_have_arrived_are_counted(
    faulty: Command, fault_server: FaultServer, rclone: S3Server, terminal: Terminal
) -> None:
    (faulty.home / "in").write_bytes(bytes(20 * 1024 * 1024))

    def last_part_stalls(head: Request) -> Behaviour:
        behaviour = forward(rclone.endpoint)
        return behaviour.stalled() if "partNumber=3" in head.target else behaviour

    fault_server.play(last_part_stalls)
    command = faulty.start("put", "in", stdout=subprocess.PIPE, stderr=terminal.end)
    terminal.wait_for(b"16.0 MiB of 20.0 MiB")
    fault_server.release()
    out, _ = command.communicate(timeout=30)
    assert (command.returncode, Claim.parse(out).size_bytes) == (0, 20 * 1024 * 1024)


def test_a_command_that_is_quick_shows_nothing(local: Command, terminal: Terminal) -> None:
    command = local.start(
        "put", "-", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal.end
    )
    command.communicate(timeout=30)
    assert (command.returncode, terminal.read_rest()) == (0, b"")


def test_no_progress_where_there_is_no_terminal(faulty: Command, fault_server: FaultServer) -> None:
    fault_server.play(reply(200, PAYLOAD).dripped(1, 0.15))
    ended = faulty.succeed("get", CLAIM)
    assert ended.out == PAYLOAD


def test_an_interruption_clears_the_progress(
    faulty: Command, fault_server: FaultServer, terminal: Terminal
) -> None:
    fault_server.play(reply(200, PAYLOAD).stalled())
    command = faulty.start("get", CLAIM, stderr=terminal.end)
    terminal.wait_for(b"Fetching")
    command.send_signal(2)
    command.wait(timeout=10)
    assert command.returncode == 130
    assert b"interrupted" in terminal.read_rest()
    assert terminal.seen.rindex(b"\x1b[?25h") > terminal.seen.rindex(b"\x1b[?25l")


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"a\x00b", b"\x1b]0;title\x07", b"caf\xc2\x9b"])
def test_what_is_no_text_is_kept_off_the_terminal(
    local: Command, terminal: Terminal, payload: bytes
) -> None:
    claim = local.succeed("put", "-", stdin=payload).text
    command = local.start("get", claim, stdout=terminal.end, stderr=subprocess.PIPE)
    _, err = command.communicate(timeout=30)
    assert command.returncode == 2
    assert b"-o FILE" in err
    assert terminal.read_rest() == b""

    asked_for = local.start("get", claim, "-o", "-", stdout=terminal.end)
    assert asked_for.wait(timeout=30) == 0
    assert terminal.read_rest() == payload


def test_text_is_shown_on_the_terminal(local: Command, terminal: Terminal) -> None:
    payload = "ein Stück\tText\n".encode()
    claim = local.succeed("put", "-", stdin=payload).text
    command = local.start("get", claim, stdout=terminal.end)
    assert command.wait(timeout=30) == 0
    assert terminal.read_rest() == payload.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_and_can_be_refused(
    local: Command, terminal: Terminal, variables: dict[str, str], coloured: bool
) -> None:
    local.variables.update(variables)
    command = local.start("get", "claim", stderr=terminal.end)
    assert command.wait(timeout=30) == 4
    assert b"error: " in terminal.read_rest()
    assert (b"\x1b[1;31m" in terminal.seen) is coloured

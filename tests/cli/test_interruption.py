"""Commands that are cut short: by the user, by the system, by whoever reads their output."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from coatcheck import Claim, Digest
from coatcheck.testing import Behaviour, FaultServer, Request, S3Server, forward, reply
from tests.cli.command import Command

PAYLOAD = random.Random(2).randbytes(3 * 1024 * 1024)
CLAIM = str(Claim(Digest.of(PAYLOAD), len(PAYLOAD)))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
@pytest.mark.parametrize("stalled_after_bytes", [None, 1024])
def test_a_get_that_is_interrupted_ends_at_once_and_leaves_nothing(
    faulty: Command,
    fault_server: FaultServer,
    number: signal.Signals,
    code: int,
    stalled_after_bytes: int | None,
) -> None:
    fault_server.play(reply(200, PAYLOAD).stalled(stalled_after_bytes))
    (faulty.home / "out").write_bytes(b"old")
    command = faulty.start("get", CLAIM, "-o", "out", stderr=subprocess.PIPE)
    fault_server.wait_for_requests()
    interrupted = time.monotonic()
    command.send_signal(number)
    _, err = command.communicate(timeout=10)
    assert time.monotonic() - interrupted < 1
    assert command.returncode == code
    assert b"Traceback" not in err
    fault_server.wait_for_disconnect()
    assert sorted(os.listdir(faulty.home)) == ["out"]
    assert (faulty.home / "out").read_bytes() == b"old"


def test_a_put_that_is_interrupted_prints_no_claim(
    faulty: Command, fault_server: FaultServer
) -> None:
    fault_server.play(reply(200).stalled())
    (faulty.home / "in").write_bytes(PAYLOAD)
    command = faulty.start("put", "in", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    fault_server.wait_for_requests()
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=10)
    assert (command.returncode, out) == (130, b"")
    assert err == b"error: interrupted\n"


def test_an_upload_in_parts_that_is_interrupted_is_aborted(
    faulty: Command, fault_server: FaultServer, rclone: S3Server
) -> None:
    (faulty.home / "in").write_bytes(PAYLOAD * 4)

    def stalling(head: Request) -> Behaviour:
        behaviour = forward(rclone.endpoint)
        return behaviour.stalled() if "partNumber=" in head.target else behaviour

    fault_server.play(stalling)
    command = faulty.start("put", "in", stderr=subprocess.PIPE)
    # The begin, two parts.
    fault_server.wait_for_requests(3)
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=10)
    assert command.returncode == 130
    last = fault_server.requests[-1]
    assert (last.method, "uploadId=" in last.target) == ("DELETE", True)


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(local: Command) -> None:
    claim = local.succeed("put", "-", stdin=PAYLOAD).text
    command = local.start("get", claim, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stdout.read(10) == PAYLOAD[:10]
    command.stdout.close()
    _, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (141, b"")


def test_output_that_cannot_be_written_is_a_failure(local: Command) -> None:
    with open("/dev/full", "wb") as full:
        command = local.start(
            "put", "-", stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE
        )
        _, err = command.communicate(timeout=30)
    assert command.returncode == 1
    assert err.startswith(b"error: ")
    assert b"No space left" in err


@pytest.mark.parametrize("closed", ["", "2>&-"])
def test_a_command_whose_output_is_closed_does_nothing(local: Command, closed: str) -> None:
    # Descriptor 1 would go to the next file that is opened, and the claim into it.
    shell = ["sh", "-c", f'exec "$@" >&- {closed}', "sh", *local.line("put", "-")]
    ended = subprocess.run(
        shell, env=local.environment, input=b"payload", capture_output=True, timeout=30, check=False
    )
    assert ended.returncode == 2
    assert not (local.home / ".local").exists()


def test_closed_standard_error_does_not_put_errors_among_the_data(local: Command) -> None:
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", *local.line("get", "claim")]
    ended = subprocess.run(
        shell, env=local.environment, capture_output=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (4, b"")


def test_closed_standard_input_is_no_file(local: Command) -> None:
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", *local.line("put", "-")]
    ended = subprocess.run(
        shell, env=local.environment, capture_output=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, b"")


def test_a_fault_of_our_own_is_one_line_and_code_70(local: Command, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import coatcheck.payloads.store as store\n"
        "def put_stream(self, source, **options): raise ZeroDivisionError('on purpose')\n"
        "store.PayloadStore.put_stream = put_stream\n"
    )
    path = os.environ.get("PYTHONPATH", "")
    local.variables["PYTHONPATH"] = f"{broken}{os.pathsep}{path}"
    ended = local.fail(70, "put", "-")
    assert "ZeroDivisionError: on purpose" in ended.err
    assert "COATCHECK_DEBUG=1" in ended.err

    local.variables["COATCHECK_DEBUG"] = "1"
    command = local.start("put", "-", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, err = command.communicate(timeout=30)
    assert command.returncode == 70
    assert b"Traceback" in err

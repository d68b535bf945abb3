"""The demo as its user runs it: a process, what it prints, what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def servers_in(folder: Path) -> list[str]:
    """The processes that have `folder` in their command line, as the S3 server and its guard do."""
    commands = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended since
        if str(folder) in command:
            commands.append(command)
    return commands


def test_it_puts_six_payloads_of_megabytes_away_and_proves_it(tmp_path: Path) -> None:
    process = start("--json", folder=tmp_path)
    output, told = process.communicate()
    assert process.returncode == 0, told
    report = json.loads(output)
    assert report["problems"] == []
    act = report["temporal"]
    assert [payload["role"] for payload in act["payloads"]] == [
        "workflow input",
        "typeset input",
        "typeset result",
        "bind input",
        "bind result",
        "workflow output",
    ]
    for payload in act["payloads"]:
        assert payload["size_bytes"] > 3 * MIB
        assert payload["reference_bytes"] < 1024
        assert payload["store_seconds"] > 0
        assert payload["retrieve_seconds"] > 0
    keys = {payload["claim"]["key"] for payload in act["payloads"]}
    assert {item["key"] for item in act["objects"]} == keys
    assert len(keys) == 4, "equal payloads of the run are one object"
    assert act["history_bytes"] < 10_000
    assert act["history_bytes_without"] > 30 * MIB
    assert act["refusal"] == "Blob data size exceeds limit."
    assert "Done in" in told, "what is not for the program goes to standard error"


def test_it_prints_plain_text_without_a_terminal(tmp_path: Path) -> None:
    process = start(folder=tmp_path)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "\033" not in output
    assert "Without external storage Temporal refuses it" in output
    assert "Checked: the result is right" in output
    assert "What to try next:" in output
    assert list(tmp_path.iterdir()) == []
    assert servers_in(tmp_path) == []


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        pytest.param("Starting an S3 server", signal.SIGINT, 130, id="while Temporal starts"),
        pytest.param("Trying the workflow", signal.SIGINT, 130, id="while the workflow runs"),
        pytest.param("Trying the workflow", signal.SIGTERM, 143, id="ended by its supervisor"),
    ],
)
def test_interrupted_it_clears_everything_away(
    tmp_path: Path, moment: str, number: signal.Signals, code: int
) -> None:
    process = start(folder=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if moment in line:
            break
    # A second one, as of an impatient user, must not break into the clean-up.
    process.send_signal(number)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.strip() == "Interrupted; the servers and their files are gone."
    assert list(tmp_path.iterdir()) == []
    assert servers_in(tmp_path) == []


def test_help_says_what_it_does_and_what_its_exit_codes_mean() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "exit codes: 0" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100

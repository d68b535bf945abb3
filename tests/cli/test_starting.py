"""What the command costs before it does anything, and what it says about itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import Command

COMMANDS = ("put", "get", "ls", "stat", "doctor")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["put", "--help"]])
def test_help_and_version_touch_nothing(local: Command, arguments: list[str]) -> None:
    program = (
        "import sys, coatcheck.cli\n"
        "try:\n"
        "    coatcheck.cli.main()\n"
        "finally:\n"
        "    heavy = {'botocore', 'boto3', 'temporalio', 'rich.progress'} & set(sys.modules)\n"
        "    print('heavy:', *sorted(heavy), file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=local.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "heavy:\n")
    assert ended.stdout.startswith(("coatcheck", "Usage: coatcheck"))
    assert list(local.home.iterdir()) == []


def test_help_names_every_command_and_every_exit_code(local: Command) -> None:
    text = local.succeed("--help").text
    for command in COMMANDS:
        assert f"\n  {command} " in text
    for code in (0, 1, 2, 3, 4, 5, 6, 70, 130, 141):
        assert f" {code}" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(local: Command, command: str) -> None:
    text = local.succeed(command, "-h").text
    assert f"\n    coatcheck {command}" in text
    assert "--json" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_nothing_is_asked_of_who_gives_nothing(local: Command) -> None:
    ended = local.run()
    assert (ended.code, ended.out) == (2, b"")
    assert "Usage: coatcheck" in ended.err


def test_without_the_extra_one_line_says_how_to_get_it(local: Command, tmp_path: Path) -> None:
    program = (
        "import sys\nsys.modules['typer'] = None\nimport coatcheck.cli\ncoatcheck.cli.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "ls"],
        env=local.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "error: the command line needs its extra: pip install 'coatcheck[cli]'\n"
    )

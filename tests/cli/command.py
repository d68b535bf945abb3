"""The command as its users run it: a process of its own, with a home of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 60.0


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def value(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error of a command with --json."""
        (line,) = self.err.splitlines()
        error: dict[str, Any] = json.loads(line)["error"]
        return error


@dataclass
class Command:
    """Runs `coatcheck` with `home` as the user's home, and `variables` in the environment."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        unset = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
        inherited = {name: value for name, value in os.environ.items() if name not in unset}
        return {**inherited, "HOME": str(self.home), "TERM": "xterm", **self.variables}

    @property
    def names_file(self) -> Path:
        return self.home / ".config" / "coatcheck" / "stores.json"

    def line(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "coatcheck.cli", *map(str, arguments)]

    def start(self, *arguments: str | Path, **pipes: Any) -> subprocess.Popen[bytes]:
        """Start a command; whoever does ends it."""
        return subprocess.Popen(self.line(*arguments), cwd=self.home, env=self.environment, **pipes)

    def run(self, *arguments: str | Path, stdin: bytes = b"") -> Ended:
        ended = subprocess.run(
            self.line(*arguments),
            cwd=self.home,
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        err = ended.stderr.decode()
        assert "Traceback" not in err, err
        return Ended(ended.returncode, ended.stdout, err)

    def succeed(self, *arguments: str | Path, stdin: bytes = b"") -> Ended:
        ended = self.run(*arguments, stdin=stdin)
        assert (ended.code, ended.err) == (0, "")
        return ended

    def fail(self, code: int, *arguments: str | Path, stdin: bytes = b"") -> Ended:
        """Run a command that ends with `code`, prints no result, and says why and what to do."""
        ended = self.run(*arguments, stdin=stdin)
        assert (ended.code, ended.out) == (code, b""), ended
        lines = [line for line in ended.err.splitlines() if not line.startswith("warning: ")]
        first, remedy, *_ = lines
        assert first.startswith("error: ")
        assert remedy.startswith("  ")
        return ended

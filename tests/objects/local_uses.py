"""Short words for using a local store in tests."""

import os
import subprocess
import sys

from coatcheck.runtime.blocking import BLOCKING
from coatcheck.types import IfAbsent, IfMatch

run = BLOCKING.run
AMPLE = 1000


def get(store, key):
    return run(store.get(key, limit_bytes=AMPLE)).body


def keys(store, prefix="", after=""):
    async def listed():
        return [info.key async for info in store.list(prefix, after=after)]

    return run(listed())


def temporary_files(root):
    return {file.name for file in (root / ".coatcheck-tmp").iterdir()} - {
        f"lock-{number:02}" for number in range(64)
    }


def every_use(store, key):
    """Return each way to use an object under `key`, by name."""
    return {
        "get": lambda: run(store.get(key, limit_bytes=AMPLE)),
        "get_into": lambda: run(store.get_into(key, 0, memoryview(bytearray(1)))),
        "head": lambda: run(store.head(key)),
        "put": lambda: run(store.put(key, b"planted")),
        "create": lambda: run(store.put(key, b"planted", condition=IfAbsent())),
        "change": lambda: run(store.put(key, b"planted", condition=IfMatch('"1-1-1"'))),
        "copy from": lambda: run(store.copy(key, "copy")),
        "copy to": lambda: run(store.copy("good", key)),
        "delete": lambda: run(store.delete(key)),
    }


def start_python(script, *arguments):
    """Start a Python process on `script`, with pipes for what it reads and prints."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PREAMBLE + script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def printed(process):
    """Wait for the end of a process that must succeed, and return the lines that it printed."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output.splitlines()


PREAMBLE = """
import os, sys
from pathlib import Path
from coatcheck.errors import *
from coatcheck.objects.local import LocalObjects
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.types import IfAbsent, IfMatch

run = BLOCKING.run
store = LocalObjects(Path(sys.argv[1]), BLOCKING)
"""

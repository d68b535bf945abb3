"""Runs sides in processes of their own, and turns their measurements into comparisons."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measurement import Measurement
from coatcheck.testing import FaultServer, S3Server, forward

ROOT = Path(__file__).parent.parent


class ChildFailed(RuntimeError):
    """A side's process ended before its answer; what it had to say is on standard error."""


@dataclass(frozen=True)
class Load:
    """How much is done in one round of one side, how much of it at a time, and how many rounds."""

    size_bytes: int
    in_flight: int
    count: int
    rounds: int


@dataclass(frozen=True)
class Stored:
    """A batch of stored payloads: how that went, and each one's claim and digest."""

    measurement: Measurement
    payloads: Sequence[tuple[Mapping[str, str], str]]


@dataclass(frozen=True)
class Pair:
    """The same payloads stored and retrieved."""

    store: Measurement
    retrieve: Measurement


class Child:
    """A process that serves one side."""

    def __init__(self, side: str, server: S3Server, bucket: str) -> None:
        self._side = side
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", side, bucket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=_environment(server),
            start_new_session=True,  # a Ctrl-C is for us, who then end it
        )

    def store(self, size_bytes: int, count: int, in_flight: int) -> Stored:
        """Store `count` random payloads, `in_flight` at a time."""
        answer = self._ask(do="store", size_bytes=size_bytes, count=count, in_flight=in_flight)
        payloads = [(claim, digest) for claim, digest in answer["stored"]]
        return Stored(Measurement(**answer["measurement"]), payloads)

    def retrieve(self, stored: Stored, in_flight: int) -> Measurement:
        """Retrieve what was stored, and check it; the check is not measured."""
        answer = self._ask(do="retrieve", stored=stored.payloads, in_flight=in_flight)
        return Measurement(**answer["measurement"])

    def pair(self, size_bytes: int, count: int, in_flight: int) -> Pair:
        """Store and retrieve."""
        stored = self.store(size_bytes, count, in_flight)
        return Pair(stored.measurement, self.retrieve(stored, in_flight))

    def _ask(self, **command: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ChildFailed(f"the process of the side {self._side!r} has failed; see above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End the process. It holds nothing worth an orderly end."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def child(side: str, server: S3Server, bucket: str) -> Iterator[Child]:
    """Run a side's process."""
    process = Child(side, server, bucket)
    try:
        yield process
    finally:
        process.stop()


def _environment(server: S3Server) -> dict[str, str]:
    """Nothing of the user's own settings: no proxy, no AWS profile, no Python options."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        **server.environment(),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def cpu_rounds(
    server: S3Server,
    bucket: str,
    loads: Mapping[Load, Sequence[str]],
    tell: Callable[[str], None],
) -> dict[Load, dict[str, list[Pair]]]:
    """Put each load on its sides, in turns: one round of each, then again, so that drift cancels.

    A side keeps its one process throughout, with its connections open.
    """
    found: dict[Load, dict[str, list[Pair]]] = {}
    with ExitStack() as running:
        names = sorted({side for sides in loads.values() for side in sides})
        children = {name: running.enter_context(child(name, server, bucket)) for name in names}
        for load, sides in loads.items():
            for side in sides:
                children[side].pair(load.size_bytes, min(load.count, 2 * load.in_flight), 1)
            pairs: dict[str, list[Pair]] = {side: [] for side in sides}
            for number in range(load.rounds):
                tell(
                    f"CPU: {size_name(load.size_bytes)}, {load.in_flight} in flight,"
                    f" round {number + 1} of {load.rounds}"
                )
                for side in sides:
                    pairs[side].append(
                        children[side].pair(load.size_bytes, load.count, load.in_flight)
                    )
                _clear(server, bucket)
            found[load] = pairs
    return found


def requests_of(side: str, server: S3Server, bucket: str, size_bytes: int) -> dict[str, list[str]]:
    """Return the methods of the requests that "store" and "retrieve" of one payload take.

    Counted on the way to the server, by one that hands on, and warmed up before: what is asked
    only once in a process's life is not counted.
    """
    with FaultServer(forward(server.endpoint)) as counter:
        counted = replace(server, endpoint=counter.endpoint)
        with child(side, counted, bucket) as process:
            process.pair(1024, 1, 1)
            before = len(counter.requests)
            stored = process.store(size_bytes, 1, 1)
            between = len(counter.requests)
            process.retrieve(stored, 1)
            methods = [request.method for request in counter.requests]
    _clear(server, bucket)
    return {"store": methods[before:between], "retrieve": methods[between:]}


def peaks_of(side: str, server: S3Server, bucket: str, size_bytes: int) -> Pair:
    """Store and retrieve one payload, each in a fresh process, and measure their memory."""
    with child(side, server, bucket) as process:
        process.pair(1024, 1, 1)
        stored = process.store(size_bytes, 1, 1)
    with child(side, server, bucket) as process:
        process.pair(1024, 1, 1)
        retrieved = process.retrieve(stored, 1)
    _clear(server, bucket)
    return Pair(stored.measurement, retrieved)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Compare two sides: the median of the rounds' own ratios."""
    pairs = zip(numerators, denominators, strict=True)
    return median(one / other for one, other in pairs)


def _clear(server: S3Server, bucket: str) -> None:
    """Free the disk. The folders stay: the server remembers them."""
    assert server.root is not None
    for path in (server.root / bucket).rglob("*"):
        if path.is_file():
            path.unlink()


def size_name(size_bytes: int) -> str:
    """Write a size as people read it."""
    for unit, unit_bytes in (("MiB", 1024 * 1024), ("KiB", 1024)):
        if size_bytes >= unit_bytes:
            return f"{size_bytes // unit_bytes} {unit}"
    return f"{size_bytes} B"

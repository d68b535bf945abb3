"""flowserv volumes: coatcheck's beside flowserv's own, on the same server, in one run.

    python -m benchmarks.flowserv [--quick] [--json]

CPU to store and to load a file of 1 KiB, the bytes that cross the wire when a file of 64 MiB is
asked for its size, and the time to copy 1,000 files between two volumes of one server. Each side
runs in processes of its own and rounds alternate; the medians are compared.
"""

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coatcheck.testing import S3Server, start_rclone

SIDES = ("coatcheck", "flowserv")
MIB = 1024 * 1024
BUCKET = "flowserv"
FILE_BYTES = 1024
LARGE_BYTES = 64 * MIB


@dataclass(frozen=True)
class Target:
    """What is measured, and how many times better than flowserv's own ours is to be."""

    name: str
    unit: str
    ratio: float


TARGETS = [
    Target("store of 1 KiB, CPU", "us", 8),
    Target("load of 1 KiB, CPU", "us", 8),
    Target("size of 64 MiB, bytes moved", "B", 50),
    Target("copy of 1,000 files, time", "s", 5),
]


def main() -> int:
    """Run all measurements, print a table or JSON; 0 unless the run itself failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flowserv", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--relay", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(_measure_here(arguments.side, arguments.relay)))
        return 0
    figures = _compare(rounds=1 if arguments.quick else 3)
    print(json.dumps(figures, indent=2) if arguments.json else _table(figures))
    return 0


def _compare(rounds: int) -> dict[str, dict[str, float]]:
    """Return the median of every measurement, by its name and side."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for side in SIDES:
            # A server for each turn, so that none pays for what another has left in its memory.
            with tempfile.TemporaryDirectory() as folder, start_rclone(Path(folder)) as server:
                server.create_bucket(BUCKET)
                for name, value in _measure_in_child(side, server).items():
                    found.setdefault(name, {}).setdefault(side, []).append(value)
    return {
        name: {side: statistics.median(values) for side, values in sides.items()}
        for name, sides in found.items()
    }


def _measure_in_child(side: str, server: S3Server) -> dict[str, float]:
    with Relay(server.endpoint) as relay:
        command = [sys.executable, "-m", "benchmarks.flowserv", "--side", side]
        child = subprocess.Popen(
            [*command, "--relay", relay.endpoint],
            env={**os.environ, **server.environment()},
            stdout=subprocess.PIPE,
        )
        output, _ = child.communicate()
        if child.returncode:
            raise SystemExit(f"{side}: ended with {child.returncode}")
        figures: dict[str, float] = json.loads(output)
        figures["size of 64 MiB, bytes moved"] = relay.moved_bytes
    return figures


def _measure_here(side: str, relay: str) -> dict[str, float]:
    from flowserv.volume.base import IOBuffer

    volume, bodies = _volume(side), [os.urandom(FILE_BYTES) for _ in range(1000)]
    volume.store(IOBuffer(BytesIO(b"warm")), "warm")

    def store() -> None:
        for number, body in enumerate(bodies):
            volume.store(IOBuffer(BytesIO(body)), f"in/{number:04}")

    def load() -> None:
        for number, body in enumerate(bodies):
            assert volume.load(f"in/{number:04}").open().getvalue() == body

    def copy() -> None:
        # From the top of the bucket: flowserv's own cannot copy from below a prefix.
        copied = volume.copy("in", volume.get_store_for_folder("out"), dst="in")
        assert len(copied) == len(bodies)

    figures = {
        "store of 1 KiB, CPU": _cpu_microseconds(store) / len(bodies),
        "load of 1 KiB, CPU": _cpu_microseconds(load) / len(bodies),
        "copy of 1,000 files, time": _seconds(copy),
    }
    volume.store(IOBuffer(BytesIO(bytes(LARGE_BYTES))), "large")
    os.environ["AWS_ENDPOINT_URL"] = relay
    assert _volume(side).load("large").size() == LARGE_BYTES
    return figures


def _volume(side: str) -> Any:
    if side == "coatcheck":
        from coatcheck.integrations.flowserv import S3Volume

        return S3Volume(BUCKET)
    from flowserv.volume import s3

    return s3.S3Volume(BUCKET)


def _cpu_microseconds(work: Callable[[], None]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return 1e6 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Relay:
    """Passes bytes between clients and a server, and counts them."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._server = (str(parts.hostname), int(parts.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.moved_bytes = 0

    def __enter__(self) -> "Relay":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._pass_on, args=(source, target), daemon=True
                    ).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError), _shut(target):
            while chunk := source.recv(65536):
                target.sendall(chunk)
                self.moved_bytes += len(chunk)


@contextmanager
def _shut(target: socket.socket) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def _table(figures: dict[str, dict[str, float]]) -> str:
    lines = [f"{'':30}{'coatcheck':>14}{'flowserv':>14}{'ratio':>9}{'target':>9}"]
    for target in TARGETS:
        ours, theirs = figures[target.name]["coatcheck"], figures[target.name]["flowserv"]
        lines.append(
            f"{target.name:30}{ours:>11,.2f} {target.unit:2}{theirs:>11,.2f} {target.unit:2}"
            f"{theirs / ours:>8.1f}x{target.ratio:>8.0f}x"
            f"{'' if theirs / ours >= target.ratio else '  MISSED'}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""Celery results: coatcheck's backend beside Celery's own, on the same server, in one run.

    python -m benchmarks.celery [--quick] [--json]

Each side runs in processes of its own, so that the server's CPU is not counted and neither side
pays for the other's imports; rounds alternate, and the median of each is compared. The chord runs
on real workers and needs redis-server on the PATH as the broker; without it, it is left out.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from coatcheck.testing import FaultServer, S3Server, forward, free_port, start_rclone

BACKENDS = {"coatcheck": "coatcheck.integrations.celery:S3Backend", "celery": "s3://"}
BODY_BYTES = 1024


@dataclass(frozen=True)
class Target:
    """What is measured, and how many times better ours is to be."""

    name: str
    unit: str
    ratio: float


TARGETS = [
    Target("set, CPU", "us", 12),
    Target("get, CPU", "us", 12),
    Target("set, requests", "", 1),
    Target("get, requests", "", 2),
    Target("store_result, requests", "", 1),
    Target("join of 1,000, time", "ms", 10),
    Target("chord of 1,000, requests", "", 10),
]


def main() -> int:
    """Run all measurements, print a table or JSON; 0 unless the run itself failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.celery", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, small numbers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--side", choices=BACKENDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(_measure_here(quick=arguments.quick)))
        return 0
    figures = _compare(quick=arguments.quick)
    print(json.dumps(figures, indent=2) if arguments.json else _table(figures))
    return 0


def _compare(*, quick: bool) -> dict[str, dict[str, float]]:
    """Return the median of every measurement, by its name and side."""
    with tempfile.TemporaryDirectory() as folder, start_rclone(Path(folder)) as server:
        server.create_bucket("results")
        found: dict[str, dict[str, list[float]]] = {}
        for _ in range(1 if quick else 5):
            for side in BACKENDS:
                for name, value in _measure_in_child(side, server, quick=quick).items():
                    found.setdefault(name, {}).setdefault(side, []).append(value)
        figures = {
            name: {side: statistics.median(values) for side, values in sides.items()}
            for name, sides in found.items()
        }
        if (redis := shutil.which("redis-server")) is not None:
            figures["chord of 1,000, requests"] = {
                side: _chord_requests(side, server, redis, Path(folder), 50 if quick else 1000)
                for side in BACKENDS
            }
        return figures


def _settings(side: str, server: S3Server, endpoint: str) -> dict[str, Any]:
    return {
        "result_backend": BACKENDS[side],
        "s3_bucket": "results",
        "s3_access_key_id": server.access_key_id,
        "s3_secret_access_key": server.secret_access_key,
        "s3_endpoint_url": endpoint,
        "s3_region": server.region,
        "result_chord_join_timeout": 120,
    }


def _environment(settings: Mapping[str, Any]) -> dict[str, str]:
    return {**os.environ, "BENCHMARK_CELERY_SETTINGS": json.dumps(settings)}


def _measure_in_child(side: str, server: S3Server, *, quick: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.celery", "--side", side]
    output = subprocess.run(
        [*command, "--quick"] if quick else command,
        env=_environment(_settings(side, server, server.endpoint)),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    figures: dict[str, float] = json.loads(output)
    return figures


def _measure_here(*, quick: bool) -> dict[str, float]:
    """Measure the side that the environment names, in this process."""
    from benchmarks.celery_tasks import app

    backend, count = app.backend, 50 if quick else 400
    body = "x" * BODY_BYTES
    keys = [f"key-{uuid.uuid4()}" for _ in range(count)]
    for key in keys[:5]:  # imports and connections
        backend.set(key, body)
        backend.get(key)
    figures = {
        "set, CPU": _cpu_microseconds(lambda key: backend.set(key, body), keys),
        "get, CPU": _cpu_microseconds(backend.get, keys),
        "join of 1,000, time": _join_milliseconds(app, 100 if quick else 1000),
    }
    assert backend.get(keys[-1]) == body
    with _counted() as requests:
        backend.set(keys[0], body)
        figures["set, requests"] = requests()
    with _counted() as requests:
        backend.get(keys[0])
        figures["get, requests"] = requests()
    backend.store_result(str(uuid.uuid4()), body, "SUCCESS")
    with _counted() as requests:
        backend.store_result(str(uuid.uuid4()), body, "SUCCESS")
        figures["store_result, requests"] = requests()
    return figures


def _cpu_microseconds(work: Callable[[str], object], keys: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    for key in keys:
        work(key)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds / len(keys) * 1e6


def _join_milliseconds(app: Any, count: int) -> float:
    ids = [str(uuid.uuid4()) for _ in range(count)]
    for task_id in ids:
        meta: dict[str, Any] = {
            "status": "SUCCESS",
            "result": task_id,
            "traceback": None,
            "children": [],
        }
        app.backend.set(app.backend.get_key_for_task(task_id), app.backend.encode(meta))
    group = app.GroupResult(str(uuid.uuid4()), [app.AsyncResult(task_id) for task_id in ids])
    started = time.perf_counter()
    joined = group.get(timeout=600)
    seconds = time.perf_counter() - started
    assert joined == ids
    return seconds / count * 1000 * 1000  # as of 1,000, in milliseconds


@contextmanager
def _counted() -> Iterator[Callable[[], float]]:
    """Count the requests of either side, at the lowest place that both pass by name."""
    from botocore.httpsession import URLLib3Session

    from coatcheck.wire.blocking import BlockingWire

    requests = 0
    exchange, send = BlockingWire.exchange, URLLib3Session.send

    async def exchanged(wire: BlockingWire, request: Any) -> Any:
        nonlocal requests
        requests += 1
        return await exchange(wire, request)

    def sent(session: URLLib3Session, request: Any) -> Any:
        nonlocal requests
        requests += 1
        return send(session, request)

    with (
        mock.patch.object(BlockingWire, "exchange", exchanged),
        mock.patch.object(URLLib3Session, "send", sent),
    ):
        yield lambda: float(requests)


def _chord_requests(side: str, server: S3Server, redis: str, folder: Path, size: int) -> float:
    """Run a chord on a worker of four processes; return the requests that the server saw."""
    port = free_port()
    command = [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    broker = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    try:
        with FaultServer(forward(server.endpoint)) as counting:
            settings = _settings(side, server, counting.endpoint)
            settings["broker_url"] = f"redis://127.0.0.1:{port}/0"
            _run_chord(settings, size)
            return float(len(counting.requests))
    finally:
        broker.terminate()
        broker.wait()


def _run_chord(settings: Mapping[str, Any], size: int) -> None:
    worker = [sys.executable, "-m", "celery", "-A", "benchmarks.celery_tasks", "worker"]
    running = subprocess.Popen(
        [*worker, "--concurrency", "4", "--loglevel", "ERROR"],
        env=_environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        sender = [sys.executable, "-m", "benchmarks.celery_tasks", str(size)]
        subprocess.run(sender, env=_environment(settings), check=True, timeout=900)
    finally:
        running.terminate()
        running.wait()


def _table(figures: Mapping[str, Mapping[str, float]]) -> str:
    lines = [f"{'':28}{'celery':>12}{'coatcheck':>12}{'ratio':>9}  target"]
    for target in TARGETS:
        if (sides := figures.get(target.name)) is None:
            lines.append(f"{target.name:28}  left out: redis-server is not on the PATH")
            continue
        theirs, ours = sides["celery"], sides["coatcheck"]
        ratio = theirs / ours
        verdict = "reached" if ratio >= target.ratio else "NOT reached"
        amounts = "".join(f"{amount:>9,.0f} {target.unit:2}" for amount in (theirs, ours))
        lines.append(f"{target.name:28}{amounts}{ratio:>8.1f}x  {target.ratio:g}x {verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""Real workers in processes of their own, and the application that sends them tasks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from coatcheck.testing import S3Server
from tests.integrations.celery import broker, tasks

ROOT = Path(__file__).parents[3]
START_SECONDS = 60.0


class Worker:
    """A running worker and all its children."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def children(self) -> list[int]:
        """The pool's processes, without those that have ended."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children]

    def wait_for(self, text: str, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.log():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, f"{text!r} is not in\n{self.log()}"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the worker at once, and its children with it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def settings(place: Mapping[str, Any], queue: Path, **more: Any) -> dict[str, Any]:
    """Return an application's settings: its results in `place`, its messages in a folder."""
    for name in ("messages", "control"):
        (queue / name).mkdir(parents=True, exist_ok=True)
    return {
        "broker_url": f"{broker.SCHEME}://",
        "broker_transport_options": {
            "data_folder_in": str(queue / "messages"),
            "data_folder_out": str(queue / "messages"),
            "control_folder": str(queue / "control"),
            "polling_interval": 0.02,
        },
        "broker_connection_retry_on_startup": True,
        "worker_prefetch_multiplier": 4,
        "result_chord_join_timeout": 60,
        **place,
        **more,
    }


def on_s3(server: S3Server, bucket: str, **more: Any) -> dict[str, Any]:
    """Return the settings that Celery's own backend knows too."""
    return {
        "result_backend": "coatcheck.integrations.celery:S3Backend",
        "s3_bucket": bucket,
        "s3_access_key_id": server.access_key_id,
        "s3_secret_access_key": server.secret_access_key,
        "s3_endpoint_url": server.endpoint,
        "s3_region": server.region,
        **more,
    }


@contextmanager
def client(configuration: Mapping[str, Any]) -> Iterator[Celery]:
    """Let the tests' application speak to the workers of `configuration`, until the block ends."""
    app = tasks.app
    before = dict(app.conf.changes)
    app.conf.update(configuration)
    _renew(app)
    try:
        yield app
    finally:
        app.conf.clear()
        app.conf.update(before)
        _renew(app)


def _renew(app: Celery) -> None:
    """Let go of the connections and the backend that were made for other settings."""
    app.close()
    app._pool = None
    app._backend_cache = None
    app._local.__dict__.pop("backend", None)
    app.__dict__.pop("amqp", None)


@contextmanager
def worker(
    configuration: Mapping[str, Any], log: Path, *options: str, pool: str = "prefork"
) -> Iterator[Worker]:
    """Run `celery worker` until the block ends; it is ready when the block begins."""
    command = [sys.executable, "-m", "celery", "-A", "tests.integrations.celery.tasks", "worker"]
    command += ["--pool", pool, "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    command += ["--without-heartbeat", *options]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in (str(ROOT), *sys.path) if path),
        "CELERY_TEST_SETTINGS": json.dumps(dict(configuration)),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Worker(process, log)
    try:
        started.wait_for(" ready.")
        yield started
    finally:
        started.stop()

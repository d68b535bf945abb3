"""The Celery application of the tests, in this process and in the workers'.

CELERY_TEST_SETTINGS holds its configuration as JSON.
"""

import json
import os
import signal
import time
from typing import Any

from celery import Celery, chord
from celery.exceptions import SoftTimeLimitExceeded

from tests.integrations.celery import broker

assert broker.SCHEME  # importing it is what makes the broker known

app = Celery("tests")
app.conf.update(json.loads(os.environ.get("CELERY_TEST_SETTINGS", "{}")))


@app.task
def add(*numbers: int) -> int:
    return sum(numbers)


@app.task
def total(numbers: list[Any]) -> Any:
    return sum(sum(item) if isinstance(item, list) else item for item in numbers)


@app.task
def echo(value: Any) -> Any:
    return value


@app.task
def nap(seconds: float, value: Any = None) -> Any:
    time.sleep(seconds)
    return value


@app.task
def fail(reason: str = "on purpose") -> None:
    raise ValueError(reason)


@app.task(bind=True, max_retries=3)
def succeed_on_third(self: Any) -> int:
    if self.request.retries < 2:
        # Celery sends the next try before it stores RETRY. On a server without conditions, a try
        # that ends first has its SUCCESS overwritten by that: docs/how-to/celery.md says so.
        raise self.retry(countdown=1, exc=ValueError("not yet"))
    return int(self.request.retries)


@app.task(bind=True)
def report_progress(self: Any) -> str:
    for step in range(3):
        self.update_state(state="PROGRESS", meta={"step": step})
    return "done"


@app.task(bind=True)
def replaced_by_chord(self: Any, count: int) -> None:
    raise self.replace(chord([add.s(n, n) for n in range(count)], total.s()))


@app.task
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def note(value: Any, path: str) -> Any:
    """Append a line to a file, so that a test can count how often a task has run."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{value}\n".encode())
    os.close(descriptor)
    return value


@app.task
def wait_out_the_limit(seconds: float) -> str:
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "stopped softly"
    return "not stopped"

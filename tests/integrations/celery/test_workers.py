"""Workers as they are run: every pool, thousands of tasks, processes that are killed.

CELERY_TEST_TASKS (default 1,000) says how many tasks go through the prefork worker.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chord, group, states
from celery.backends.s3 import S3Backend as OriginalBackend

from coatcheck.testing import FaultServer, S3Server, forward, free_port
from tests.integrations.celery import workers
from tests.integrations.celery.tasks import add, echo, fail, nap, total
from tests.integrations.celery.workers import ROOT, client, on_s3, settings, worker

TASKS = int(os.environ.get("CELERY_TEST_TASKS", "1000"))
WAIT_SECONDS = 60 + TASKS / 20


def values_of(app: Celery, ids: list[str], seconds: float = WAIT_SECONDS) -> dict[str, Any]:
    return {
        task_id: meta["result"]
        for task_id, meta in app.backend.get_many(ids, timeout=seconds, interval=0.5)
    }


@pytest.mark.timeout(120 + 2 * WAIT_SECONDS)
@pytest.mark.parametrize("s3_server", ["rclone"], indirect=True)
def test_every_result_of_thousands_is_right(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Processes are replaced after every 50 tasks, so the parent forks all along."""
    conf = settings(on_s3(s3_server, bucket), tmp_path, worker_max_tasks_per_child=50)
    with worker(conf, tmp_path / "log", "--concurrency", "4"), client(conf) as app:
        sent = {add.delay(n, n).id: 2 * n for n in range(TASKS)}
        assert values_of(app, list(sent)) == sent


@pytest.mark.timeout(120 + 3 * WAIT_SECONDS)
@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_killed_processes_lose_no_result_and_spoil_none(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Late acknowledgement hands a lost task to another process; the kills go on all the while."""
    count = max(100, TASKS // 5)
    conf = settings(
        on_s3(s3_server, bucket),
        tmp_path,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_max_tasks_per_child=50,
        task_track_started=True,
    )
    with worker(conf, tmp_path / "log", "--concurrency", "4") as running, client(conf) as app:
        with _killing(running) as kills:
            sent = {nap.delay(0.01, n).id: n for n in range(count)}
            assert values_of(app, list(sent), WAIT_SECONDS * 2) == sent
        assert kills
        assert {app.backend.get_state(task_id) for task_id in sent} == {states.SUCCESS}


@contextlib.contextmanager
def _killing(running: workers.Worker) -> Iterator[list[int]]:
    """Kill a random process of the pool now and then, without notice."""
    chance, over, killed = random.Random(7), threading.Event(), []

    def kill() -> None:
        while not over.wait(1.5):
            with contextlib.suppress(ProcessLookupError, IndexError, FileNotFoundError):
                pid = chance.choice(running.children())
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent", "eventlet"])
def test_every_pool(rclone: S3Server, bucket: str, tmp_path: Path, pool: str) -> None:
    conf = settings(on_s3(rclone, bucket), tmp_path)
    with worker(conf, tmp_path / "log", "--concurrency", "20", pool=pool), client(conf):
        joined = group(add.s(n, n) for n in range(60)).apply_async()
        counted = chord([add.s(n, n) for n in range(60)], total.s()).apply_async()
        failed = chord([add.s(1), fail.s()], total.s()).apply_async()
        assert joined.get(timeout=60) == [2 * n for n in range(60)]
        assert counted.get(timeout=60) == sum(range(60)) * 2
        with pytest.raises(Exception, match="on purpose"):
            failed.get(timeout=60)


@pytest.mark.parametrize("theirs", ["worker", "client"])
def test_works_beside_celerys_own_backend(
    rclone: S3Server, bucket: str, tmp_path: Path, theirs: str
) -> None:
    """While an application is moved, some processes have the one backend, some the other."""
    ours = settings(on_s3(rclone, bucket, s3_base_path="results-"), tmp_path)
    original = {**ours, "result_backend": "s3://"}
    at_work, at_home = (original, ours) if theirs == "worker" else (ours, original)
    with worker(at_work, tmp_path / "log", "--concurrency", "2"), client(at_home) as app:
        assert isinstance(app.backend, OriginalBackend) == (theirs == "client")
        assert add.delay(1, 2).get(timeout=30) == 3
        assert echo.delay({"a": ["\N{SNOWMAN}"]}).get(timeout=30) == {"a": ["\N{SNOWMAN}"]}
        with pytest.raises(ValueError, match="on purpose"):
            fail.delay().get(timeout=30)
        if theirs == "client":
            # Begun by theirs, watched by a polling task, at work on ours. The other way round
            # nobody would count: workers are moved first.
            parts = [add.s(1), add.s(2)]
            assert chord(parts, total.s()).apply_async().get(timeout=60) == 3


@pytest.mark.parametrize("limit", ["soft", "hard"])
def test_time_limits_fire_while_a_store_waits_on_a_dead_server(
    rclone: S3Server, bucket: str, tmp_path: Path, fault_server: FaultServer, limit: str
) -> None:
    """The server takes the connection and the request, and never says a word to this process."""
    answers = iter([forward(rclone.endpoint).stalled()])
    fault_server.play(lambda request: next(answers, forward(rclone.endpoint)))
    conf = settings(
        on_s3(rclone, bucket, s3_endpoint_url=fault_server.endpoint),
        tmp_path,
        **{"task_soft_time_limit" if limit == "soft" else "task_time_limit": 1},
    )
    with worker(conf, tmp_path / "log", "--concurrency", "1") as running, client(conf):
        add.delay(1, 2)
        fault_server.wait_for_requests(1, 30)
        started = time.monotonic()
        expected = "SoftTimeLimitExceeded" if limit == "soft" else "Hard time limit (1"
        running.wait_for(expected, 20)
        assert time.monotonic() - started < 4


@pytest.mark.parametrize("s3_server", ["moto", "rclone"], indirect=True)
def test_a_process_killed_while_it_stores_leaves_all_or_nothing(
    s3_server: S3Server, bucket: str
) -> None:
    """Killed later and later: before it has begun, in the middle of its 4 MiB, when it is done."""
    chance, seen = random.Random(1), set()
    app = Celery("reader", set_as_current=False)
    app.conf.update(on_s3(s3_server, bucket))
    for _ in range(12):
        task_id = str(uuid.uuid4())
        process = subprocess.Popen(
            [sys.executable, "-c", STORE, task_id],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **_as_environment(s3_server, bucket)},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"storing\n"
        time.sleep(chance.random() * 0.12)
        process.kill()
        process.wait()
        process.stdout.close()
        state = app.backend.get_state(task_id)
        seen.add(state)
        assert state in (states.PENDING, states.SUCCESS)
        if state == states.SUCCESS:
            assert app.backend.get_result(task_id) == "x" * (4 << 20)
    assert seen


STORE = """
import json, os, sys
from celery import Celery
app = Celery("writer")
app.conf.update(json.loads(os.environ["SETTINGS"]))
app.backend.get_state("warm-up")
print("storing", flush=True)
app.backend.store_result(sys.argv[1], "x" * (4 << 20), "SUCCESS")
"""

TICKER = """
import gevent.monkey
gevent.monkey.patch_all()
import json, os, time, gevent
from celery import Celery
app = Celery("waiting")
app.conf.update(json.loads(os.environ["SETTINGS"]), result_backend_thread_safe=True)
backend = app.backend
waits = [gevent.spawn(backend.get_state, f"task-{n}") for n in range(200)]
pauses = []
while not all(wait.ready() for wait in waits):
    before = time.monotonic()
    gevent.sleep(0.01)
    pauses.append(time.monotonic() - before)
assert {wait.get() for wait in waits} == {"PENDING"}, waits
print(json.dumps({"longest": max(pauses), "ticks": len(pauses)}))
"""


def _as_environment(server: S3Server, bucket: str, **more: Any) -> dict[str, str]:

    path = os.pathsep.join(path for path in (str(ROOT), *sys.path) if path)
    return {"SETTINGS": json.dumps(on_s3(server, bucket, **more)), "PYTHONPATH": path}


def test_waits_do_not_hold_up_the_gevent_hub(
    rclone: S3Server, bucket: str, fault_server: FaultServer
) -> None:
    """200 polls wait for a server that lets them wait, and a ticker goes on ticking."""
    fault_server.play(forward(rclone.endpoint).stalled())
    environment = _as_environment(rclone, bucket, s3_endpoint_url=fault_server.endpoint)
    process = subprocess.Popen(
        [sys.executable, "-c", TICKER],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    try:
        # All of them are under way at once: none is answered before the last has asked.
        fault_server.wait_for_requests(200, 60)
        time.sleep(2)  # what the ticker is to live through; nothing happens by then
        fault_server.release()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    told = json.loads(output)
    assert told["ticks"] > 50
    assert told["longest"] < 1.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis server of the test's own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def test_with_redis_as_the_broker(
    rclone: S3Server, bucket: str, tmp_path: Path, redis: str
) -> None:
    conf = settings(on_s3(rclone, bucket), tmp_path, broker_url=redis, broker_transport_options={})
    with worker(conf, tmp_path / "log", "--concurrency", "4"), client(conf):
        parts = [add.s(n, n) for n in range(100)]
        assert group(parts).apply_async().get(timeout=60) == [2 * n for n in range(100)]
        assert chord(parts, total.s()).apply_async().get(timeout=60) == sum(range(100)) * 2

"""The Celery act: a group and a chord, and what lay in the bucket meanwhile."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from celery import Celery, chord, group
from celery.contrib.testing.worker import start_worker
from rich.table import Table

from demo.screen import Screen
from demo.stage import Stage

PARTS = 12


@dataclass(frozen=True)
class Stored:
    """An object in the bucket."""

    kind: str
    key: str
    size_bytes: int


@dataclass(frozen=True)
class CeleryOutcome:
    """What the act has to show: the results, and the objects that they left."""

    problems: list[str]
    joined: list[int]
    total: int
    stored: list[Stored]

    def show(self, screen: Screen) -> None:
        """Print the table of what lies in the bucket."""
        screen.say("\nCelery: results in S3, chords without a second service\n", style="bold")
        screen.say(f"A group of {PARTS} tasks gave {self.joined}.")
        screen.say(f"A chord of {PARTS} tasks gave its body {self.total}; no task polled for it.")
        table = Table(
            "what",
            "objects",
            "bytes",
            "for example, its key",
            box=None,
            pad_edge=False,
            padding=(0, 2, 0, 0),
        )
        for kind in dict.fromkeys(stored.kind for stored in self.stored):
            objects = [stored for stored in self.stored if stored.kind == kind]
            size_bytes = sum(stored.size_bytes for stored in objects)
            table.add_row(kind, str(len(objects)), f"{size_bytes:,}", objects[0].key)
        screen.show(table)

    def to_json(self) -> Mapping[str, object]:
        """Return the outcome for programs."""
        return {
            "group": self.joined,
            "chord": self.total,
            "stored": [
                {"kind": stored.kind, "key": stored.key, "size_bytes": stored.size_bytes}
                for stored in self.stored
            ],
        }


def play(stage: Stage) -> CeleryOutcome:
    """Run a group and a chord on a worker of this process, their results in a bucket."""
    bucket = f"celery-{uuid.uuid4().hex[:8]}"
    stage.s3.create_bucket(bucket)
    app = _application(stage, bucket)
    stage.start(
        "a Celery worker",
        lambda: start_worker(app, pool="threads", concurrency=4, perform_ping_check=False),
    )
    with stage.screen.step("Running a group and a chord"):
        parts = [app.signature("demo.square", (number,)) for number in range(PARTS)]
        joined: list[int] = group(parts, app=app).apply_async().get(timeout=30, interval=0.05)
        body = app.signature("demo.total")
        total: int = chord(parts, body, app=app).apply_async().get(timeout=30, interval=0.05)
    squares = [number * number for number in range(PARTS)]
    problems = []
    if joined != squares:
        problems.append(f"the group gave {joined}, not {squares}")
    if total != sum(squares):
        problems.append(f"the chord gave {total}, not {sum(squares)}")
    return CeleryOutcome(problems, joined, total, _stored(stage, bucket))


def _application(stage: Stage, bucket: str) -> Celery:
    app = Celery("demo", set_as_current=False)
    app.conf.update(
        broker_url="memory://",
        result_backend=f"coatcheck+{stage.s3.url(bucket, 'results')}",
        s3_access_key_id=stage.s3.access_key_id,
        s3_secret_access_key=stage.s3.secret_access_key,
    )
    app.task(_square, name="demo.square")
    app.task(_total, name="demo.total")
    return app


def _square(number: int) -> int:
    return number * number


def _total(numbers: list[int]) -> int:
    return sum(numbers)


def _stored(stage: Stage, bucket: str) -> list[Stored]:
    witness = stage.s3.witness()
    try:
        listing = witness.list_objects_v2(Bucket=bucket).get("Contents", [])
    finally:
        witness.close()
    return [Stored(_kind(item["Key"]), item["Key"], item["Size"]) for item in listing]


def _kind(key: str) -> str:
    if "/celery-task-meta-" in key:
        return "the result of a task"
    return "that a chord is over" if key.endswith("/done") else "a mark of a chord"

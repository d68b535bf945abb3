"""The flowserv act: the files of a run in S3, moved by flowserv's own volume manager."""

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from tempfile import TemporaryDirectory

from flowserv.volume.base import IOBuffer
from flowserv.volume.fs import FileSystemStorage
from flowserv.volume.manager import DEFAULT_STORE, VolumeManager
from rich.table import Table

from coatcheck.integrations.flowserv import S3Volume, install
from demo.screen import Screen
from demo.stage import Stage

FILES = 300


@dataclass(frozen=True)
class Step:
    """Something that was done, to how many files, and how long it took."""

    what: str
    files: int
    seconds: float


@dataclass(frozen=True)
class FlowservOutcome:
    """What the act has to show: where the run lies, and what each step took."""

    problems: list[str]
    location: str
    steps: list[Step]

    def show(self, screen: Screen) -> None:
        """Print the steps and the place of the run."""
        screen.say("\nflowserv: the files of a run, in a bucket\n", style="bold")
        table = Table("what", "files", "seconds", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for step in self.steps:
            table.add_row(step.what, f"{step.files:,}", f"{step.seconds:.2f}")
        screen.show(table)
        screen.say(f"The run lay below {self.location}")

    def to_json(self) -> Mapping[str, object]:
        """Return the outcome for programs."""
        steps = [
            {"what": step.what, "files": step.files, "seconds": round(step.seconds, 3)}
            for step in self.steps
        ]
        return {"location": self.location, "steps": steps}


def play(stage: Stage) -> FlowservOutcome:
    """Store a run, let flowserv prepare a worker's folder of it, copy it, delete it."""
    bucket = f"flowserv-{uuid.uuid4().hex[:8]}"
    stage.s3.create_bucket(bucket)
    with (
        stage.screen.step(f"Moving {FILES} files through flowserv's volumes"),
        _reached(stage.s3.environment()),
        TemporaryDirectory() as folder,
    ):
        install()
        return _run(S3Volume(bucket, "runs/42", DEFAULT_STORE), folder)


def _run(run: S3Volume, folder: str) -> FlowservOutcome:
    problems: list[str] = []
    steps: list[Step] = []
    paths = [f"data/{number:03}.csv" for number in range(FILES)]

    started = time.perf_counter()
    for path in paths:
        run.store(IOBuffer(BytesIO(path.encode())), path)
    steps.append(Step("stored", len(paths), time.perf_counter() - started))

    started = time.perf_counter()
    manager = VolumeManager([run.to_dict()], {path: [DEFAULT_STORE] for path in paths})
    worker = FileSystemStorage(folder, identifier="worker")
    manager.prepare(store=worker, inputs=["data/"], outputs=[])
    steps.append(Step("prepared for a worker", len(paths), time.perf_counter() - started))
    if [path for path, _ in run.walk("data")] != paths:
        problems.append("the run does not hold the files that were stored")
    if any(worker.load(path).open().read() != path.encode() for path in paths):
        problems.append("a file came to the worker changed")

    started = time.perf_counter()
    again = S3Volume(run.bucket_id, "runs/42-again")
    copied = run.copy(None, again)
    steps.append(Step("copied by the server", len(copied), time.perf_counter() - started))

    started = time.perf_counter()
    steps.append(Step("deleted", run.erase(), time.perf_counter() - started))
    if len(again.walk(None)) != FILES:
        problems.append("erasing runs/42 touched runs/42-again")
    return FlowservOutcome(problems, f"s3://{run.bucket_id}/{run.prefix}", steps)


@contextmanager
def _reached(variables: Mapping[str, str]) -> Iterator[None]:
    """Lead S3 clients of this process to the server, as flowserv's users do."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

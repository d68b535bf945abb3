"""The labox act: a stream of content in S3, what is kept of it, and what is not kept twice."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from rich.table import Table

from coatcheck.integrations.labox import S3Pointer, S3Storage, new_client, simple_s3_router
from demo.screen import Screen
from demo.stage import Stage

if TYPE_CHECKING:
    from labox.core.storage import StreamDigest

MIB = 1024 * 1024
CHUNKS = 40


@dataclass(frozen=True)
class Step:
    """Something that was done, what it was done with, and how long it took."""

    what: str
    size_bytes: int
    seconds: float


@dataclass(frozen=True)
class LaboxOutcome:
    """What the act has to show: where the content lies, and what each step took."""

    problems: list[str]
    pointer: S3Pointer
    steps: list[Step]
    keys: list[str]

    def show(self, screen: Screen) -> None:
        """Print the steps and what lies in the bucket."""
        screen.say("\nlabox: content of any size, stored once\n", style="bold")
        table = Table("what", "bytes", "seconds", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for step in self.steps:
            table.add_row(step.what, f"{step.size_bytes:,}", f"{step.seconds:.2f}")
        screen.show(table)
        screen.say(f"Row: {self.pointer}")
        screen.say(f"In the bucket: {', '.join(self.keys)}")

    def to_json(self) -> Mapping[str, object]:
        """Return the outcome for programs."""
        return {
            "pointer": self.pointer,
            "steps": [
                {
                    "what": step.what,
                    "size_bytes": step.size_bytes,
                    "seconds": round(step.seconds, 3),
                }
                for step in self.steps
            ],
            "keys": self.keys,
        }


def play(stage: Stage) -> LaboxOutcome:
    """Write a stream twice, read it, and leave a second reading early."""
    bucket = f"labox-{uuid.uuid4().hex[:8]}"
    stage.s3.create_bucket(bucket)
    with stage.screen.step(f"Streaming {CHUNKS} MiB through labox's storage"):
        pointer, steps, problems = asyncio.run(_stream(stage, bucket))
    keys = _keys(stage, bucket)
    if keys != [pointer["key"]]:
        problems.append(f"the bucket holds {keys}")
    return LaboxOutcome(problems, pointer, steps, keys)


async def _stream(stage: Stage, bucket: str) -> tuple[S3Pointer, list[Step], list[str]]:
    client = new_client(
        endpoint_url=stage.s3.endpoint,
        region=stage.s3.region,
        access_key_id=stage.s3.access_key_id,
        secret_access_key=stage.s3.secret_access_key,
    )
    storage = S3Storage(s3_client=client, s3_router=simple_s3_router(bucket, "content"))
    steps: list[Step] = []
    problems: list[str] = []

    started = time.perf_counter()
    content = _Content()
    pointer = await storage.write_data_stream(content.chunks(), content.digest, {"demo": "labox"})
    steps.append(Step("a stream written", content.size_bytes, time.perf_counter() - started))

    started = time.perf_counter()
    again = _Content()
    if await storage.write_data_stream(again.chunks(), again.digest, {}) != pointer:
        problems.append("equal content got another pointer")
    steps.append(Step("the same again: stored once", again.size_bytes, _since(started)))

    started, hashed, received_bytes = time.perf_counter(), sha256(), 0
    async for chunk in storage.read_data_stream(pointer):
        hashed.update(chunk)
        received_bytes += len(chunk)
    steps.append(Step("read back, verified", received_bytes, _since(started)))
    if hashed.hexdigest() != content.digest()["content_hash"]:
        problems.append("the stream that came back is another")
    return pointer, steps, problems


def _since(started: float) -> float:
    return time.perf_counter() - started


class _Content:
    """A stream of the same bytes each time, and its digest, as labox's saver makes them."""

    def __init__(self) -> None:
        self._hash = sha256()
        self.size_bytes = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield a MiB at a time."""
        for number in range(CHUNKS):
            chunk = sha256(number.to_bytes(8, "big")).digest() * (MIB // 32)
            self._hash.update(chunk)
            self.size_bytes += len(chunk)
            yield chunk

    def digest(self, *, allow_incomplete: bool = False) -> "StreamDigest":
        """Describe what was yielded so far."""
        is_complete = self.size_bytes == CHUNKS * MIB
        if not (is_complete or allow_incomplete):
            raise ValueError("The stream has not been fully read.")
        return {
            "content_encoding": None,
            "content_type": "application/octet-stream",
            "content_hash_algorithm": "sha256",
            "content_hash": self._hash.hexdigest(),
            "content_size": self.size_bytes,
            "is_complete": is_complete,
        }


def _keys(stage: Stage, bucket: str) -> list[str]:
    witness = stage.s3.witness()
    try:
        listing = witness.list_objects_v2(Bucket=bucket).get("Contents", [])
    finally:
        witness.close()
    return [item["Key"] for item in listing]

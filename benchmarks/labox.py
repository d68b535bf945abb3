"""labox content: coatcheck's storage beside labox's own, on the same server, in one run.

    python -m benchmarks.labox [--quick] [--json]

CPU per 1 KiB value, and the time that a large stream takes, both ways. Beside them "bare": the
same bytes sent and fetched over coatcheck's wire by hand, parts side by side, with nothing hashed
but what signs a request and nothing copied to its final key. Each side runs in processes of its
own and rounds alternate; the medians are compared.

labox's own storage cannot read a stream of more than one chunk. It is read with `read_data`,
which is what its users can do; the bytes arrive all at once and are held in memory.
"""

import argparse
import asyncio
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from coatcheck.testing import S3Server, start_rclone

SIDES = ("coatcheck", "labox", "bare")
MIB = 1024 * 1024
BUCKET = "labox"
VALUE_BYTES = 1024
PART_BYTES = 8 * MIB
IN_FLIGHT = 6


@dataclass(frozen=True)
class Target:
    """What is measured, and how many times better than labox's own ours is to be."""

    name: str
    unit: str
    ratio: float


TARGETS = [
    Target("write of 1 KiB, CPU", "us", 8),
    Target("read of 1 KiB, CPU", "us", 8),
    Target("stream written, time", "s", 3),
    Target("stream read, time", "s", 2),
]


def main() -> int:
    """Run all measurements, print a table or JSON; 0 unless the run itself failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labox", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, a stream of 64 MiB")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(asyncio.run(_measure_here(arguments.side, quick=arguments.quick))))
        return 0
    figures = _compare(quick=arguments.quick)
    print(json.dumps(figures, indent=2) if arguments.json else _table(figures))
    return 0


def _compare(*, quick: bool) -> dict[str, dict[str, float]]:
    """Return the median of every measurement, by its name and side."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(1 if quick else 3):
        for side in SIDES:
            # A server for each turn, so that none pays for what another has left in its memory.
            with tempfile.TemporaryDirectory() as folder, start_rclone(Path(folder)) as server:
                server.create_bucket(BUCKET)
                for name, value in _measure_in_child(side, server, quick=quick).items():
                    found.setdefault(name, {}).setdefault(side, []).append(value)
    return {
        name: {side: statistics.median(values) for side, values in sides.items()}
        for name, sides in found.items()
    }


def _measure_in_child(side: str, server: S3Server, *, quick: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.labox", "--side", side]
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_REGION": server.region,
        "AWS_DEFAULT_REGION": server.region,
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
    }
    output = subprocess.run(
        [*command, "--quick"] if quick else command,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    figures: dict[str, float] = json.loads(output)
    return figures


async def _measure_here(side: str, *, quick: bool) -> dict[str, float]:
    size_bytes = (64 if quick else 1024) * MIB
    if side == "bare":
        return await _measure_bare(size_bytes)
    storage = _storage(side)
    values = [os.urandom(VALUE_BYTES) for _ in range(50 if quick else 400)]
    digests = [_digest(value) for value in values]
    await storage.write_data(b"warm", _digest(b"warm"), {})
    pointers: list[Any] = []

    async def write() -> None:
        for value, digest in zip(values, digests, strict=True):
            pointers.append(await storage.write_data(value, digest, {}))

    async def read() -> None:
        for pointer, value in zip(pointers, values, strict=True):
            assert await storage.read_data(pointer) == value

    figures = {
        "write of 1 KiB, CPU": await _cpu_microseconds(write, len(values)),
        "read of 1 KiB, CPU": await _cpu_microseconds(read, len(values)),
    }
    started = time.perf_counter()
    pointer = await storage.write_data_stream(*_stream(size_bytes), {})
    figures["stream written, time"] = time.perf_counter() - started
    started = time.perf_counter()
    if side == "labox":
        received_bytes = len(await storage.read_data(pointer))
    else:
        received_bytes = 0
        async for chunk in storage.read_data_stream(pointer):
            received_bytes += len(chunk)
    figures["stream read, time"] = time.perf_counter() - started
    assert received_bytes == size_bytes
    return figures


def _storage(side: str) -> Any:
    from coatcheck.integrations.labox import S3Storage, new_client, simple_s3_router

    router = simple_s3_router(BUCKET)
    if side == "coatcheck":
        return S3Storage(s3_client=new_client(), s3_router=router)
    import boto3
    from labox.extra.aws import S3Storage as OriginalStorage

    return OriginalStorage(s3_client=boto3.client("s3"), s3_router=router)


async def _measure_bare(size_bytes: int) -> dict[str, float]:
    from coatcheck.opening import open_buckets
    from coatcheck.runtime.aio import ASYNCIO
    from coatcheck.types import ByteRange

    objects, body = open_buckets().objects(BUCKET), os.urandom(PART_BYTES)
    started = time.perf_counter()
    upload = await objects.begin_upload("bare")
    count = size_bytes // PART_BYTES
    sends = [partial(upload.send_part, number, body) for number in range(1, count + 1)]
    await ASYNCIO.gather(sends, limit=IN_FLIGHT)
    await upload.complete()
    written = time.perf_counter() - started
    started = time.perf_counter()

    async def fetch(number: int) -> None:
        span = ByteRange(number * PART_BYTES, PART_BYTES)
        await objects.get("bare", span, limit_bytes=PART_BYTES)

    fetches = [partial(fetch, number) for number in range(count)]
    await ASYNCIO.gather(fetches, limit=IN_FLIGHT)
    return {
        "stream written, time": written,
        "stream read, time": time.perf_counter() - started,
    }


def _digest(data: bytes) -> dict[str, object]:
    return {
        "content_encoding": None,
        "content_type": "application/octet-stream",
        "content_hash_algorithm": "sha256",
        "content_hash": hashlib.sha256(data).hexdigest(),
        "content_size": len(data),
    }


def _stream(size_bytes: int) -> tuple[AsyncGenerator[bytes, None], Callable[..., object]]:
    """Return a stream and its get_digest, as labox's saver hands them over."""
    whole, done_bytes, noise = hashlib.sha256(), 0, os.urandom(MIB)

    async def stream() -> AsyncGenerator[bytes, None]:
        nonlocal done_bytes
        for number in range(size_bytes // MIB):
            chunk = number.to_bytes(8, "big") + noise[8:]
            whole.update(chunk)
            done_bytes += len(chunk)
            yield chunk

    def get_digest(*, allow_incomplete: bool = False) -> dict[str, object]:
        is_complete = done_bytes == size_bytes
        assert is_complete or allow_incomplete
        described = {"content_hash": whole.hexdigest(), "content_size": done_bytes}
        return {**_digest(b""), **described, "is_complete": is_complete}

    return stream(), get_digest


async def _cpu_microseconds(work: Callable[[], Awaitable[None]], count: int) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    await work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds / count * 1e6


def _table(figures: dict[str, dict[str, float]]) -> str:
    lines = [f"{'':24}{'coatcheck':>12}{'labox':>12}{'bare':>12}{'ratio':>8}  target"]
    for target in TARGETS:
        sides = figures[target.name]
        ratio = sides["labox"] / sides["coatcheck"]
        mark = "✓" if ratio >= target.ratio else "✗"
        bare = f"{sides['bare']:,.1f}" if "bare" in sides else ""
        lines.append(
            f"{target.name + ' ' + target.unit:24}{sides['coatcheck']:12,.1f}"
            f"{sides['labox']:12,.1f}{bare:>12}{ratio:8.1f}  {mark} {target.ratio:g}"
        )
        if "bare" in sides:
            beside = sides["coatcheck"] / sides["bare"]
            lines.append(f"{'':24}{beside:12.1f} x bare")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

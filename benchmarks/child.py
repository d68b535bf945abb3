"""A process of one side: it stores and retrieves as it is told, and measures only itself.

    python -m benchmarks.child SIDE BUCKET

reads commands from standard input and answers on standard output, one line of JSON each, until
its input ends. Where the server is stands in the AWS_* variables.
"""

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.measurement import Measurement
from benchmarks.sides.port import Claim, Place, Side

P = TypeVar("P")
A = TypeVar("A")
B = TypeVar("B")


async def main(name: str, bucket: str) -> None:
    """Serve commands for the side `name`."""
    place = Place.from_environment(bucket)
    # Each side imports only what it needs, so that it answers for its own memory alone.
    match name:
        case "official":
            from benchmarks.sides import official

            async with official.open_side(place) as driver:
                await _serve(driver)
        case "coatcheck":
            from benchmarks.sides import coatcheck

            async with coatcheck.open_side(place) as driver:
                await _serve(driver)
        case "store":
            from benchmarks.sides import store

            async with store.open_side(place) as core:
                await _serve(core)
        case "bare":
            from benchmarks.sides import bare

            async with bare.open_side(place) as floor:
                await _serve(floor)
        case _:
            raise SystemExit(f"there is no side {name!r}")


async def _serve(side: Side[P]) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        command: dict[str, Any] = json.loads(line)
        answer = await _obey(side, **command)
        print(json.dumps(answer), flush=True)


async def _obey(
    side: Side[P],
    *,
    do: str,
    in_flight: int,
    size_bytes: int = 0,
    count: int = 0,
    stored: Iterable[tuple[Claim, str]] = (),
) -> Mapping[str, object]:
    if do == "store":
        return await _store(side, size_bytes, count, in_flight)
    return await _retrieve(side, list(stored), in_flight)


async def _store(
    side: Side[P], size_bytes: int, count: int, in_flight: int
) -> Mapping[str, object]:
    """Store `count` random payloads; answer with their claims and digests too."""
    digests: list[str] = []
    parcels: list[P] = []
    for _ in range(count):
        content = os.urandom(size_bytes)
        digests.append(sha256(content).hexdigest())
        parcels.append(side.parcel(content))
        del content
    claims, measurement = await _measured(side.store, parcels, in_flight)
    stored = [(dict(claim), digest) for claim, digest in zip(claims, digests, strict=True)]
    return {"measurement": asdict(measurement), "stored": stored}


async def _retrieve(
    side: Side[P], stored: list[tuple[Claim, str]], in_flight: int
) -> Mapping[str, object]:
    """Retrieve payloads, and check them once the measuring is over."""
    claims = [claim for claim, _ in stored]
    parcels, measurement = await _measured(side.retrieve, claims, in_flight)
    for parcel, (claim, digest) in zip(parcels, stored, strict=True):
        if sha256(side.content(parcel)).hexdigest() != digest:
            raise RuntimeError(f"what came back for {claim} is not what was stored")
    return {"measurement": asdict(measurement)}


async def _measured(
    work: Callable[[A], Awaitable[B]], items: list[A], in_flight: int
) -> tuple[list[B], Measurement]:
    """Do `work` on every item, `in_flight` at a time, and measure this process meanwhile."""
    gc.collect()
    _forget_peak()
    baseline_bytes = _memory("VmRSS")
    wall_before, cpu_before = time.perf_counter(), _cpu_seconds()
    results = await _side_by_side(work, items, in_flight)
    cpu_after, wall_after = _cpu_seconds(), time.perf_counter()
    peak_bytes = _memory("VmHWM")
    return results, Measurement(
        count=len(items),
        cpu_seconds=cpu_after - cpu_before,
        wall_seconds=wall_after - wall_before,
        peak_bytes=None
        if peak_bytes is None or baseline_bytes is None
        else peak_bytes - baseline_bytes,
    )


async def _side_by_side(
    work: Callable[[A], Awaitable[B]], items: list[A], in_flight: int
) -> list[B]:
    results: dict[int, B] = {}
    upcoming = iter(enumerate(items))

    async def work_off() -> None:
        for index, item in upcoming:
            results[index] = await work(item)

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(in_flight, len(items))):
            workers.create_task(work_off())
    return [results[index] for index in range(len(items))]


def _cpu_seconds() -> float:
    """CPU of all threads of this process. Linux counts their sum in nanoseconds, not in ticks."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _forget_peak() -> None:
    """Let VmHWM start again from what is in memory now (proc(5), clear_refs)."""
    # Where that is not allowed the peak may include an earlier one: too much, never too little.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> int | None:
    """A line of /proc/self/status in bytes; None where there is none."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""How much memory a payload takes on its way: measured in a process of its own, not assumed."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from coatcheck.payloads.transfer import DEFAULT_PART_BYTES, PARTS_SIDE_BY_SIDE
from coatcheck.testing import S3Server
from tests.payloads.support import MIB

SIZE = 64 * MIB
ALLOWED_BYTES = 24 * MIB

MEASURE = """
import asyncio, gc, json, os, sys
import coatcheck
from coatcheck import blocking

def memory(field):
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) * 1024

def measure(work):
    # What is measured is the peak from here on, above what was in use before.
    gc.collect()
    before = memory("VmRSS")
    with open("/proc/self/clear_refs", "w") as peaks:
        peaks.write("5")
    result = work()
    return memory("VmHWM") - before, result

face, url, size, claim = sys.argv[1:]
size = int(size)
store = (coatcheck if face == "asyncio" else blocking).open_store(url)

def call(method, argument):
    if face == "blocking":
        return getattr(store, method)(argument)
    results = []
    async def keep():
        results.append(await getattr(store, method)(argument))
    asyncio.run(keep())
    return results[0]

call("get", str(call("put", b"warm")))
if not claim:
    data = os.urandom(size)
    peak, made = measure(lambda: call("put", data))
    print(json.dumps({"peak_bytes": peak, "claim": str(made)}))
else:
    peak, data = measure(lambda: call("get", claim))
    assert len(data) == size
    print(json.dumps({"peak_bytes": peak, "claim": claim}))
"""

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells and resets the peak"
)


@dataclass(frozen=True)
class Measured:
    """What a process has found out about one operation."""

    peak_bytes: int
    claim: str


def measured(face: str, server: S3Server, bucket: str, claim: str = "") -> Measured:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, face, server.url(bucket), str(SIZE), claim],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **server.environment()},
    )
    assert done.returncode == 0, done.stderr
    return Measured(**json.loads(done.stdout))


@needs_proc
@pytest.mark.parametrize("face", ["asyncio", "blocking"])
def test_64_mib_go_and_come_within_their_bounds(face, s3_server, bucket):
    put = measured(face, s3_server, bucket)
    got = measured(face, s3_server, bucket, put.claim)
    print(f"{face}: put {put.peak_bytes / MIB:.1f} MiB, get {got.peak_bytes / MIB:.1f} MiB")
    # The payload lay there before it was put; what comes on top are the parts in flight.
    assert put.peak_bytes <= PARTS_SIDE_BY_SIDE * DEFAULT_PART_BYTES + ALLOWED_BYTES
    assert got.peak_bytes <= SIZE + ALLOWED_BYTES

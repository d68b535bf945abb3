"""Streams of any size in fixed memory: measured in processes of their own, both ways, both faces.

The 5 GiB ones take minutes; they run with COATCHECK_LARGE=1 in the environment.
"""

import json
import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

MIB = 1024**2
GIB = 1024**3
PART = 8 * MIB
ALLOWED_BYTES = 64 * MIB + 8 * PART
"""What a stream may take beyond the program itself."""

large = pytest.mark.skipif("COATCHECK_LARGE" not in os.environ, reason="takes minutes")
SIZES = [GIB, *(pytest.param(5 * GIB + more, marks=large) for more in (-1, 0, 1))]

PROGRAM = """
    import asyncio, json, sys
    import coatcheck, coatcheck.blocking
    face, way, url, size, claim = sys.argv[1:]
    size = int(size)
    keys = dict(access_key_id="a", secret_access_key="b")

    def peak():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if "VmHWM" in line)

    def source():
        chunk, left = bytes(1 << 20), size
        while left:
            yield chunk[: min(left, len(chunk))]
            left -= min(left, len(chunk))

    async def awaited():
        store, total = coatcheck.open_store(url, **keys), 0
        if way == "up":
            return str(await store.put_stream(source()))
        async for part in store.stream(claim):
            total += len(part)
        return str(total)

    def plain():
        store = coatcheck.blocking.open_store(url, **keys)
        if way == "up":
            return str(store.put_stream(source()))
        return str(sum(len(part) for part in store.stream(claim)))

    import coatcheck.payloads.streams, coatcheck.objects.s3, coatcheck.wire.aio
    import coatcheck.wire.blocking
    before = peak()
    result = asyncio.run(awaited()) if face == "asyncio" else plain()
    print(json.dumps({"result": result, "more_bytes": peak() - before}))
"""


@contextmanager
def discarding_server():
    script = Path(__file__).with_name("discarding.py")
    server = subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    seen: dict[str, Any] = {}
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        yield f"s3://bucket/p?endpoint=http://127.0.0.1:{port}&region=us-east-1", seen
    finally:
        out, _ = server.communicate(timeout=30)
        seen.update(json.loads(out))


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' own account")
@pytest.mark.parametrize("face", ["asyncio", "blocking"])
@pytest.mark.parametrize("size", SIZES)
def test_memory_is_bounded_whatever_the_size(size, face):
    with discarding_server() as (url, seen):
        up = run(face, "up", url, size, "-")
        assert up["more_bytes"] <= ALLOWED_BYTES
        down = run(face, "down", url, size, up["result"])
        assert down["result"] == str(size)
        assert down["more_bytes"] <= ALLOWED_BYTES
    assert json.loads(up["result"])["size"] == size
    assert seen["open_uploads"] == 0
    assert seen["largest_part_bytes"] == PART
    # Nothing is left but the payload and its digests.
    assert sorted(key.split("/")[2] for key in seen["sizes"]) == ["parts", "sha256"]
    assert next(n for key, n in seen["sizes"].items() if "sha256" in key) == size
    # Several segments, each of at most 5 GiB, made one object without moving through us.
    assert seen["calls"]["part"] == -(-size // PART)
    assert seen["calls"]["begin"] == (2 if size <= 5 * GIB else 3)

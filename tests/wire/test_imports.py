"""What importing and constructing costs: no thread, no socket, no framework, little time."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, os, sys, threading, time

def refuse(event, arguments):
    if refusing and event.startswith(("socket.", "subprocess.", "os.fork", "os.posix_spawn")):
        raise AssertionError(event)

refusing = True
sys.addaudithook(refuse)
started = time.process_time()
{}
print(json.dumps({{
    "seconds": time.process_time() - started,
    "threads": threading.active_count(),
    "sockets": sum(
        os.readlink(f"/proc/self/fd/{{fd}}").startswith("socket")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{{fd}}")
    ),
    "modules": sorted(sys.modules),
}}))
"""

FRAMEWORKS = {"temporalio", "celery", "kombu", "labox", "flowserv", "rich", "typer", "click"}
CLOUD = {"boto3", "botocore", "s3transfer", "urllib3", "requests", "aiobotocore", "aiohttp"}


def run(code: str) -> dict[str, object]:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(code)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, object] = json.loads(ran.stdout)
    return told


def packages(told: dict[str, object]) -> set[str]:
    modules = told["modules"]
    assert isinstance(modules, list)
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize(
    "code",
    [
        "import coatcheck",
        "import coatcheck.blocking",
        "import coatcheck; coatcheck.open_store('s3://bucket/prefix?region=eu-west-1')",
        "import coatcheck.blocking as b; b.open_store('s3://bucket/prefix?region=eu-west-1')",
        "from coatcheck.wire.blocking import BlockingWire; BlockingWire()",
        "from coatcheck.wire.aio import AsyncioWire; AsyncioWire()",
    ],
)
def test_no_thread_no_socket_and_no_framework(code: str) -> None:
    told = run(code)
    assert (told["threads"], told["sockets"]) == (1, 0)
    assert packages(told).isdisjoint(FRAMEWORKS | CLOUD)


def test_importing_the_package_takes_little_time() -> None:
    """Compared with what the interpreter takes for asyncio, since machines differ."""
    ours = min(float(str(run("import coatcheck")["seconds"])) for _ in range(3))
    asyncio = min(float(str(run("import asyncio")["seconds"])) for _ in range(3))
    assert ours < max(2 * asyncio, 0.1)


@pytest.mark.parametrize(
    ("wire", "runtime"),
    [("blocking.BlockingWire", "blocking.BLOCKING.run"), ("aio.AsyncioWire", "asyncio.run")],
)
def test_an_exchange_imports_nothing(wire: str, runtime: str) -> None:
    """A module that a thread of the parent was importing can never be imported in a child."""
    module, name = wire.split(".")
    run(f"""
import asyncio
from coatcheck.runtime import blocking
from coatcheck.wire.{module} import {name}
from coatcheck.wire.port import ConnectFailed, Request

async def go():
    try:
        await {name}().exchange(Request("GET", "https://127.0.0.1:1/", [], 5.0, 0))
    except ConnectFailed:
        return set(sys.modules) - before

refusing = False
before = set(sys.modules)
late = {runtime}(go())
assert late == set(), late
""")

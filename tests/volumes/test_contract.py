"""Volumes keep the contract on every object store, on every runtime."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import pytest

from coatcheck.objects.opening import Backend
from coatcheck.opening import ASYNC
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.testing.objects import Capability, Witness
from coatcheck.testing.volumes import CHECKS, Check
from coatcheck.volumes.volume import Volume
from coatcheck.wire.blocking import BlockingWire
from tests.volumes.support import S3Witness, in_folder, in_memory, volume_on


@dataclass(frozen=True)
class Driver:
    """What runs a check."""

    backend: Backend
    run: Callable[[Coroutine[object, object, None]], None]


DRIVERS = {
    "asyncio": Driver(ASYNC, asyncio.run),
    "blocking": Driver(Backend(BLOCKING, BlockingWire), BLOCKING.run),
}
FILES_ON_A_DISK = frozenset({Capability.NESTED_KEYS})


@pytest.mark.parametrize("check", CHECKS, ids=str)
@pytest.mark.parametrize("driver", DRIVERS.values(), ids=DRIVERS)
@pytest.mark.parametrize("place", ["memory", "local", "rclone", "rclone-prefix", "moto"])
def test_contract(place: str, driver: Driver, check: Check, request: pytest.FixtureRequest) -> None:
    if place not in ("memory", "moto") and check.needs & FILES_ON_A_DISK:
        pytest.skip("files on a disk: a and a/b cannot both be")
    volume: Volume
    witness: Witness
    with ExitStack() as stack:
        if place == "memory":
            volume, witness = stack.enter_context(in_memory(driver.backend.runtime))
        elif place == "local":
            root = request.getfixturevalue("tmp_path") / "root"
            volume, witness = in_folder(driver.backend.runtime, root)
        else:
            server = request.getfixturevalue(place.partition("-")[0])
            bucket = f"test-{uuid4().hex[:20]}"
            server.create_bucket(bucket)
            prefix = "runs/42" if place.endswith("prefix") else ""
            volume = volume_on(server, bucket, driver.backend, prefix)
            witness = s3_witness = S3Witness(server, bucket, prefix)
            stack.callback(s3_witness.client.close)
        driver.run(check(volume, witness))

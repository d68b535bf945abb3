from pathlib import Path

import pytest

from coatcheck.testing import FaultServer, S3Server
from tests.cli.command import Command


@pytest.fixture
def local(tmp_path: Path) -> Command:
    """The command of a user without any settings: its default store is a folder."""
    home = tmp_path / "home"
    home.mkdir()
    return Command(home)


@pytest.fixture
def remote(local: Command, rclone: S3Server, bucket: str) -> Command:
    """The command of a user whose default store is a bucket on rclone."""
    store = f"s3://{bucket}/default"
    return Command(local.home, {**rclone.environment(), "COATCHECK_STORE": store})


@pytest.fixture
def faulty(local: Command, rclone: S3Server, bucket: str, fault_server: FaultServer) -> Command:
    """The command of a user whose default store is a bucket on a server that misbehaves."""
    variables = {
        **rclone.environment(),
        "AWS_ENDPOINT_URL": fault_server.endpoint,
        "COATCHECK_STORE": f"s3://{bucket}/default?max_attempts=1",
    }
    return Command(local.home, variables)

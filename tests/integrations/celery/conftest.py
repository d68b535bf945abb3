"""Workers that the tests of one server share, and the application that sends them tasks."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from coatcheck.testing import S3Server
from tests.integrations.celery import workers


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Celery, workers.Worker]]:
    """An application and a prefork worker of 4, on the server that the parameter names."""
    server: S3Server = request.getfixturevalue(request.param)
    server.create_bucket(bucket := f"test-{uuid.uuid4().hex[:20]}")
    folder: Path = tmp_path_factory.mktemp("celery")
    settings = workers.settings(workers.on_s3(server, bucket), folder / "queue")
    with (
        workers.worker(settings, folder / "log", "--concurrency", "4") as worker,
        workers.client(settings) as app,
    ):
        yield app, worker

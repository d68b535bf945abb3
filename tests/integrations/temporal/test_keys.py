"""Keys: equal to the official driver's, whatever Temporal's users call their things."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.contrib.aws.s3driver import S3StorageDriver as OfficialDriver
from temporalio.converter import (
    StorageDriver,
    StorageDriverActivityInfo,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)

from coatcheck.integrations.temporal import S3StorageDriver
from coatcheck.integrations.temporal.claims import read_claim
from coatcheck.integrations.temporal.keys import digest_in, key_prefix
from coatcheck.types import Digest
from tests.integrations.temporal.subjects import (
    NO_TARGET,
    MemoryClient,
    activity,
    payload,
    store,
    workflow,
)

HOSTILE = ["", ".", "..", "~", "/", "a/b", "wf#1 &foo=bar", "%2F", "null", "*'()!", "\n", "\0", "é"]

names = (
    st.none()
    | st.sampled_from(HOSTILE)
    | st.text(max_size=30)
    | st.builds(str.__mul__, st.sampled_from(["x", "~", "ü", "🧥"]), st.integers(50, 1100))
)
targets = st.none() | st.builds(
    lambda kind, namespace, **known: kind(namespace=namespace, **known),
    st.sampled_from([StorageDriverWorkflowInfo, StorageDriverActivityInfo]),
    names.map(lambda name: name or ""),
    id=names,
    type=names,
    run_id=names,
)


async def key_by(driver: StorageDriver, context: StorageDriverStoreContext) -> str:
    [claim] = await store(driver, payload(), context=context)
    return claim.claim_data["key"]


@given(targets)
async def test_keys_equal_the_official_drivers(
    target: StorageDriverWorkflowInfo | StorageDriverActivityInfo | None,
):
    context = StorageDriverStoreContext(target)
    official = await key_by(OfficialDriver(MemoryClient(), "bucket"), context)
    assert await key_by(S3StorageDriver(MemoryClient(), "bucket"), context) == official


@given(targets)
async def test_what_was_stored_for_any_target_can_be_read(
    target: StorageDriverWorkflowInfo | StorageDriverActivityInfo | None,
):
    [claim] = await store(
        S3StorageDriver(MemoryClient(), "bucket"),
        payload(),
        context=StorageDriverStoreContext(target),
    )
    key = claim.claim_data["key"]
    if len(key) <= 1024:
        assert read_claim(claim.claim_data, {"bucket"}).key == key


@pytest.mark.parametrize(
    ("context", "prefix"),
    [
        (NO_TARGET, "v0"),
        (workflow(), "v0/ns/ns1/wt/null/wi/wf1/ri/null"),
        (workflow(type="My", run_id="r-1"), "v0/ns/ns1/wt/My/wi/wf1/ri/r-1"),
        (workflow(id=None), "v0/ns/ns1/wt/null/wi/null/ri/null"),
        (activity(), "v0/ns/ns1/at/null/ai/act1/ri/null"),
        (activity(type="Act", run_id="r-1"), "v0/ns/ns1/at/Act/ai/act1/ri/r-1"),
        (workflow(namespace=""), "v0/ns/null/wt/null/wi/wf1/ri/null"),
        (workflow(namespace="my/ns#1"), "v0/ns/my%2Fns%231/wt/null/wi/wf1/ri/null"),
        (workflow(namespace="Mine", id="MyWF"), "v0/ns/Mine/wt/null/wi/MyWF/ri/null"),
        (workflow(id="order/123/v2"), "v0/ns/ns1/wt/null/wi/order%2F123%2Fv2/ri/null"),
        (workflow(id="wf#1 &foo=bar"), "v0/ns/ns1/wt/null/wi/wf%231%20%26foo%3Dbar/ri/null"),
        (workflow(id="a~b-c_d.e!*'()"), "v0/ns/ns1/wt/null/wi/a%7Eb-c_d.e!*'()/ri/null"),
        (workflow(id="日本"), "v0/ns/ns1/wt/null/wi/%E6%97%A5%E6%9C%AC/ri/null"),
        (activity(id="act/1#2"), "v0/ns/ns1/at/null/ai/act%2F1%232/ri/null"),
        (workflow(id="x" * 1000), "v0/ns/ns1"),
    ],
)
async def test_each_form_of_a_key(context: StorageDriverStoreContext, prefix: str):
    digest = hashlib.sha256(payload().SerializeToString()).hexdigest()
    key = await key_by(S3StorageDriver(MemoryClient(), "bucket"), context)
    assert key == f"{prefix}/d/sha256/{digest}"


def test_a_key_is_cut_down_to_its_namespace_above_1024_bytes_and_not_before():
    room = 1024 - 64 - len(key_prefix(StorageDriverWorkflowInfo(namespace="n", id="x"))) + 1
    longest = key_prefix(StorageDriverWorkflowInfo(namespace="n", id="x" * room))
    assert len(longest) + 64 == 1024
    assert key_prefix(StorageDriverWorkflowInfo(namespace="n", id="x" * (room + 1))) == (
        "v0/ns/n/d/sha256/"
    )


async def test_a_name_that_is_no_unicode_fails_as_in_the_official_driver():
    context = workflow(id="\ud800")
    for driver in (OfficialDriver, S3StorageDriver):
        with pytest.raises(UnicodeEncodeError):
            await store(driver(MemoryClient(), "bucket"), payload(), context=context)


def test_a_digest_is_found_in_keys_of_the_format_only():
    digest = Digest.of(b"")
    assert digest_in(f"v0/d/sha256/{digest.hex}") == digest
    assert digest_in(f"v0/ns/a/d/sha256/{digest.hex}") == digest
    for other in ("", digest.hex, f"v1/d/sha256/{digest.hex}", f"v0/d/sha256/{digest.hex}\n"):
        assert digest_in(other) is None

"""What tests/conftest.py promises to every test."""

import asyncio
import os

import pytest
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def examples():
    """Where a test puts the examples that it was given; there must be many in the end."""
    seen: set[int] = set()
    yield seen
    assert len(seen) > 10


async def test_a_coroutine_function_runs_alone_on_a_loop():
    await asyncio.sleep(0)
    assert not asyncio.get_running_loop().get_debug()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@given(number=st.integers())
async def test_hypothesis_runs_a_coroutine_function_for_each_example(examples, number):
    await asyncio.sleep(0)
    examples.add(number)


def test_the_settings_of_the_machine_do_not_reach_the_tests():
    settings = {name for name in os.environ if name.startswith("AWS_")}
    assert settings == {
        "AWS_CONFIG_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_SHARED_CREDENTIALS_FILE",
    }
    assert Session().get_credentials() is None

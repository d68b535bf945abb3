import uuid
from collections.abc import Iterator

import pytest

from coatcheck.objects.memory import forget
from coatcheck.runtime.budget import PROCESS_BUDGET


@pytest.fixture
def memory() -> Iterator[str]:
    """The name of a memory store of this test's own."""
    name = f"test-{uuid.uuid4().hex}"
    yield name
    forget(name)


@pytest.fixture(autouse=True)
def _budget_is_given_back() -> Iterator[None]:
    """Whatever a test does, all that was taken of the process's budget is there again after it."""
    free_bytes = PROCESS_BUDGET.free_bytes
    yield
    assert PROCESS_BUDGET.free_bytes == free_bytes

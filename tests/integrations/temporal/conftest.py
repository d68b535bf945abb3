"""One Temporal server for all tests that need a real one."""

from collections.abc import Iterator

import pytest

from coatcheck.testing import TemporalServer, start_temporal


@pytest.fixture(scope="session")
def temporal() -> Iterator[TemporalServer]:
    with start_temporal() as server:
        yield server

"""What the tests of object stores share."""

import pytest

from coatcheck.objects.local import LocalObjects
from coatcheck.runtime.blocking import BLOCKING

# Before anything imports it, so that a failing check shows the values that it compared.
pytest.register_assert_rewrite("coatcheck.testing.objects")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def store(root):
    return LocalObjects(root, BLOCKING)

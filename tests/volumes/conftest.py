"""What the tests of volumes share."""

import pytest

# Before anything imports it, so that a failing check shows the values that it compared.
pytest.register_assert_rewrite("coatcheck.testing.volumes")

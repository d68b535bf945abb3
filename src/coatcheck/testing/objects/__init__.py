"""The contract of object stores: what every `coatcheck.ObjectStore` does, whoever wrote it.

Each check is a coroutine function of an empty store and a witness, which reads and writes behind
the store's back, so that a put and a get cannot hide each other's faults. With pytest:

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    def test_contract(check):
        if check.needs - MY_CAPABILITIES:
            pytest.skip("the server cannot do this")
        asyncio.run(check(MyStore(...), MyWitness(...)))

The checks await only the store and its runtime, so they run on any runtime. They speak by plain
`assert`, so they say nothing under `python -O`. To see the values they compare, call
`pytest.register_assert_rewrite("coatcheck.testing.objects")` before the import.
"""

from coatcheck.testing.objects import keys, listing, reading, writing
from coatcheck.testing.objects.contract import Capability, Check, Witness

CHECKS = [
    check
    for suite in (writing.check, reading.check, listing.check, keys.check)
    for check in suite.checks
]
"""All checks, those first that the others rest on."""

__all__ = ["CHECKS", "Capability", "Check", "Witness"]

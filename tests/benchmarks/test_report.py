"""Tables and targets, made of invented figures."""

from benchmarks.measure import Load, Pair, ratio
from benchmarks.measurement import Measurement
from benchmarks.report import Report, Table, Target
from benchmarks.temporal import KIB, MIB, Figures, report_of


def pair(store: float, retrieve: float, peak_bytes: int | None = None) -> Pair:
    """What one operation took, in microseconds."""
    return Pair(
        Measurement(10, store * 10 / 1e6, 1.0, peak_bytes),
        Measurement(10, retrieve * 10 / 1e6, 1.0, peak_bytes),
    )


def figures(ours: Pair, retrieved_bytes: int | None = None) -> Figures:
    sides = {"official": [pair(2400, 1000)], "coatcheck": [ours], "bare": [pair(200, 100)]}
    peaks = {side: pair(0, 0, retrieved_bytes) for side in ("official", "coatcheck", "store")}
    return Figures(
        cpu={Load(KIB, in_flight=1, count=10, rounds=1): sides},
        requests={KIB: {"official": _methods("HEAD", "PUT"), "coatcheck": _methods("PUT")}},
        memory={64 * MIB: peaks} if retrieved_bytes is not None else {},
    )


def _methods(*store: str) -> dict[str, list[str]]:
    return {"store": list(store), "retrieve": ["GET"]}


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # A slow moment of the machine, the third round, meets both sides and changes nothing.
    assert ratio([10, 12, 90, 11, 8], [1, 2, 9, 1, 1]) == 10


def test_targets_that_are_met_and_missed_are_told_apart() -> None:
    met = report_of(figures(pair(250, 120))).targets
    assert [target.met for target in met] == [True] * 5
    missed = report_of(figures(pair(310, 210))).targets
    assert [target.met for target in missed] == [False, False, False, False, True]


def test_memory_is_judged_by_what_is_held_beside_the_payload() -> None:
    targets = report_of(figures(pair(250, 120), retrieved_bytes=90 * MIB)).targets
    store, driver = (target for target in targets if "memory" in target.name)
    assert (store.met, driver.met) == (False, True)
    assert "26.0 MiB beside the payload" in store.line()


def test_a_system_that_cannot_tell_its_memory_has_no_memory_targets() -> None:
    cannot_tell = figures(pair(250, 120), retrieved_bytes=0)
    nothing = {side: pair(0, 0, None) for side in ("official", "coatcheck", "store")}
    report = report_of(Figures(cannot_tell.cpu, cannot_tell.requests, {64 * MIB: nothing}))
    assert not [target for target in report.targets if "memory" in target.name]
    assert "not known" in report.text()


def test_columns_are_aligned_and_targets_are_marked() -> None:
    table = Table("Title", ["name", "amount"], [["a", "1"], ["long name", "1,000"]])
    assert table.lines() == [
        "Title",
        "  name       amount",
        "  a               1",
        "  long name   1,000",
    ]
    text = Report("R", [table], [Target("t", "2", "1", met=False)], {}).text()
    assert text.endswith("Targets\n  ✗ t: 2 (target: 1)")

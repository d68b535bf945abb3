"""The Temporal set: the SDK's own S3 driver and ours, and the least that such a driver could do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.measure import Load, Pair, cpu_rounds, peaks_of, ratio, requests_of, size_name
from benchmarks.measurement import Measurement
from benchmarks.report import Report, Table, Target
from coatcheck.testing import S3Server

KIB, MIB = 1024, 1024 * 1024
SIZES = (KIB, 256 * KIB, 4 * MIB, 64 * MIB)

BUCKET = "temporal"
DRIVERS = ("official", "coatcheck")

PART_BYTES = 8 * MIB
"""Up to here one request is to do; beyond, coatcheck sends and fetches parts of this size."""
STORE_SHARE, RETRIEVE_SHARE = 8, 5
"""The official driver's CPU at 1 KiB is to be at least so many times ours."""
BARE_RATIO = 1.4
"""Ours at 1 KiB is to be at most so many times that of a bare exchange."""
SPARE_BYTES = 24 * MIB
"""What retrieving 64 MiB may hold beside the payload itself."""

LOADS = (
    Load(KIB, in_flight=1, count=200, rounds=9),
    Load(KIB, in_flight=16, count=320, rounds=9),
    Load(256 * KIB, in_flight=1, count=40, rounds=7),
    Load(256 * KIB, in_flight=16, count=64, rounds=7),
    Load(4 * MIB, in_flight=1, count=6, rounds=5),
    Load(4 * MIB, in_flight=16, count=16, rounds=5),
    Load(64 * MIB, in_flight=1, count=1, rounds=5),
    Load(64 * MIB, in_flight=2, count=2, rounds=3),
)
QUICK_LOADS = (
    Load(KIB, in_flight=16, count=32, rounds=2),
    Load(256 * KIB, in_flight=1, count=4, rounds=2),
    Load(4 * MIB, in_flight=1, count=2, rounds=2),
    Load(64 * MIB, in_flight=1, count=1, rounds=2),
)
QUICK_SIZES = (KIB, 256 * KIB)
"""What a quick run measures unless it is told which size to."""


@dataclass(frozen=True)
class Figures:
    """Everything that was measured, by load or size, then by side."""

    cpu: Mapping[Load, Mapping[str, Sequence[Pair]]]
    requests: Mapping[int, Mapping[str, Mapping[str, list[str]]]]
    memory: Mapping[int, Mapping[str, Pair]]


def measure(
    server: S3Server, loads: Sequence[Load], sizes: Sequence[int], tell: Callable[[str], None]
) -> Report:
    """Measure CPU under `loads`, then requests and memory of one payload of each of `sizes`."""
    server.create_bucket(BUCKET)
    sides = {
        # Only there does it matter what the wire and the signature alone take.
        load: (*DRIVERS, "bare") if load.size_bytes == KIB else DRIVERS
        for load in loads
    }
    cpu = cpu_rounds(server, BUCKET, sides, tell)
    requests: dict[int, dict[str, dict[str, list[str]]]] = {}
    memory: dict[int, dict[str, Pair]] = {}
    for size in sizes:
        tell(f"Requests and memory: {size_name(size)}")
        requests[size] = {side: requests_of(side, server, BUCKET, size) for side in DRIVERS}
        memory[size] = {side: peaks_of(side, server, BUCKET, size) for side in (*DRIVERS, "store")}
    return report_of(Figures(cpu, requests, memory))


def report_of(figures: Figures) -> Report:
    """Put the figures into tables, and hold them against the targets."""
    return Report(
        "Temporal: payloads to S3 and back",
        [_cpu_table(figures), _requests_table(figures), _memory_table(figures)],
        [*_cpu_targets(figures), *_request_targets(figures), *_memory_targets(figures)],
        _data(figures),
    )


def _operations(
    sides: Mapping[str, Sequence[Pair]],
) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Yield each operation, and for each side the CPU that it took in every round."""
    yield "store", {side: [_cpu(pair.store) for pair in pairs] for side, pairs in sides.items()}
    yield (
        "retrieve",
        {side: [_cpu(pair.retrieve) for pair in pairs] for side, pairs in sides.items()},
    )


def _cpu(measurement: Measurement) -> float:
    return measurement.cpu_seconds / measurement.count * 1e6


def _cpu_table(figures: Figures) -> Table:
    rows: list[list[str]] = []
    for load, sides in figures.cpu.items():
        for operation, cpu in _operations(sides):
            row = [size_name(load.size_bytes), str(load.in_flight), operation]
            row += [f"{median(cpu[side]):,.0f}" for side in DRIVERS]
            row.append(f"1/{ratio(cpu['official'], cpu['coatcheck']):.1f}")
            if "bare" in cpu:
                row += [
                    f"{median(cpu['bare']):,.0f}",
                    f"{ratio(cpu['coatcheck'], cpu['bare']):.2f}",
                ]
            else:
                row += ["", ""]
            rows.append(row)
    return Table(
        "CPU of the client's process for one operation, in microseconds",
        ["size", "at once", "operation", *DRIVERS, "ratio", "bare", "to bare"],
        rows,
        left=3,
        note=(
            "Medians over the rounds; a ratio is the median of the rounds' own ratios.\n"
            "bare: hash, sign and exchange, with coatcheck's own signature and wire."
        ),
    )


def _requests_table(figures: Figures) -> Table:
    rows = [
        [
            size_name(size),
            operation,
            *(_summary(sides[side][operation]) for side in DRIVERS),
        ]
        for size, sides in figures.requests.items()
        for operation in ("store", "retrieve")
    ]
    return Table(
        "Requests for one operation, as a server sees them",
        ["size", "operation", *DRIVERS],
        rows,
        left=4,
        note=f"Above {size_name(PART_BYTES)} coatcheck moves parts of that size, side by side.",
    )


def _summary(methods: Sequence[str]) -> str:
    kinds = [f"{methods.count(method)} {method}" for method in dict.fromkeys(methods)]
    return f"{len(methods)}: {', '.join(kinds)}"


def _memory_table(figures: Figures) -> Table:
    rows: list[list[str]] = []
    for size, sides in figures.memory.items():
        for operation in ("store", "retrieve"):
            rows.append(
                [size_name(size), operation, *(_peak(sides[side], operation) for side in sides)]
            )
    return Table(
        "Peak memory of one operation above what was held before, in MiB",
        ["size", "operation", *DRIVERS, "PayloadStore"],
        rows,
        left=2,
        note=(
            "Retrieving: the payload itself is in it. Storing: it was there before, and is not.\n"
            "Both drivers hold a payload twice: protobuf serialises and parses by copying.\n"
            "PayloadStore: coatcheck's own store, which Temporal's protobuf has no part in."
        ),
    )


def _peak(pair: Pair, operation: str) -> str:
    peak_bytes = (pair.store if operation == "store" else pair.retrieve).peak_bytes
    return "not known" if peak_bytes is None else f"{peak_bytes / MIB:,.1f}"


def _cpu_targets(figures: Figures) -> Iterator[Target]:
    shares = {"store": STORE_SHARE, "retrieve": RETRIEVE_SHARE}
    for load, sides in figures.cpu.items():
        if load.size_bytes != KIB:
            continue
        for operation, cpu in _operations(sides):
            name = f"{operation} 1 KiB, {load.in_flight} at once"
            share = ratio(cpu["official"], cpu["coatcheck"])
            limit = shares[operation]
            yield Target(
                f"CPU to {name}",
                f"1/{share:.1f} of the official driver's",
                f"1/{limit} or less",
                share >= limit,
            )
            to_bare = ratio(cpu["coatcheck"], cpu["bare"])
            yield Target(
                f"CPU to {name}",
                f"{to_bare:.2f} times a bare exchange's",
                f"{BARE_RATIO} or less",
                to_bare <= BARE_RATIO,
            )


def _request_targets(figures: Figures) -> Iterator[Target]:
    counts = [
        len(methods)
        for size, sides in figures.requests.items()
        if size <= PART_BYTES
        for methods in sides["coatcheck"].values()
    ]
    if counts:
        yield Target(
            f"requests for one operation, up to {size_name(PART_BYTES)}",
            f"{max(counts)} at most",
            "1",
            max(counts) == 1,
        )


def _memory_targets(figures: Figures) -> Iterator[Target]:
    size = 64 * MIB
    if size not in figures.memory:
        return
    allowances = {
        "store": ("PayloadStore", "the payload", size),
        "coatcheck": ("the driver", "the payload and protobuf's copy of it", 2 * size),
    }
    for side, (name, held, held_bytes) in allowances.items():
        peak_bytes = figures.memory[size][side].retrieve.peak_bytes
        if peak_bytes is not None:
            yield Target(
                f"memory to retrieve 64 MiB by {name}",
                f"{(peak_bytes - held_bytes) / MIB:,.1f} MiB beside {held}",
                f"{size_name(SPARE_BYTES)} or less",
                peak_bytes - held_bytes <= SPARE_BYTES,
            )


def _data(figures: Figures) -> dict[str, object]:
    return {
        "cpu": [
            {**asdict(load), "sides": {side: [asdict(p) for p in sides[side]] for side in sides}}
            for load, sides in figures.cpu.items()
        ],
        "requests": [
            {"size_bytes": size, "sides": sides} for size, sides in figures.requests.items()
        ],
        "memory": [
            {"size_bytes": size, "sides": {side: asdict(pair) for side, pair in sides.items()}}
            for size, sides in figures.memory.items()
        ],
    }

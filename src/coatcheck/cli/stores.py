"""The stores that commands work on, opened for one process that waits for them."""

from coatcheck.cli.meter import Meter, MeteredWire
from coatcheck.errors import ConfigError
from coatcheck.objects.doctor.examination import examine
from coatcheck.objects.doctor.finding import Finding
from coatcheck.objects.doctor.traffic import ObservedWire, Traffic
from coatcheck.objects.opening import Backend, open_on
from coatcheck.payloads.blocking import BlockingPayloadStore
from coatcheck.payloads.store import PayloadStore
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.settings import parse_url
from coatcheck.wire.blocking import BlockingWire

ATTEMPTS_OF_AN_EXAMINATION = 2
"""An examination is about how things are now, not about how they may be after a while."""


def open_store(
    url: str, *, name: str, max_payload_bytes: int, meter: Meter
) -> BlockingPayloadStore:
    """Open the payload store at `url`; `meter` counts what is sent and received. No I/O."""
    if parse_url(url).scheme == "memory":
        raise ConfigError(
            "what is stored in memory:// is gone when the command ends",
            remedy="Use file:///path or s3://bucket",
        )
    backend = Backend(BLOCKING, lambda settings: MeteredWire(BlockingWire(settings), meter))
    objects = open_on(backend, url, {})
    store = PayloadStore(objects, name=name, max_payload_bytes=max_payload_bytes)
    return BlockingPayloadStore(store)


def examine_place(url: str, meter: Meter) -> list[Finding]:
    """Examine the place at `url`; `meter` shows which check is done."""
    traffic = Traffic()
    backend = Backend(
        BLOCKING, lambda settings: ObservedWire(BlockingWire(settings), traffic, BLOCKING)
    )
    objects = open_on(backend, url, {"max_attempts": ATTEMPTS_OF_AN_EXAMINATION})
    meter.begin(f"Examining {objects.location}")
    return BLOCKING.run(
        examine(
            objects,
            traffic,
            lambda finding: meter.begin(f"Examining {objects.location}: {finding.check} done"),
        )
    )

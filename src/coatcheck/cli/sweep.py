"""The command that removes what killed uploads have left."""

import json
from datetime import UTC
from typing import Annotated

import typer

from coatcheck.cli import names
from coatcheck.cli.failures import reported
from coatcheck.cli.jsonlines import JsonLines
from coatcheck.cli.meter import Meter, MeteredWire
from coatcheck.cli.text import Words
from coatcheck.errors import printable
from coatcheck.objects.opening import Backend, open_on
from coatcheck.objects.port import Leftover
from coatcheck.payloads.sweeping import sweep_leftovers
from coatcheck.payloads.uploading import STAGING_PREFIX
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.wire.blocking import BlockingWire

HOUR_SECONDS = 3600.0


def sweep(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", show_default=False, help="The store; else the default one."),
    ] = None,
    hours: Annotated[
        float,
        typer.Option("--older-than-hours", metavar="N", min=1, help="What is younger is left."),
    ] = 24.0,
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="KEY", help="Where unfinished streams lie.")
    ] = STAGING_PREFIX,
    as_json: Annotated[bool, typer.Option("--json", help="Output for programs.")] = False,
) -> None:
    """Remove what uploads that were killed have left: parts that cost money, and no payload.

    Uploads under way look the same until they are done: give more hours than any takes.

    \b
      coatcheck sweep 's3://my-bucket/reports?region=eu-west-1' --older-than-hours 48
    """
    output = JsonLines() if as_json else Words()
    with reported(output):
        with Meter() as meter:
            backend = Backend(BLOCKING, lambda settings: MeteredWire(BlockingWire(settings), meter))
            objects = open_on(backend, url or names.default_url(), {})
            meter.begin(f"Sweeping {objects.location}")
            removed = BLOCKING.run(
                sweep_leftovers(objects, older_than_seconds=hours * HOUR_SECONDS, prefix=prefix)
            )
        for leftover in removed:
            print(_line(leftover, as_json=as_json))
        if not as_json:
            print(f"{len(removed)} removed from {objects.location}")


def _line(leftover: Leftover, *, as_json: bool) -> str:
    begun = leftover.begun.astimezone(UTC).isoformat() if leftover.begun is not None else None
    if as_json:
        return json.dumps({"removed": leftover.kind, "key": leftover.key, "begun": begun})
    return f"{leftover.kind:6}  {begun}  {printable(leftover.key)}"

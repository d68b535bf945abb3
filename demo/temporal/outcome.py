"""What the act found, for people and for programs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from demo.screen import Screen, megabytes, milliseconds
from demo.temporal.history import Reference

SHOWN_SEGMENT = 16
"""Longer segments of a key, such as digests and run ids, are shown by their beginning."""


@dataclass(frozen=True)
class Moved:
    """A payload that went to the bucket and came back, and how long each way took."""

    reference: Reference
    store_seconds: float
    retrieve_seconds: float


@dataclass(frozen=True)
class StoredObject:
    """An object as it lies on the S3 server's disk."""

    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class TemporalOutcome:
    """Everything that the act measured."""

    moved: list[Moved]
    objects: list[StoredObject]
    history_bytes: int
    """The history's size, as Temporal counts it."""
    refusal: str | None
    """Why Temporal refused the workflow's input itself; None if it did not."""
    result_sha256: str
    expected_sha256: str

    @property
    def history_bytes_without(self) -> int:
        """The history's size, had it the payloads in place of the claims. Computed: no server
        would take it."""
        return self.history_bytes + sum(
            item.reference.size_bytes - item.reference.reference_bytes for item in self.moved
        )

    @property
    def problems(self) -> list[str]:
        """What was not as it must be."""
        found: list[str] = []
        if self.result_sha256 != self.expected_sha256:
            found.append("the result is not what the activities compute without Temporal")
        stored = {item.key: item for item in self.objects}
        for moved in self.moved:
            reference = moved.reference
            there = stored.get(reference.key)
            if there is None:
                found.append(f"there is no object for the {reference.role}: {reference.key}")
            elif (there.size_bytes, there.sha256) != (
                reference.size_bytes,
                reference.claim["hash_value"],
            ):
                found.append(f"the object of the {reference.role} is not what its claim says")
        if len(self.moved) != 6:
            found.append(f"{len(self.moved)} payloads were put away, and not all six")
        return found

    def show(self, screen: Screen) -> None:
        """Print the table of payloads, and what it amounts to."""
        screen.say()
        screen.show(self._table(screen.width))
        screen.say()
        total = sum(item.reference.size_bytes for item in self.moved)
        screen.say(
            f"History: {megabytes(self.history_bytes)} with claims;"
            f" {megabytes(self.history_bytes_without)} with the payloads themselves"
            f" ({self.history_bytes_without / self.history_bytes:,.0f} times as much; computed)."
        )
        if self.refusal is not None:
            screen.say(f'Without external storage Temporal refuses it: "{self.refusal}"')
        screen.say(
            f"Bucket: {len(self.objects)} objects,"
            f" {megabytes(sum(item.size_bytes for item in self.objects))}, for {len(self.moved)}"
            f" payloads, {megabytes(total)}: equal payloads of a run are one object"
            " (the input was put away before there was a run)."
        )
        if not self.problems:
            screen.say(
                "Checked: the result is right, and each object on the server's disk has the"
                " digest that its claims say."
            )

    def to_json(self) -> Mapping[str, object]:
        """Return what `show` prints, unshortened."""
        return {
            "payloads": [
                {
                    "role": item.reference.role,
                    "size_bytes": item.reference.size_bytes,
                    "reference_bytes": item.reference.reference_bytes,
                    "claim": item.reference.claim,
                    "store_seconds": item.store_seconds,
                    "retrieve_seconds": item.retrieve_seconds,
                }
                for item in self.moved
            ],
            "objects": [
                {"key": item.key, "size_bytes": item.size_bytes, "sha256": item.sha256}
                for item in self.objects
            ],
            "history_bytes": self.history_bytes,
            "history_bytes_without": self.history_bytes_without,
            "refusal": self.refusal,
            "result_sha256": self.result_sha256,
        }

    def _table(self, width: int) -> Table:
        table = Table(box=None, width=width, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("payload", no_wrap=True)
        table.add_column("size\nin history", justify="right", no_wrap=True)
        table.add_column("claim in the history\nkey in the bucket", no_wrap=True, ratio=1)
        table.add_column("store\nretrieve", justify="right", no_wrap=True)
        first_with: dict[str, str] = {}
        # The other columns and the gaps between them take up 39.
        room = width - 39
        for item in self.moved:
            reference = item.reference
            same = first_with.setdefault(reference.key, reference.role)
            table.add_row(
                reference.role,
                f"{megabytes(reference.size_bytes)}\n{megabytes(reference.reference_bytes)}",
                Text.assemble(
                    _shown_claim(reference.claim, room),
                    "\n",
                    (
                        _shown_key(reference.key, room)
                        if same == reference.role
                        else f"the object of the {same}",
                        "dim",
                    ),
                ),
                f"{milliseconds(item.store_seconds)}\n{milliseconds(item.retrieve_seconds)}",
            )
        return table


def _shown_key(key: str, width: int) -> str:
    """Show the key with its long segments cut short, and without its middle if need be."""
    first, *rest = [
        segment if len(segment) <= SHOWN_SEGMENT else f"{segment[:8]}…"
        for segment in key.split("/")
    ]
    text = "/".join([first, *rest])
    while len(text) > width and rest:
        rest = rest[1:]
        text = "/".join([first, "…", *rest])
    return text


def _shown_claim(claim: Mapping[str, str], width: int) -> str:
    """Show the claim's JSON; its key, which stands in the next line, only by its beginning."""
    fields = {"bucket": claim["bucket"], "hash_value": f"{claim['hash_value'][:8]}…", "key": "v0/…"}
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    text = f"{text[:-1]},…}}"
    return text if len(text) <= width else f"{text[: width - 1]}…"

"""The claim: what travels in a payload's place. Format: docs/spec/claim.md, version 1."""

import json
import re
from dataclasses import dataclass
from typing import ClassVar

from coatcheck.errors import ClaimRejected, ConfigError, printable
from coatcheck.types import Digest

MAX_CLAIM_CHARACTERS = 4096
MAX_SIZE_BYTES = 50 * 1024**4
"""The largest object that S3 takes, 50 TiB."""

STORE_NAME_RULE = (
    "A store's name has 1 to 128 of the characters a-z, 0-9, '.', '_', '-' and '/',"
    " and starts and ends with a letter or digit"
)
_STORE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._/-]{0,126}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Claim:
    """A reference to a payload: the name of the store that has it, its digest and its size.

    The store's name is resolved by the reader's own configuration, so a claim cannot lead
    anybody to a bucket that they did not choose. `str(claim)` is the JSON that `Claim.parse`
    reads, on one line; two claims with the same fields are the same text.

    `parts` is the digest of the tree of part digests (docs/spec/parts.md) that lies beside a
    payload which was stored as a stream of more than one part; None for any other.
    """

    digest: Digest
    size_bytes: int
    store: str = "default"
    parts: Digest | None = None

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not _STORE_NAME.fullmatch(self.store):
            raise ClaimRejected(
                f"{printable(self.store, 80)!r} is not a store's name", remedy=STORE_NAME_RULE
            )
        if not 0 <= self.size_bytes <= MAX_SIZE_BYTES:
            raise ClaimRejected(
                f"a size of {printable(str(self.size_bytes), 40)} bytes",
                remedy="A payload has 0 bytes to 50 TiB",
            )

    def __str__(self) -> str:
        parts = f'"parts":"{self.parts}",' if self.parts is not None else ""
        return (
            f'{{"coatcheck":{self.version},"digest":"{self.digest}",{parts}'
            f'"size":{self.size_bytes},"store":"{self.store}"}}'
        )

    @classmethod
    def parse(cls, text: str | bytes) -> "Claim":
        """Read a claim from its JSON. Raises ClaimRejected, whatever the text; no I/O.

        Strict, because a field that an old reader ignores may be the one that forbids reading:
        unknown versions, unknown, missing and repeated fields are refused.
        """
        if len(text) > MAX_CLAIM_CHARACTERS:
            raise ClaimRejected(
                f"a claim of {len(text)} characters",
                remedy=f"A claim has at most {MAX_CLAIM_CHARACTERS}",
            )
        try:
            # By itself, json would take UTF-16 and UTF-32 for the same claim.
            text = text if isinstance(text, str) else text.decode()
            fields = json.loads(
                text, object_pairs_hook=_without_repeats, parse_constant=_no_constant
            )
        except (ValueError, RecursionError) as error:
            raise ClaimRejected(
                "the claim is not JSON", remedy="Hand over the whole claim, as it was printed"
            ) from error
        if not isinstance(fields, dict) or "coatcheck" not in fields:
            raise ClaimRejected(
                "the JSON is not a claim", remedy='A claim is an object with a field "coatcheck"'
            )
        version = fields["coatcheck"]
        if type(version) is not int or version != cls.version:
            raise ClaimRejected(
                f"the claim has version {printable(repr(version), 40)}",
                remedy=f"This coatcheck reads version {cls.version}: install a newer one",
            )
        return cls._of_fields(fields)

    @classmethod
    def _of_fields(cls, fields: dict[str, object]) -> "Claim":
        expected = {"coatcheck", "digest", "size", "store"}
        given = set(fields) - {"parts"}
        if given != expected:
            missing = ", ".join(sorted(expected - given))
            unknown = printable(", ".join(sorted(given - expected)), 80)
            what = f"lacks {missing}" if missing else f"has unknown fields: {unknown}"
            raise ClaimRejected(f"the claim {what}")
        digest, size, store = fields["digest"], fields["size"], fields["store"]
        if not isinstance(digest, str) or not isinstance(store, str):
            raise ClaimRejected("the claim's digest and store must be strings")
        if type(size) is not int:
            raise ClaimRejected("the claim's size must be a whole number of bytes")
        parts = fields.get("parts")
        if "parts" in fields and not isinstance(parts, str):
            raise ClaimRejected("the claim's parts must be a digest, as a string")
        tree = Digest.parse(parts) if isinstance(parts, str) else None
        return cls(Digest.parse(digest), size, store, tree)


def check_store_name(name: str) -> str:
    """Return `name`, or raise ConfigError if no claim could carry it."""
    if not _STORE_NAME.fullmatch(name):
        raise ConfigError(f"{printable(name, 80)!r} is not a store's name", remedy=STORE_NAME_RULE)
    return name


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is given twice")
    return fields


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")

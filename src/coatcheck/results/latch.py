"""The latch: of many parts that arrive anywhere, one learns that all have.

docs/spec/results.md says what lies in the store, docs/design/decisions/0009 why.
"""

import json
from dataclasses import dataclass
from enum import Enum

from coatcheck.errors import ConfigError, Conflict, NotFound
from coatcheck.objects.port import ObjectStore
from coatcheck.results import scratch
from coatcheck.types import IfAbsent

FAN_IN = 32
"""Marks that a folder of the tree holds at most, so that listing one is cheap."""

CLAIM_PAUSE_SECONDS = 0.5
"""How long a claim must stand before it counts, where the server keeps no conditions: longer than
a write takes from the look that finds no claim to its effect."""

_MARK = b"1"
_RECORD_BYTES = 4096


class Arrival(Enum):
    """What a part learns when it arrives."""

    EARLY = "others are missing, or another part has been told that all are there"
    LAST = "all are there, and this part is the one that acts on it"
    LAST_AGAIN = "as LAST, and it was told so before, but has not reported that it has acted"


@dataclass(frozen=True, slots=True)
class _Record:
    """What the object `done` says."""

    part: int
    fired: bool

    def dump(self) -> bytes:
        return json.dumps({"part": self.part, "fired": self.fired}).encode()

    @classmethod
    def load(cls, body: bytes) -> "_Record":
        fields = json.loads(body)
        return cls(int(fields["part"]), bool(fields["fired"]))


class Latch:
    """Opens when all of `size` parts have arrived; each is a number from 0 to `size` - 1.

    Arriving is idempotent: a part may arrive any number of times, from anywhere, at once or after
    a crash at any point. The part that learns LAST acts, and then calls `close`; if it crashes in
    between, it learns LAST_AGAIN when it arrives again, and nobody else does. So what it does is
    done at least once, and once if no part that arrives last is stopped in the midst of acting or
    arrives twice at the same time.

    Two requests for each part, and two more for every FAN_IN of them. Needs a store that lists
    what was written before; S3 does. Where the server keeps no conditions on writes, parts that
    arrive last at the same moment settle it by a pause, and a part that is stopped for longer
    than that pause in the midst of claiming may act a second time.
    """

    def __init__(self, objects: ObjectStore, prefix: str, size: int) -> None:
        if size < 1:
            raise ConfigError(f"a latch has {size} parts", remedy="Give it one at least")
        self._objects = objects
        self._prefix = prefix
        self._size = size

    async def arrive(self, part: int) -> Arrival:
        """Mark that `part` has arrived, and return what that means. Two requests, as a rule.

        The last of a folder of FAN_IN marks makes two more for the folder above, and so on; the
        last of all makes one or two to claim. Cancelled or failed, it can be called again.
        """
        if not 0 <= part < self._size:
            raise ConfigError(f"there is no part {part} of {self._size}")
        index, count, level = part, self._size, 0
        while True:
            folder = self._folder(level, index // FAN_IN)
            await self._objects.put(f"{folder}{index % FAN_IN}", _MARK)
            first = index // FAN_IN * FAN_IN
            if await self._count(folder) < min(FAN_IN, count - first):
                return Arrival.EARLY
            if count <= FAN_IN:
                return await self._claim(part)
            index, count, level = index // FAN_IN, -(-count // FAN_IN), level + 1

    async def close(self, part: int) -> None:
        """Report that `part`, which learned LAST, has acted; then remove the marks.

        The object `done` stays, so that parts which arrive once more do not open the latch again.
        One request, and one per 1,000 parts.
        """
        await self._objects.put(self._done, _Record(part, fired=True).dump())
        await self._objects.delete_many(self._marks())

    @property
    def _done(self) -> str:
        return f"{self._prefix}done"

    def _folder(self, level: int, number: int) -> str:
        return f"{self._prefix}{level}/{number}/"

    def _marks(self) -> list[str]:
        keys: list[str] = []
        count, level = self._size, 0
        while True:
            keys += [
                f"{self._folder(level, index // FAN_IN)}{index % FAN_IN}" for index in range(count)
            ]
            if count <= FAN_IN:
                return keys
            count, level = -(-count // FAN_IN), level + 1

    async def _count(self, folder: str) -> int:
        marks = 0
        async for _ in self._objects.list(folder):
            marks += 1
        return marks

    async def _claim(self, part: int) -> Arrival:
        if await scratch.compares(self._objects, self._done):
            try:
                await self._objects.put(
                    self._done, _Record(part, fired=False).dump(), condition=IfAbsent()
                )
            except Conflict:
                return self._verdict(part, await self._record())
            return Arrival.LAST
        record = await self._record()
        if record is not None:
            return self._verdict(part, record)
        # Fischer's mutual exclusion: write, wait until every write that was decided upon before
        # has come to pass, and see whose stands.
        await self._objects.put(self._done, _Record(part, fired=False).dump())
        await self._objects.runtime.sleep(CLAIM_PAUSE_SECONDS)
        return Arrival.LAST if await self._record() == _Record(part, fired=False) else Arrival.EARLY

    def _verdict(self, part: int, record: _Record | None) -> Arrival:
        if record is not None and record.part == part and not record.fired:
            return Arrival.LAST_AGAIN
        return Arrival.EARLY

    async def _record(self) -> _Record | None:
        try:
            fetched = await self._objects.get(self._done, limit_bytes=_RECORD_BYTES)
        except NotFound:
            return None
        return _Record.load(fetched.body)

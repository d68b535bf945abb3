"""A draft in a local folder: a temporary file that gets its name when it is complete."""

import threading
from collections.abc import Callable
from functools import partial
from uuid import uuid4

from coatcheck.objects import rules
from coatcheck.objects.files import Files
from coatcheck.runtime.port import Runtime
from coatcheck.types import Condition, Digest, ObjectInfo


class LocalDraft:
    """One file in `.coatcheck-tmp`, written at the offsets of its parts. Implements Draft."""

    def __init__(
        self, files: Files, runtime: Runtime, part_bytes: int, stamp_ns: Callable[[], int]
    ) -> None:
        self._files = files
        self._runtime = runtime
        self._part_bytes = part_bytes
        self._stamp_ns = stamp_ns
        self._name = uuid4().hex
        self._lock = threading.Lock()
        self._is_discarded = False

    async def send_part(self, number: int, body: bytes, *, digest: Digest | None = None) -> None:
        """Write part `number` at its place. Synced when the draft is published, not before."""

        def write() -> None:
            with rules.named("send_part", self._files.location, None):
                rules.check_digest(body, digest)
            with self._lock:
                # Cancelled, a thread goes on with its part: it must not make the file anew.
                if self._is_discarded:
                    return
                file = self._files.open_draft(self._name)
            self._files.write_draft(file, (number - 1) * self._part_bytes, body)

        await self._runtime.offload(write)

    async def publish(self, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Sync the file and give it its name. No bytes are copied."""
        return await self._runtime.offload(
            partial(self._files.publish_draft, self._name, key, self._stamp_ns(), condition)
        )

    async def discard(self) -> None:
        """Remove the file, unless it has got a name."""

        def drop() -> None:
            with self._lock:
                self._is_discarded = True
                self._files.drop_draft(self._name)

        await self._runtime.offload(drop)

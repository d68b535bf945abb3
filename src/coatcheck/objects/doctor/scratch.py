"""The scratch objects of an examination, and their removal."""

import logging
from itertools import count

from coatcheck.errors import CoatcheckError, Forbidden
from coatcheck.objects.doctor.traffic import Traffic
from coatcheck.objects.port import MultipartStore, ObjectStore, Upload
from coatcheck.types import Condition, Digest, Fetched, ObjectInfo

SCRATCH_PREFIX = ".coatcheck-doctor/"
BODY = bytes(range(256)) * 16
BEGIN_SECONDS = 5.0

_log = logging.getLogger("coatcheck.doctor")


class Scratch:
    """Objects under a folder of their own, each remembered until it is removed."""

    def __init__(self, objects: ObjectStore, traffic: Traffic) -> None:
        self.objects = objects
        self.traffic = traffic
        self.folder = f"{SCRATCH_PREFIX}{int(objects.runtime.random() * 2**53):014x}/"
        self.written = ""
        self._numbers = count(1)
        self._keys: set[str] = set()
        self._uploads: list[Upload] = []

    @property
    def is_empty(self) -> bool:
        """Whether everything has been removed."""
        return not self._keys and not self._uploads

    @property
    def absent_key(self) -> str:
        """A key under which there never is an object."""
        return f"{self.folder}0"

    def new_key(self) -> str:
        """Make up a key."""
        return f"{self.folder}{next(self._numbers)}"

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        digest: Digest | None = None,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """Store `body`. Whatever comes of it, there may be an object now, unless it is denied."""
        known = set(self._keys)
        self._keys.add(key)
        try:
            return await self.objects.put(key, body, digest=digest, condition=condition)
        except Forbidden:
            self._keys &= known
            raise

    async def get(self, key: str) -> Fetched:
        """Fetch the whole object."""
        return await self.objects.get(key, limit_bytes=len(BODY))

    async def delete(self, key: str) -> None:
        """Remove the object."""
        await self.objects.delete(key)
        self._keys.remove(key)

    async def begin_upload(self, multipart: MultipartStore) -> Upload:
        """Begin an upload, which is aborted at the latest when everything is removed."""

        async def begin() -> None:
            self._uploads.append(await multipart.begin_upload(self.new_key()))

        # Cancelled now, the server may have begun an upload whose id nobody knows: wait for it.
        await self.objects.runtime.finish(begin, seconds=BEGIN_SECONDS)
        return self._uploads[-1]

    async def abort(self, upload: Upload) -> None:
        """Give up an upload."""
        await upload.abort()
        self._uploads.remove(upload)

    async def clean_up(self) -> None:
        """Remove all there may be, and go on to the next where one cannot be removed.

        A server that does not answer is asked only once.
        """
        for upload in list(self._uploads):
            try:
                await self.abort(upload)
            except CoatcheckError as error:
                _log.info("a scratch upload could not be aborted: %s", error)
        for key in sorted(self._keys):
            try:
                await self.delete(key)
            except CoatcheckError as error:
                _log.info("%s could not be removed: %s", key, error)
                if error.transient:
                    return

"""Many files are deleted: in batches, side by side, while they are being listed."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from coatcheck.errors import CoatcheckError, Diagnostics, printable
from coatcheck.objects.port import ObjectStore
from coatcheck.types import DeleteFailure

BATCH_KEYS = 8000
"""What is held in memory at once: eight requests, which a store sends side by side."""

SHOWN_FAILURES = 5


class NotAllDeleted(CoatcheckError):
    """Some files could not be deleted; the others are.

    `failures` has the key and the server's reason of each; `deleted` says how many are gone.
    """

    code = "not_all_deleted"
    usual_remedy = "See what stands in the way, then delete again: what is gone is no error"

    failures: Sequence[DeleteFailure] = ()
    deleted: int = 0

    @classmethod
    def of(cls, failures: Sequence[DeleteFailure], deleted: int, location: str) -> "NotAllDeleted":
        """Make the error, whose message shows the first few failures."""
        shown = "; ".join(
            f"{printable(failure.key, 200)}: {printable(failure.code, 40)}"
            f" {printable(failure.message, 200)}".rstrip()
            for failure in failures[:SHOWN_FAILURES]
        )
        more = len(failures) - SHOWN_FAILURES
        rest = f"; and {more} more" if more > 0 else ""
        error = cls(
            f"{len(failures)} files could not be deleted, {deleted} were ({shown}{rest})",
            diagnostics=Diagnostics(operation="delete", bucket=location),
        )
        error.failures, error.deleted = tuple(failures), deleted
        return error

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"failures": self.failures, "deleted": self.deleted})


async def delete_all(objects: ObjectStore, keys: AsyncGenerator[str, None]) -> int:
    """Delete the objects under `keys`, and return how many there were.

    One request per 1,000. Raises NotAllDeleted when all was tried; its failures have keys.
    """
    count = 0
    failures: list[DeleteFailure] = []
    batch: list[str] = []
    async with aclosing(keys):
        async for key in keys:
            batch.append(key)
            if len(batch) == BATCH_KEYS:
                failures += await objects.delete_many(batch)
                count, batch = count + len(batch), []
    if batch:
        failures += await objects.delete_many(batch)
        count += len(batch)
    if failures:
        raise NotAllDeleted.of(failures, count - len(failures), objects.location)
    return count

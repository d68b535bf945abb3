"""What the storage raises beside coatcheck's own errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from labox.common.exceptions import NoStorageData

from coatcheck.errors import BucketNotFound, Conflict, NotFound
from coatcheck.integrations.labox.routers import S3Pointer


class NoStorageBucket(NoStorageData):
    """There is no bucket of the pointer's name: a wrong setting, rather than lost data."""


class KeyTaken(Conflict):
    """Other content lies under the key that the router chose. It was left as it is."""

    code = "key_taken"
    usual_remedy = "Let the router make keys of the digest's content_hash, or choose another key"


@contextmanager
def reported(pointer: S3Pointer) -> Iterator[None]:
    """Let what is missing come out of the block as labox knows it."""
    try:
        yield
    except BucketNotFound as error:
        raise NoStorageBucket(f"No bucket found for {pointer}.") from error
    except NotFound as error:
        raise NoStorageData(f"No data found for {pointer}.") from error

"""The buckets of one S3 endpoint, for hosts that choose a bucket for each payload."""

from coatcheck.objects.s3 import S3Objects
from coatcheck.s3.client import S3Client
from coatcheck.s3.endpoint import validate_bucket


class Buckets:
    """Every bucket that one client reaches: one identity, one pool of connections.

    Share it freely between tasks, threads and event loops, as the client itself.
    """

    def __init__(self, client: S3Client) -> None:
        self._client = client

    @property
    def region(self) -> str | None:
        """The region that requests are signed for; None while only a profile may know. No I/O."""
        return self._client.region

    def objects(self, bucket: str) -> S3Objects:
        """Return the objects of `bucket`, a name or an access point's ARN. No I/O.

        Raises ConfigError if there can be no such bucket.
        """
        validate_bucket(bucket)
        return S3Objects(self._client, bucket)

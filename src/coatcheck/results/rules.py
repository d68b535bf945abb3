"""The bucket rule that removes on the server what has expired."""

import math

from coatcheck.settings import check_positive

DAY_SECONDS = 86_400


def lifecycle_rule(prefix: str, *, expires_in_seconds: float) -> dict[str, object]:
    """Return the S3 lifecycle configuration that removes objects under `prefix`, as JSON holds it.

    For `aws s3api put-bucket-lifecycle-configuration`, which takes the place of the bucket's whole
    configuration. S3 counts in whole days, from the midnight (UTC) after an object was written, so
    the rule's days are `expires_in_seconds` rounded up. It also ends multipart uploads
    that were left, after the same days. No I/O.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html
    """
    check_positive("expires_in_seconds", expires_in_seconds)
    days = math.ceil(expires_in_seconds / DAY_SECONDS)
    return {
        "Rules": [
            {
                "ID": f"coatcheck-expire-{days}d",
                "Status": "Enabled",
                "Filter": {"Prefix": prefix},
                "Expiration": {"Days": days},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
            }
        ]
    }

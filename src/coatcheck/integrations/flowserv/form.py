"""The dictionary form of a volume: what flowserv keeps in its configuration and hands around."""

from typing import Any

from flowserv import util

S3_STORE = "s3"
"""What the form's `type` says."""


def S3Bucket(  # noqa: N802 - flowserv's own name for it
    bucket: str,
    prefix: str | None = None,
    identifier: str | None = None,
    *,
    endpoint: str | None = None,
    region: str | None = None,
) -> dict[str, Any]:
    """Return the dictionary form of a volume.

    As `flowserv.volume.s3.S3Bucket`; `endpoint` (a URL) and `region` are left out where they are
    not given, and flowserv's own volume passes over them. Credentials have no place in it: they
    come from the AWS_* variables or from wherever AWS programs find them.
    """
    arguments = [
        util.to_kvp(key="bucket", value=bucket),
        util.to_kvp(key="prefix", value=prefix),
    ]
    for name, value in (("endpoint", endpoint), ("region", region)):
        if value is not None:
            arguments.append(util.to_kvp(key=name, value=value))
    return {"type": S3_STORE, "id": identifier, "args": arguments}

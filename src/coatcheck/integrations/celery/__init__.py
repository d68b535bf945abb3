"""Celery results in S3, or in a folder, that expire, are cheap to poll and never turn back.

    result_backend = "coatcheck+s3://bucket/prefix?region=eu-west-1"

or, with the settings of `celery.backends.s3.S3Backend` unchanged:

    result_backend = "coatcheck.integrations.celery:S3Backend"

docs/how-to/celery.md tells the rest.
"""

from coatcheck.integrations.celery.backend import S3Backend

__all__ = ["S3Backend"]

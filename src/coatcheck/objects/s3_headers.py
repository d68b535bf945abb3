"""The headers that S3 settings put on requests: on reads, on writes, on copies."""

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlencode

from coatcheck.settings import S3Settings
from coatcheck.types import Attributes


def read_headers(settings: S3Settings) -> Mapping[str, str]:
    """Return what goes with every request."""
    headers = dict(settings.extra_headers)
    if settings.expected_bucket_owner is not None:
        headers["x-amz-expected-bucket-owner"] = settings.expected_bucket_owner
    return MappingProxyType(headers)


def write_headers(settings: S3Settings) -> Mapping[str, str]:
    """Return what goes with every request that writes an object."""
    headers = dict(read_headers(settings))
    if settings.server_side_encryption is not None:
        headers["x-amz-server-side-encryption"] = settings.server_side_encryption
    if settings.kms_key_id is not None:
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = settings.kms_key_id
    if settings.storage_class is not None:
        headers["x-amz-storage-class"] = settings.storage_class
    if settings.tags:
        headers["x-amz-tagging"] = urlencode(settings.tags)
    return MappingProxyType(headers)


def copy_headers(settings: S3Settings) -> Mapping[str, str]:
    """Return what goes with every CopyObject."""
    headers = dict(write_headers(settings))
    if settings.tags:
        # Without this, S3 keeps the source's tags and passes over those of the request.
        headers["x-amz-tagging-directive"] = "REPLACE"
    if settings.expected_bucket_owner is not None:
        headers["x-amz-source-expected-bucket-owner"] = settings.expected_bucket_owner
    return MappingProxyType(headers)


def attribute_headers(attributes: Attributes, settings: S3Settings) -> dict[str, str]:
    """Return what an object's own attributes add to the headers of a write."""
    headers: dict[str, str] = {}
    if attributes.content_type is not None:
        headers["content-type"] = attributes.content_type
    if attributes.content_encoding is not None:
        headers["content-encoding"] = attributes.content_encoding
    if attributes.tags:
        headers["x-amz-tagging"] = urlencode({**settings.tags, **attributes.tags})
    return headers


def part_copy_headers(settings: S3Settings) -> Mapping[str, str]:
    """Return what goes with every UploadPartCopy."""
    headers = dict(read_headers(settings))
    if settings.expected_bucket_owner is not None:
        headers["x-amz-source-expected-bucket-owner"] = settings.expected_bucket_owner
    return MappingProxyType(headers)

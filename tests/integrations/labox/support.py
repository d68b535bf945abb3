"""labox's side: what its saver does with a stream, and storages of both implementations."""

import hashlib
import random

from coatcheck.integrations.labox import S3Storage, new_client, simple_s3_router

# After ours, which quiets a deprecation in labox's own imports.
from labox.extra.aws import S3Storage as OriginalStorage  # isort: skip

MIB = 1024 * 1024
PART = 8 * MIB


def content(size, seed=0):
    return random.Random(seed).randbytes(size)


def digest_of(data, content_type="application/octet-stream", encoding=None):
    return {
        "content_encoding": encoding,
        "content_type": content_type,
        "content_hash_algorithm": "sha256",
        "content_hash": hashlib.sha256(data).hexdigest(),
        "content_size": len(data),
    }


def streamed(data, chunk=1_000_003, *, fail_at=None, content_type="application/octet-stream"):
    """Return a stream and its get_digest, as labox's saver makes them."""
    seen = bytearray()
    done = False

    async def stream():
        nonlocal done
        for start in range(0, len(data), chunk):
            if fail_at is not None and start >= fail_at:
                raise KeyError("mine")
            part = data[start : start + chunk]
            seen.extend(part)
            yield part
        done = True

    def get_digest(*, allow_incomplete=False):
        if not done and not allow_incomplete:
            raise ValueError("The stream has not been fully read.")
        return {**digest_of(bytes(seen), content_type), "is_complete": done}

    return stream(), get_digest


def ours(server, bucket, **options):
    client = new_client(
        endpoint_url=server.endpoint,
        region=server.region,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )
    options.setdefault("s3_router", simple_s3_router(bucket, "pre/fix"))
    return S3Storage(s3_client=client, **options)


def theirs(server, bucket):
    return OriginalStorage(
        s3_client=server.witness(), s3_router=simple_s3_router(bucket, "pre/fix")
    )


async def gathered(stream):
    return b"".join([chunk async for chunk in stream])

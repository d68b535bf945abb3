"""labox's content storage in S3: a drop-in for `labox.extra.aws`.

    storage = S3Storage(s3_client=new_client(region="eu-west-1"), s3_router=simple_s3_router("b"))
    registry = Registry(modules=["labox.builtin"], storages=[storage], default_storage=True)

Keywords, class name, pointers, keys and tags are those of labox 0.1.0; each reads what the other
wrote. How to plug in, migrate and roll back: docs/how-to/labox.md.
"""

from coatcheck.integrations.labox.errors import KeyTaken, NoStorageBucket
from coatcheck.integrations.labox.routers import S3Pointer, S3Router, simple_s3_router
from coatcheck.integrations.labox.storage import S3Storage
from coatcheck.opening import open_buckets as new_client

__all__ = [
    "KeyTaken",
    "NoStorageBucket",
    "S3Pointer",
    "S3Router",
    "S3Storage",
    "new_client",
    "simple_s3_router",
]

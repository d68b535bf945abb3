"""flowserv volumes in S3: a drop-in for `flowserv.volume.s3`.

    from coatcheck.integrations.flowserv import S3Bucket, S3File, S3Volume, S3_STORE

Same names, arguments, keys and dictionary forms; each reads what the other stored. flowserv builds
volumes from dictionaries in one function that knows its own classes only: `install()` puts ours in
the place of its S3 volume there. Needs flowserv: `pip install 'coatcheck[flowserv]'`.
"""

from coatcheck.integrations.flowserv.form import S3_STORE, S3Bucket
from coatcheck.integrations.flowserv.installing import install
from coatcheck.integrations.flowserv.volume import S3File, S3Volume

__all__ = ["S3_STORE", "S3Bucket", "S3File", "S3Volume", "install"]

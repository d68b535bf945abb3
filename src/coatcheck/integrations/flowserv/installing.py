"""How flowserv comes to build its S3 volumes with coatcheck."""

import logging

from flowserv.volume import factory

from coatcheck.integrations.flowserv.volume import S3Volume

_log = logging.getLogger("coatcheck.flowserv")


def install() -> None:
    """Let flowserv make an S3Volume of coatcheck of every dictionary form of type "s3".

    flowserv has no registry of volumes: this replaces the class that `flowserv.volume.factory`
    looks up, in this process and in those forked from it afterwards. A process that is spawned
    has to call it too. Again: no effect. Logged, at level INFO, by "coatcheck.flowserv".
    """
    if factory.S3Volume is S3Volume:
        return
    factory.S3Volume = S3Volume
    _log.info('flowserv\'s volumes of type "s3" are those of coatcheck from now on')

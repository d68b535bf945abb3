"""What users and we test with: real servers from wheels, and a server that misbehaves to order."""

from coatcheck.testing.behaviours import (
    Behaviour,
    Connection,
    Reply,
    Request,
    Script,
    forward,
    garbage,
    redirect,
    reply,
    s3_error,
    web_page,
)
from coatcheck.testing.faults import FaultServer
from coatcheck.testing.servers import (
    S3Server,
    ServerError,
    TemporalServer,
    free_port,
    start_moto,
    start_rclone,
    start_temporal,
)

__all__ = [
    "Behaviour",
    "Connection",
    "FaultServer",
    "Reply",
    "Request",
    "S3Server",
    "Script",
    "ServerError",
    "TemporalServer",
    "forward",
    "free_port",
    "garbage",
    "redirect",
    "reply",
    "s3_error",
    "start_moto",
    "start_rclone",
    "start_temporal",
    "web_page",
]

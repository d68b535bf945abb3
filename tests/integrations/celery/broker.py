"""A broker in a folder, for which nothing need be installed: kombu's, but its messages are whole.

kombu 5.7 writes a message under its final name; a worker that looks at that moment takes an empty
file for the message, and the message is lost.
"""

import os
import time
import uuid
from pathlib import Path
from typing import Any

from kombu import transport
from kombu.transport import filesystem
from kombu.utils.json import dumps

SCHEME = "folder"


class Channel(filesystem.Channel):
    """Its messages appear under their names when they are complete."""

    def _put(  # type: ignore[override] # its own two ancestors do not agree
        self, queue: str, payload: Any, **kwargs: Any
    ) -> None:
        name = f"{time.monotonic_ns() // 1000:020}_{uuid.uuid4()}.{queue}.msg"
        part = Path(self.data_folder_out, uuid.uuid4().hex)
        part.write_bytes(dumps(payload).encode())
        os.rename(part, Path(self.data_folder_out, name))


class Transport(filesystem.Transport):
    """kombu's, with that channel."""

    Channel = Channel
    driver_type = SCHEME
    driver_name = SCHEME


transport.TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"

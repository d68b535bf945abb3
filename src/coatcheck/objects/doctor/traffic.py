"""What a server's replies tell beside what was asked for."""

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

from coatcheck.runtime.port import Runtime
from coatcheck.wire.port import Request, Response, Wire


@dataclass(slots=True)
class Traffic:
    """What went over an `ObservedWire`. Without any requests, all of it means nothing.

    endpoint: scheme and host of the last request. first_reply_seconds: from sending the first
    request that was answered until its reply, connecting included. clock_difference_seconds: how
    far the server's clock is ahead of ours, to the second, or None where it does not say.
    """

    endpoint: str = ""
    requests: int = 0
    replies: int = 0
    first_reply_seconds: float = 0.0
    last_status: int = 0
    clock_difference_seconds: float | None = None

    @property
    def is_encrypted(self) -> bool:
        """Whether requests go over TLS."""
        return self.endpoint.startswith("https:")

    @property
    def is_local(self) -> bool:
        """Whether the server is named as one on this machine."""
        host = urlsplit(self.endpoint).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


class ObservedWire:
    """A wire that writes down what it sees in `traffic`."""

    def __init__(self, wire: Wire, traffic: Traffic, runtime: Runtime) -> None:
        self._wire = wire
        self._traffic = traffic
        self._runtime = runtime

    async def exchange(self, request: Request) -> Response:
        """Exchange as the wire does."""
        traffic, runtime = self._traffic, self._runtime
        parts = urlsplit(request.url)
        traffic.endpoint = f"{parts.scheme}://{parts.netloc}"
        traffic.requests += 1
        started = runtime.monotonic()
        response = await self._wire.exchange(request)
        if not traffic.replies:
            traffic.first_reply_seconds = runtime.monotonic() - started
            traffic.clock_difference_seconds = _ahead(response, runtime.wall_clock())
        traffic.replies += 1
        traffic.last_status = response.status
        return response


def _ahead(response: Response, now: float) -> float | None:
    try:
        server_time = parsedate_to_datetime(response.header("date") or "")
    except ValueError:
        return None
    return server_time.timestamp() - now

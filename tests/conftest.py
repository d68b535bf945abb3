"""What all tests share: servers, a clean environment, and coroutine functions as tests."""

import asyncio
import functools
import inspect
import os
import signal
import uuid
from collections.abc import Callable, Coroutine, Iterator

import pytest

from coatcheck.testing import FaultServer, S3Server, start_moto, start_rclone

# A shell that runs this in the background has SIGINT ignored, and all tests of Ctrl-C would fail.
signal.signal(signal.SIGINT, signal.default_int_handler)

MACHINE_SETTINGS = ("AWS_", "COATCHECK_", "RCLONE_", "TEMPORAL_", "BOTO_")
"""Beginnings of the names of environment variables that would change what the tests see."""

NETWORK_SETTINGS = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}
)


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the machine's own keys, profiles, proxies and certificates out of every test."""
    nowhere = tmp_path_factory.mktemp("aws") / "missing"
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            if name.startswith(MACHINE_SETTINGS) or name.upper() in NETWORK_SETTINGS:
                environment.delenv(name)
        environment.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that checks signatures and ignores conditions."""
    with start_rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """An S3 server that honours conditions and ignores signatures."""
    with start_moto() as server:
        yield server


@pytest.fixture
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """The server that `bucket` is on: rclone, or the ones that a test names, as in

    @pytest.mark.parametrize("s3_server", ["rclone", "moto"], indirect=True)
    """
    server: S3Server = request.getfixturevalue(getattr(request, "param", "rclone"))
    return server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """The name of a new, empty bucket on `s3_server`."""
    name = f"test-{uuid.uuid4().hex[:20]}"
    s3_server.create_bucket(name)
    return name


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A server without a script; `play` hands it one."""
    with FaultServer() as server:
        yield server


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Run a coroutine function as a test, on an event loop of its own."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _on_a_loop(pyfuncitem.obj)
    # Hypothesis calls the function under @given itself, once for each example.
    hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    if hypothesis is not None and inspect.iscoroutinefunction(hypothesis.inner_test):
        hypothesis.inner_test = _on_a_loop(hypothesis.inner_test)


def _on_a_loop(test: Callable[..., Coroutine[object, object, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        asyncio.run(test(*args, **kwargs), debug=False)

    return run

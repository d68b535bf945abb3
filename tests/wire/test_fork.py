"""A thousand forks: the child's exchanges work, and the parent's do not notice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.wire.test_tls import tls_server

from coatcheck.testing import Behaviour, FaultServer, Request, reply

PROCESSES = 3
FORKS = {
    # state: (forks, connections that the parent itself needs, plain and with TLS)
    "before_any_io": (250, 0, 0),
    "after_blocking_io": (250, 1, 1),
    "after_async_io": (250, 1, 1),
    "amid_threads": (125, 3, 1),
    "amid_a_loop": (125, 3, 1),
    "amid_a_call": (12, 2, 1),
}


@pytest.mark.parametrize("state", FORKS)
def test_forks(state: str, fault_server: FaultServer, tmp_path: Path) -> None:
    forks, plain_connections, tls_connections = FORKS[state]

    def behave(head: Request) -> Behaviour:
        if head.target == "/release":
            fault_server.release()
        answer = reply(body=b"ok")
        return answer.stalled(after_body_bytes=1) if head.target == "/stalled" else answer

    fault_server.play(behave)
    with tls_server(tmp_path, "127.0.0.1") as tls:
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "tests.wire.forking"),
                *(state, str(forks), fault_server.endpoint, tls.url, tls.ca_bundle),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout) == {"bad": [], "alive": True}, ran.stderr
        assert ran.stderr == ""
        # The parent's connections served it to the end: each child opened its own, and nobody said
        # good-bye on one of them.
        assert tls.goodbyes == 0
        if state == "amid_a_call":
            return
        children = [*range(forks), *range(PROCESSES)]
        with_tls = [number for number in children if number % 10 == 0]
        assert tls.connections == tls_connections + 2 * len(with_tls)
        assert fault_server.connections == plain_connections + 2 * len(children)

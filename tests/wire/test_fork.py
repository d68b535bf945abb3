"""A thousand forks: the child's exchanges work, and the parent's do not notice."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from coatcheck.testing import Behaviour, FaultServer, Request, reply
from coatcheck.wire import blocking
from tests.wire.support import BLOCKING_FACE, fresh_engines, get
from tests.wire.test_tls import tls_server

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


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_waits_until_no_thread_is_inside_libcurl(fault_server: FaultServer) -> None:
    """A lock of OpenSSL's that a thread holds at the fork stays locked in the child for ever."""
    fault_server.play(reply(body=b"ok"))
    with fresh_engines():
        BLOCKING_FACE.exchange(get(fault_server.endpoint))
        [engine] = blocking._idle_engines
        inside, leave, forked = threading.Event(), threading.Event(), threading.Event()

        def be_inside() -> None:
            with engine.lock:
                inside.set()
                leave.wait(5)

        def fork() -> None:
            child = subprocess.Popen([sys.executable, "-c", ""], preexec_fn=bool)
            forked.set()
            child.wait()

        threads = [threading.Thread(target=be_inside), threading.Thread(target=fork)]
        threads[0].start()
        inside.wait()
        threads[1].start()
        assert not forked.wait(0.1)
        leave.set()
        assert forked.wait(5)
        for thread in threads:
            thread.join()
        assert BLOCKING_FACE.exchange(get(fault_server.endpoint)).body == b"ok"

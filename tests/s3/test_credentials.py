import copy
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import botocore.exceptions
import pytest

from coatcheck.errors import CoatcheckError, ConfigError, Forbidden, Unavailable
from coatcheck.s3.credentials import (
    ChainCredentials,
    CredentialSource,
    ExplicitCredentials,
)
from coatcheck.s3.profile import discover_endpoint
from coatcheck.s3.sign import Credentials

HOUR = 3600.0
MARGIN = 600.0


pytestmark = pytest.mark.usefixtures("home")


def write_config(home: Path, text: str) -> None:
    (home / ".aws" / "config").write_text(text)


class Process:
    """A credential_process: a real script, told by a file what to answer, counting its runs."""

    def __init__(self, folder: Path) -> None:
        self._answer = folder / "answer.json"
        self._runs = folder / "runs"
        self._runs.touch()
        script = folder / "process.py"
        script.write_text(
            "import pathlib, sys\n"
            f"open({str(self._runs)!r}, 'a').write('x')\n"
            f"answer = pathlib.Path({str(self._answer)!r})\n"
            "if not answer.exists(): sys.exit('CANARY on standard error')\n"
            "print(answer.read_text())\n"
        )
        self.command = f"{sys.executable} {script}"

    @property
    def runs(self) -> int:
        return self._runs.stat().st_size

    def answers(self, key_id: str, *, expires_at: float | None = None) -> None:
        answer = {"Version": 1, "AccessKeyId": key_id, "SecretAccessKey": "CANARY-secret"}
        if expires_at is not None:
            answer["SessionToken"] = "CANARY-token"
            answer["Expiration"] = datetime.fromtimestamp(expires_at, UTC).isoformat()
        self._answer.write_text(json.dumps(answer))

    def answers_raw(self, text: str) -> None:
        self._answer.write_text(text)

    def fails(self) -> None:
        self._answer.unlink(missing_ok=True)


@pytest.fixture
def process(home):
    process = Process(home)
    write_config(home, f"[default]\ncredential_process = {process.command}\n")
    return process


# --- given by the caller ---


def test_explicit_credentials_are_always_current_and_never_change():
    given = Credentials("AKIA", "secret")
    source: CredentialSource = ExplicitCredentials(given)

    source.invalidate(given)

    assert source.current(0) is given
    assert source.load(4e9) is given


# --- the environment ---


def test_keys_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    source: CredentialSource = ChainCredentials()

    assert source.current(time.time()) is None
    assert source.load(time.time()) == Credentials("AKIA", "secret")
    assert source.current(4e9) == Credentials("AKIA", "secret")


def test_the_session_token_comes_along(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    assert ChainCredentials().load(time.time()) == Credentials("ASIA", "secret", "token")


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"AWS_ACCESS_KEY_ID": "CANARY"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": "CANARY"}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "CANARY", "AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_half_a_pair_in_the_environment_is_named_and_not_passed_over(
    monkeypatch, process, given, missing
):
    process.answers("AKIAPROFILE")
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=f"{missing} is not set") as caught:
        ChainCredentials().load(time.time())
    assert "CANARY" not in str(caught.value)


def test_a_profile_asked_for_passes_over_the_environment(monkeypatch, home):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    write_config(
        home, "[profile mine]\naws_access_key_id = AKIAMINE\naws_secret_access_key = secret\n"
    )

    assert ChainCredentials("mine").load(time.time()).access_key_id == "AKIAMINE"
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert ChainCredentials().load(time.time()).access_key_id == "AKIAENV"


def test_keys_in_the_environment_need_no_botocore(home):
    # A settings file is there, but it does not mention what the environment leaves open.
    write_config(home, "[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = secret\n")
    program = (
        "import sys, time\n"
        "from coatcheck.s3 import credentials as c, profile as p\n"
        "source = c.ChainCredentials()\n"
        "assert source.load(time.time()).access_key_id == 'AKIA'\n"
        "assert p.discover_region() == 'eu-west-1'\n"
        "assert p.discover_endpoint() is None\n"
        "assert p.discover_ca_bundle() is None\n"
        "sys.exit(f'botocore was imported' if 'botocore' in sys.modules else 0)\n"
    )
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")


# --- botocore's chain ---


def test_keys_come_from_a_profile(monkeypatch, home):
    write_config(
        home, "[profile work]\naws_access_key_id = AKIAWORK\naws_secret_access_key = secret\n"
    )
    (home / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = other\n"
    )

    assert ChainCredentials().load(time.time()) == Credentials("AKIADEFAULT", "other")
    assert ChainCredentials("work").load(time.time()) == Credentials("AKIAWORK", "secret")
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert ChainCredentials().load(time.time()) == Credentials("AKIAWORK", "secret")


def test_keys_come_from_a_container_role(monkeypatch):
    expires_at = time.time() + HOUR

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(
                {
                    "AccessKeyId": "ASIAROLE",
                    "SecretAccessKey": "secret",
                    "Token": "token",
                    "Expiration": datetime.fromtimestamp(expires_at, UTC).isoformat(),
                }
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Agent) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            monkeypatch.setenv(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/"
            )
            source = ChainCredentials()
            loaded = source.load(time.time())
        finally:
            server.shutdown()
            thread.join()

    assert loaded == Credentials("ASIAROLE", "secret", "token")
    assert source.current(expires_at - MARGIN - 2) == loaded
    assert source.current(expires_at - MARGIN) is None


def test_no_keys_anywhere_is_a_config_error_that_names_the_ways():
    with pytest.raises(ConfigError, match="No AWS credentials were found") as caught:
        ChainCredentials().load(time.time())
    for way in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "arguments", "role"):
        assert way in caught.value.remedy


def test_a_profile_that_does_not_exist_is_a_config_error():
    with pytest.raises(ConfigError, match="nobody"):
        ChainCredentials("nobody").load(time.time())


def test_half_a_pair_in_a_profile_is_a_config_error(home):
    write_config(home, "[default]\naws_access_key_id = AKIA\n")
    with pytest.raises(ConfigError, match="aws_secret_access_key"):
        ChainCredentials().load(time.time())


def test_a_failing_process_is_forbidden_and_its_output_is_not_quoted(process):
    process.fails()
    with pytest.raises(Forbidden, match="credential_process failed") as caught:
        ChainCredentials().load(time.time())
    assert "CANARY" not in str(caught.value)


# --- expiry ---


def test_keys_that_expire_are_renewed_ten_minutes_before(process):
    now = time.time()
    process.answers("ASIAONE", expires_at=now + HOUR)
    source = ChainCredentials()
    first = source.load(now)
    process.answers("ASIATWO", expires_at=now + 2 * HOUR)
    runs = process.runs

    assert source.current(now + HOUR - MARGIN - 2) == first
    assert source.load(now + HOUR - MARGIN - 2) == first
    assert process.runs == runs
    assert source.current(now + HOUR - MARGIN) is None
    assert source.load(now + HOUR - MARGIN).access_key_id == "ASIATWO"
    assert process.runs > runs


def test_keys_of_a_short_life_are_not_fetched_for_every_request(process):
    now = time.time()
    process.answers("ASIA", expires_at=now + 400)
    source = ChainCredentials()

    loaded = source.load(now)

    assert source.current(now + 290) == loaded
    assert source.current(now + 300) is None


def test_a_failed_renewal_leaves_good_keys_in_use_and_is_tried_again(process, caplog):
    now = time.time()
    process.answers("ASIAONE", expires_at=now + HOUR)
    source = ChainCredentials()
    first = source.load(now)
    process.fails()
    renewal = now + HOUR - MARGIN

    with caplog.at_level(logging.WARNING):
        assert source.load(renewal) == first
    assert "could not be renewed yet" in caplog.text
    assert "CANARY" not in caplog.text
    runs = process.runs
    assert source.load(renewal + 60) == first, "not for every request"
    assert process.runs == runs

    process.answers("ASIATWO", expires_at=now + 2 * HOUR)
    assert source.current(renewal + MARGIN / 2) is None
    assert source.load(renewal + MARGIN / 2).access_key_id == "ASIATWO"


def test_a_failed_renewal_is_raised_once_the_old_keys_are_dead(process):
    now = time.time()
    process.answers("ASIA", expires_at=now + HOUR)
    source = ChainCredentials()
    source.load(now)
    process.fails()

    with pytest.raises(Forbidden):
        source.load(now + HOUR + 1)


def test_keys_without_an_expiry_are_kept(process):
    process.answers("AKIA")
    source = ChainCredentials()

    loaded = source.load(time.time())

    assert source.current(4e9) == loaded
    assert source.load(4e9) == loaded
    assert process.runs == 1


# --- after an ExpiredToken ---


def test_refused_keys_are_fetched_anew(process):
    now = time.time()
    process.answers("ASIAONE", expires_at=now + HOUR)
    source = ChainCredentials()
    refused = source.load(now)
    process.answers("ASIATWO", expires_at=now + HOUR)

    source.invalidate(refused)

    assert source.current(now) is None
    assert source.load(now).access_key_id == "ASIATWO"


def test_refused_keys_from_the_environment_are_read_again(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAONE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    source = ChainCredentials()
    refused = source.load(time.time())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATWO")

    source.invalidate(refused)

    assert source.load(time.time()).access_key_id == "AKIATWO"


def test_a_late_refusal_of_old_keys_does_not_discard_the_new_ones(process):
    now = time.time()
    process.answers("ASIAONE", expires_at=now + HOUR)
    source = ChainCredentials()
    refused = source.load(now)
    process.answers("ASIATWO", expires_at=now + HOUR)
    source.invalidate(refused)
    renewed = source.load(now)

    source.invalidate(refused)

    assert source.current(now) == renewed


# --- threads and forks ---


def side_by_side(count: int, work: Callable[[], object]) -> list[object]:
    """Run `work` in `count` threads at once; an error is a result."""
    start = threading.Barrier(count)

    def run(_: int) -> object:
        start.wait()
        try:
            return work()
        except CoatcheckError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_many_threads_lead_to_one_load(process):
    process.answers("AKIA")
    source = ChainCredentials()
    now = time.time()

    loaded = side_by_side(64, lambda: source.load(now))

    assert {id(each) for each in loaded} == {id(source.current(now))}
    assert process.runs == 1


def test_many_threads_share_one_failure(process):
    process.fails()
    source = ChainCredentials()
    now = time.time()

    failures = side_by_side(64, lambda: source.load(now))

    assert {type(failure) for failure in failures} == {Forbidden}
    assert len({id(failure) for failure in failures}) == 64, "each thread adds its own context"
    assert process.runs == 1


def test_a_failure_is_not_remembered_for_those_who_ask_later(process):
    process.fails()
    source = ChainCredentials()
    now = time.time()
    with pytest.raises(Forbidden):
        source.load(now)
    process.answers("AKIA")

    assert source.load(now + HOUR).access_key_id == "AKIA"


class SlowProcess:
    """A credential_process that says when it runs, then waits to be let go: two named pipes."""

    def __init__(self, folder: Path) -> None:
        self.running, self.go = folder / "running", folder / "go"
        os.mkfifo(self.running)
        os.mkfifo(self.go)
        answer = {"Version": 1, "AccessKeyId": "AKIASLOW", "SecretAccessKey": "secret"}
        script = folder / "slow.py"
        script.write_text(
            f"open({str(self.running)!r}, 'w').write('running')\n"
            f"open({str(self.go)!r}).read()\n"
            f"print({json.dumps(answer)!r})\n"
        )
        self.command = f"{sys.executable} {script}"


@pytest.fixture
def slow_process(home):
    return SlowProcess(home)


def test_good_keys_stay_in_use_while_another_thread_renews_them(home, process, slow_process):
    now = time.time()
    process.answers("ASIAOLD", expires_at=now + HOUR)
    source = ChainCredentials()
    old = source.load(now)
    write_config(home, f"[default]\ncredential_process = {slow_process.command}\n")
    renewal = now + HOUR - MARGIN

    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(source.load, renewal)
        slow_process.running.read_text()
        try:
            assert source.load(renewal) == old
        finally:
            slow_process.go.write_text("go")
    assert renewing.result().access_key_id == "AKIASLOW"
    assert source.current(renewal) == renewing.result()


def test_a_child_forked_during_a_load_can_load(home, slow_process):
    # In a program of its own: forking a process with threads is what is tried here, and newer
    # Pythons warn about it.
    write_config(home, f"[default]\ncredential_process = {slow_process.command}\n")
    program = f"""
import os, sys, threading, time
from coatcheck.s3.credentials import ChainCredentials

source = ChainCredentials()
thread = threading.Thread(target=source.load, args=(time.time(),))
thread.start()
open({str(slow_process.running)!r}).read()  # the thread is inside its load now
child = os.fork()
if child == 0:
    os.environ["AWS_ACCESS_KEY_ID"] = "AKIACHILD"
    os.environ["AWS_SECRET_ACCESS_KEY"] = "secret"
    loaded = []
    worker = threading.Thread(target=lambda: loaded.append(source.load(time.time())), daemon=True)
    worker.start()
    worker.join(20)
    os._exit(0 if loaded and loaded[0].access_key_id == "AKIACHILD" else 1)
_, status = os.waitpid(child, 0)
open({str(slow_process.go)!r}, "w").write("go")
thread.join()
parent = source.current(time.time())
assert parent is not None and parent.access_key_id == "AKIASLOW", parent
sys.exit(os.waitstatus_to_exitcode(status))
"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


# --- secrets ---


def broken_process_output(process: Process) -> None:
    process.answers_raw('{"Version": 1, "SecretAccessKey": "CANARY-secret"')


def process_output_without_key_id(process: Process) -> None:
    process.answers_raw('{"Version": 1, "SecretAccessKey": "CANARY-secret"}')


def process_output_of_unknown_version(process: Process) -> None:
    process.answers_raw('{"Version": "CANARY", "SecretAccessKey": "CANARY-secret"}')


def keys_with_a_line_break(process: Process) -> None:
    process.answers_raw(
        json.dumps({"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "CANARY-secret\n"})
    )


def expiry_that_is_no_date(process: Process) -> None:
    process.answers_raw(
        json.dumps(
            {
                "Version": 1,
                "AccessKeyId": "AKIA",
                "SecretAccessKey": "CANARY-secret",
                "SessionToken": "CANARY-token",
                "Expiration": "CANARY",
            }
        )
    )


@pytest.mark.parametrize(
    "go_wrong",
    [
        Process.fails,
        broken_process_output,
        process_output_without_key_id,
        process_output_of_unknown_version,
        keys_with_a_line_break,
        expiry_that_is_no_date,
    ],
)
def test_no_error_shows_a_secret(process, go_wrong):
    go_wrong(process)
    with pytest.raises(CoatcheckError) as caught:
        ChainCredentials().load(time.time())
    assert caught.value.remedy
    assert_harmless(caught.value)


def test_a_settings_file_that_cannot_be_parsed_is_named_and_not_quoted(home):
    (home / ".aws" / "credentials").write_text("aws_secret_access_key = CANARY\nendpoint_url\n")

    for ask in (lambda: ChainCredentials().load(time.time()), discover_endpoint):
        with pytest.raises(ConfigError, match="credentials cannot be parsed") as caught:
            ask()
        assert_harmless(caught.value)


def test_wrong_keys_in_the_environment_are_not_shown(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY\n")
    with pytest.raises(ConfigError, match="secret access key") as caught:
        ChainCredentials().load(time.time())
    assert_harmless(caught.value)


def assert_harmless(error: CoatcheckError) -> None:
    """Neither the text, nor the pickle, nor a traceback with variables holds a canary."""
    whole_traceback = "".join(
        traceback.TracebackException.from_exception(error, capture_locals=True).format()
    )
    assert "_fetch" in whole_traceback or "_profile_setting" in whole_traceback
    for shown in (str(error), repr(error), repr(pickle.dumps(error)), whole_traceback):
        assert "CANARY" not in shown


def test_sources_show_and_pickle_where_to_look_and_never_the_keys(process):
    now = time.time()
    process.answers("ASIA", expires_at=now + HOUR)
    source = ChainCredentials("default")
    source.load(now)
    explicit = ExplicitCredentials(Credentials("AKIA", "CANARY", "CANARY"))

    for shown in (repr(source), repr(pickle.dumps(source)), repr(explicit), str(explicit)):
        assert "CANARY" not in shown
    assert repr(source) == "ChainCredentials(profile='default')"
    for remade in (pickle.loads(pickle.dumps(source)), copy.deepcopy(source)):
        assert repr(remade) == repr(source)
        assert remade.current(now) is None
        assert remade.load(now) == source.current(now)


# --- botocore's errors ---


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            botocore.exceptions.EndpointConnectionError(endpoint_url="https://sts"),
            Unavailable,
            "https://sts",
        ),
        (
            botocore.exceptions.ReadTimeoutError(endpoint_url="https://sts"),
            Unavailable,
            "https://sts",
        ),
        (
            botocore.exceptions.ClientError(
                {"Error": {"Code": "AccessDenied", "Message": "not you"}}, "AssumeRole"
            ),
            Forbidden,
            "not you",
        ),
        (
            botocore.exceptions.ClientError(
                {"Error": {"Code": "Throttling", "Message": "slow down"}}, "AssumeRole"
            ),
            Unavailable,
            "slow down",
        ),
        (
            botocore.exceptions.ClientError(
                {
                    "Error": {"Code": "Oops", "Message": "broken"},
                    "ResponseMetadata": {
                        "HTTPStatusCode": 503,
                        "HTTPHeaders": {},
                        "HostId": "",
                        "RequestId": "",
                        "RetryAttempts": 0,
                    },
                },
                "AssumeRole",
            ),
            Unavailable,
            "broken",
        ),
        (botocore.exceptions.UnauthorizedSSOTokenError(), Forbidden, "aws sso login"),
        (botocore.exceptions.InvalidConfigError(error_msg="bad"), ConfigError, "bad"),
        (FileNotFoundError(2, "CANARY"), ConfigError, "FileNotFoundError"),
    ],
)
def test_what_botocore_raises_becomes_an_error_that_says_what_to_do(monkeypatch, error, kind, text):
    def fail(*_):
        raise error

    monkeypatch.setattr("botocore.session.Session.get_credentials", fail)
    with pytest.raises(kind, match=text) as caught:
        ChainCredentials().load(time.time())
    assert caught.value.remedy
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert "CANARY" not in str(caught.value)

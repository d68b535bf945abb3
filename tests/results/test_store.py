"""The result store: one request where one will do, and no write that another never saw."""

import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coatcheck.blocking import open_results
from coatcheck.errors import ConfigError, Forbidden, NotFound, TooLarge, Unavailable
from coatcheck.objects.memory import SHELVES, Held, forget
from coatcheck.objects.port import ObjectStore
from coatcheck.results import store as store_module
from coatcheck.results.rules import lifecycle_rule
from coatcheck.results.store import ResultStore
from coatcheck.results.sweep import BATCH_OBJECTS, Swept
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.testing import FaultServer, S3Server, forward, s3_error
from coatcheck.types import IfAbsent, IfMatch
from tests.results.support import Lax, Watched, on_server, open_blocking

PROBE = ["put", "put", "put", "delete"]


@dataclass
class Memory:
    """A watched store in memory, whose objects a test can make older."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.objects = Watched(open_blocking(f"memory://{self.name}"))

    def age(self, key: str, seconds: float) -> None:
        shelf = SHELVES[self.name]
        held = shelf[key]
        written = held.last_modified - timedelta(seconds=seconds)
        shelf[key] = Held(held.body, held.etag, written)

    def keys(self) -> list[str]:
        return sorted(SHELVES.get(self.name, {}))


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    yield made
    forget(made.name)


def results_in(memory: Memory, **settings: Any) -> ResultStore:
    return ResultStore(memory.objects, **settings)


def test_a_record_comes_back_with_its_version_and_age(memory: Memory) -> None:
    results = results_in(memory)
    BLOCKING.run(results.put("k", b"body"))
    memory.age("k", 60)
    found = BLOCKING.run(results.get("k"))
    assert found is not None
    assert found.body == b"body"
    assert found.etag is not None
    assert found.age_seconds == pytest.approx(60, abs=30)
    assert memory.objects.requests == ["put", "get"]


def test_a_missing_record_is_none_and_one_request(memory: Memory) -> None:
    assert BLOCKING.run(results_in(memory).get("k")) is None
    assert memory.objects.requests == ["get"]


def test_records_come_in_the_order_of_their_keys(memory: Memory) -> None:
    results = results_in(memory)
    for number in range(100):
        BLOCKING.run(results.put(str(number), str(number).encode()))
    keys = [str(number) for number in range(99, -1, -3)] + ["missing"]
    found = BLOCKING.run(results.get_many(keys))
    assert [result and result.body.decode() for result in found] == [*keys[:-1], None]


def test_an_expired_record_reads_as_missing_and_can_be_written_anew(memory: Memory) -> None:
    results = results_in(memory, expires_in_seconds=100)
    BLOCKING.run(results.put("k", b"old"))
    memory.age("k", 101)
    assert BLOCKING.run(results.get("k")) is None
    given: list[bytes | None] = []

    def decide(present: bytes | None) -> bytes:
        given.append(present)
        return b"new"

    BLOCKING.run(results.update("k", decide))
    found = BLOCKING.run(results.get("k"))
    assert given == [None]
    assert found is not None
    assert found.body == b"new"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_life_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="expires_in_seconds"):
        open_results("memory://x", expires_in_seconds=seconds)


def test_a_record_over_the_limit_is_not_read(memory: Memory) -> None:
    results = results_in(memory, max_result_bytes=10)
    BLOCKING.run(results.put("k", b"x" * 11))
    with pytest.raises(TooLarge):
        BLOCKING.run(results.get("k"))


def test_an_update_reads_and_writes_once(memory: Memory) -> None:
    results = results_in(memory)
    BLOCKING.run(results.update("k", lambda present: b"1"))
    assert memory.objects.requests == [*PROBE, "get", "put"]
    memory.objects.requests.clear()
    BLOCKING.run(results.update("k", lambda present: (present or b"") + b"2"))
    assert memory.objects.requests == ["get", "put"]
    assert SHELVES[memory.name]["k"].body == b"12"


def test_an_update_that_decides_against_it_writes_nothing(memory: Memory) -> None:
    results = results_in(memory)
    BLOCKING.run(results.put("k", b"1"))
    assert BLOCKING.run(results.update("k", lambda present: None)) is None
    assert memory.objects.requests == ["put", *PROBE, "get"]


def test_a_right_guess_saves_the_reading(memory: Memory) -> None:
    results = results_in(memory)
    first = BLOCKING.run(results.update("k", lambda present: b"1", guess=IfAbsent()))
    assert first is not None
    BLOCKING.run(results.update("k", lambda present: b"2", guess=IfMatch(first)))
    assert memory.objects.requests == [*PROBE, "put", "put"]


@pytest.mark.parametrize("guess", [IfAbsent(), IfMatch('"another"')])
def test_a_wrong_guess_is_followed_by_a_look(memory: Memory, guess: Any) -> None:
    results = results_in(memory)
    BLOCKING.run(results.put("k", b"1"))
    BLOCKING.run(results.update("k", lambda present: (present or b"?") + b"2", guess=guess))
    assert SHELVES[memory.name]["k"].body == b"12"
    assert memory.objects.requests == ["put", *PROBE, "put", "get", "put"]


def test_a_writer_that_comes_between_is_not_lost(memory: Memory) -> None:
    results = results_in(memory)
    BLOCKING.run(results.put("k", b"1"))
    between = iter([b"other"])

    def interfere(name: str, key: str) -> None:
        if name == "get" and (body := next(between, None)):
            BLOCKING.run(open_blocking(f"memory://{memory.name}").put("k", body))

    memory.objects.after = interfere
    BLOCKING.run(results.update("k", lambda present: (present or b"") + b"+mine"))
    assert SHELVES[memory.name]["k"].body == b"other+mine"


def test_a_writer_that_always_comes_between_ends_the_update(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_ROUNDS", 3)
    results = results_in(memory)
    other = open_blocking(f"memory://{memory.name}")

    def interfere(name: str, key: str) -> None:
        if name == "get":
            BLOCKING.run(other.put("k", b"again"))

    BLOCKING.run(other.put("k", b"first"))
    memory.objects.after = interfere
    with pytest.raises(Unavailable, match="3 times in a row"):
        BLOCKING.run(results.update("k", lambda present: b"mine"))


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_no_increment_is_lost_between_threads(s3_server: S3Server, bucket: str) -> None:
    def work() -> None:
        results = ResultStore(on_server(s3_server, bucket))
        for _ in range(5):
            BLOCKING.run(results.update("k", lambda p: str(int(p or 0) + 1).encode()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = BLOCKING.run(ResultStore(on_server(s3_server, bucket)).get("k"))
    assert found is not None
    assert found.body == b"20"


@pytest.mark.parametrize(
    ("s3_server", "keeps"), [("moto", True), ("rclone", False)], indirect=["s3_server"]
)
def test_finds_out_what_the_server_does_and_leaves_nothing(
    s3_server: S3Server, bucket: str, keeps: bool
) -> None:
    watched = Watched(on_server(s3_server, bucket))
    results = ResultStore(watched)
    BLOCKING.run(results.update("k", lambda present: b"1", guess=IfAbsent()))
    assert watched.requests[-1 if keeps else -2 :] == (["put"] if keeps else ["get", "put"])
    witness = s3_server.witness()
    assert [o["Key"] for o in witness.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]
    witness.close()


def test_age_is_told_by_the_server_on_s3(rclone: S3Server, bucket: str) -> None:
    results = ResultStore(on_server(rclone, bucket), expires_in_seconds=100)
    BLOCKING.run(results.put("k", b"1"))
    found = BLOCKING.run(results.get("k"))
    assert found is not None
    assert found.age_seconds is not None
    assert 0 <= found.age_seconds < 30


# 403 for what is missing: what S3 says to those who may not list the bucket.


def _without_listing(upstream: S3Server, writable: bool = True) -> Any:
    """Answer as S3 does to a role that may get, put and delete objects, and not list them."""
    known: set[str] = set()

    def choose(request: Any) -> Any:
        if request.method == "PUT":
            if not writable:
                return s3_error(403, "AccessDenied")
            known.add(request.target)
        if request.method == "GET" and request.target not in known:
            return s3_error(403, "AccessDenied")
        return forward(upstream.endpoint)

    return choose


def _through(fault_server: FaultServer, server: S3Server, bucket: str) -> ObjectStore:
    return open_blocking(
        f"s3://{bucket}?endpoint={fault_server.endpoint}&region={server.region}",
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )


def test_403_reads_as_missing_after_one_probe(
    rclone: S3Server, bucket: str, fault_server: FaultServer
) -> None:
    fault_server.play(_without_listing(rclone))
    results = ResultStore(_through(fault_server, rclone, bucket))
    assert BLOCKING.run(results.get("first")) is None
    assert BLOCKING.run(results.get("second")) is None
    methods = [request.method for request in fault_server.requests]
    assert methods == ["GET", "PUT", "GET", "DELETE", "GET"]


def test_403_stays_forbidden_for_who_may_not_read(
    rclone: S3Server, bucket: str, fault_server: FaultServer
) -> None:
    fault_server.play(
        lambda request: (
            s3_error(403, "AccessDenied") if request.method == "GET" else forward(rclone.endpoint)
        )
    )
    results = ResultStore(_through(fault_server, rclone, bucket))
    with pytest.raises(Forbidden):
        BLOCKING.run(results.get("k"))


def test_403_stays_forbidden_for_who_cannot_try_and_says_what_to_grant(
    rclone: S3Server, bucket: str, fault_server: FaultServer
) -> None:
    fault_server.play(_without_listing(rclone, writable=False))
    results = ResultStore(_through(fault_server, rclone, bucket))
    with pytest.raises(Forbidden, match="s3:ListBucket"):
        BLOCKING.run(results.get("k"))


def test_a_wrong_key_pair_never_reads_as_missing(
    rclone: S3Server, bucket: str, fault_server: FaultServer
) -> None:
    fault_server.play(s3_error(403, "SignatureDoesNotMatch"))
    results = ResultStore(_through(fault_server, rclone, bucket))
    with pytest.raises(Forbidden):
        BLOCKING.run(results.get("k"))
    assert len(fault_server.requests) == 1


def test_a_missing_bucket_is_an_error(rclone: S3Server) -> None:
    results = ResultStore(on_server(rclone, "no-such-bucket"), expires_in_seconds=1)
    for work in (
        lambda: results.get("k"),
        lambda: results.update("k", lambda present: b"1"),
        lambda: results.delete_expired(),
    ):
        with pytest.raises(NotFound, match="bucket"):
            BLOCKING.run(work())


# Sweeping.


def fill(memory: Memory, count: int, prefix: str = "r/") -> list[str]:
    keys = [f"{prefix}{number:05}" for number in range(count)]
    shelf = SHELVES.setdefault(memory.name, {})
    for key in keys:
        shelf[key] = Held(b"x", f'"{key}"', datetime.now(UTC))
    return keys


def test_a_sweep_removes_what_has_expired_under_the_prefix(memory: Memory) -> None:
    results = results_in(memory, expires_in_seconds=100)
    keys = fill(memory, 5) + fill(memory, 2, "other/")
    for key in (keys[0], keys[3], keys[5]):
        memory.age(key, 200)
    swept = BLOCKING.run(results.delete_expired("r/"))
    assert swept == Swept(examined=5, deleted=2, last_key=keys[4])
    assert memory.keys() == sorted({*keys} - {keys[0], keys[3]})


def test_a_sweep_can_be_interrupted_and_gone_on_with(memory: Memory) -> None:
    results = results_in(memory, expires_in_seconds=100)
    keys = fill(memory, BATCH_OBJECTS + 10)
    for key in keys:
        memory.age(key, 200)
    seen: list[Swept] = []

    class Enough(Exception):
        pass

    def stop(swept: Swept) -> None:
        seen.append(swept)
        raise Enough

    with pytest.raises(Enough):
        BLOCKING.run(results.delete_expired("r/", progress=stop))
    assert seen == [Swept(BATCH_OBJECTS, BATCH_OBJECTS, 0, keys[BATCH_OBJECTS - 1])]
    rest = BLOCKING.run(results.delete_expired("r/", after=seen[0].last_key))
    assert (rest.examined, rest.deleted) == (10, 10)
    assert memory.keys() == []


def test_a_sweep_spares_what_is_written_anew_after_the_listing(memory: Memory) -> None:
    """With the very same content, which S3's ETag could not tell apart."""
    results = results_in(memory, expires_in_seconds=100)
    (key,) = fill(memory, 1)
    memory.age(key, 200)
    other = open_blocking(f"memory://{memory.name}")

    def rewrite(name: str, prefix: str) -> None:
        if name == "list":
            BLOCKING.run(other.put(key, b"x"))

    memory.objects.after = rewrite
    swept = BLOCKING.run(results.delete_expired("r/"))
    assert (swept.deleted, swept.spared) == (0, 1)
    assert memory.keys() == [key]


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_a_server_that_compares_spares_what_is_written_at_the_last_moment(
    s3_server: S3Server, bucket: str
) -> None:
    objects = on_server(s3_server, bucket)
    watched = Watched(objects)
    BLOCKING.run(objects.put("r/k", b"old"))

    def rewrite(name: str, key: str) -> None:
        if (name, key) == ("head", "r/k"):
            BLOCKING.run(objects.put("r/k", b"new"))

    watched.after = rewrite
    time.sleep(2)  # S3 tells times in whole seconds
    results = ResultStore(watched, expires_in_seconds=0.5)
    swept = BLOCKING.run(results.delete_expired("r/"))
    assert (swept.examined, swept.deleted, swept.spared) == (1, 0, 1)
    assert BLOCKING.run(objects.get("r/k", limit_bytes=10)).body == b"new"


def test_a_sweep_refuses_clocks_that_differ(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = results_in(memory, expires_in_seconds=100)
    (key,) = fill(memory, 1)
    memory.age(key, 200)
    server = datetime.now(UTC) + timedelta(seconds=400)

    def advance(name: str, touched: str) -> None:
        if name == "put":
            shelf = SHELVES[memory.name]
            shelf[touched] = Held(shelf[touched].body, shelf[touched].etag, server)

    memory.objects.after = advance
    with pytest.raises(ConfigError, match="clock"):
        BLOCKING.run(results.delete_expired("r/"))
    assert memory.keys() == [key]


def test_where_nothing_expires_a_sweep_asks_nothing(memory: Memory) -> None:
    assert BLOCKING.run(results_in(memory).delete_expired()) == Swept()
    assert memory.objects.requests == []


def test_lax_stores_are_known_as_such(memory: Memory) -> None:
    lax = Watched(Lax(open_blocking(f"memory://{memory.name}")))
    BLOCKING.run(ResultStore(lax).update("k", lambda present: b"1", guess=IfAbsent()))
    assert lax.requests[-2:] == ["get", "put"]


@pytest.mark.parametrize(("seconds", "days"), [(1, 1), (86_400, 1), (86_401, 2), (864_000, 10)])
def test_the_bucket_rule_keeps_records_no_shorter(seconds: float, days: int) -> None:
    configuration: Any = lifecycle_rule("p/", expires_in_seconds=seconds)
    (rule,) = configuration["Rules"]
    assert rule["Expiration"] == {"Days": days}
    assert rule["Filter"] == {"Prefix": "p/"}


def test_a_server_takes_the_bucket_rule(moto: S3Server) -> None:
    moto.create_bucket(name := f"test-{uuid.uuid4().hex[:20]}")
    witness = moto.witness()
    rule: Any = lifecycle_rule("results/", expires_in_seconds=86_400)
    witness.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=rule)
    stored = witness.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert stored[0]["Filter"] == {"Prefix": "results/"}
    witness.close()

"""The backend as Celery calls it: beside Celery's own, on the same bucket, request by request."""

import pickle
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import celery
import pytest
from celery import Celery, states
from celery.app.task import Context
from celery.backends.s3 import S3Backend as OriginalBackend
from celery.exceptions import ImproperlyConfigured
from celery.result import GroupResult

from coatcheck.blocking import open_objects
from coatcheck.errors import Forbidden, NotFound, Throttled, Unavailable
from coatcheck.integrations.celery import S3Backend
from coatcheck.testing import FaultServer, S3Server, forward, reply
from tests.integrations.celery.workers import on_s3

SERIALIZERS = ["json", "pickle", "yaml", "msgpack"]


def application(**settings: Any) -> Celery:
    app = Celery("tests", set_as_current=False)
    app.conf.update(broker_url="memory://", **settings)
    app.conf.accept_content = [*SERIALIZERS, "application/x-python-serialize"]
    return app


def backend_on(server: S3Server, bucket: str, **settings: Any) -> S3Backend:
    app = application(**on_s3(server, bucket, **settings))
    assert isinstance(app.backend, S3Backend)
    return app.backend


def original_on(server: S3Server, bucket: str, **settings: Any) -> OriginalBackend:
    return OriginalBackend(app=application(**on_s3(server, bucket, **settings)))


@pytest.fixture
def memory() -> S3Backend:
    app = application(result_backend=f"coatcheck+memory://{uuid.uuid4().hex}")
    assert isinstance(app.backend, S3Backend)
    return app.backend


def new_id() -> str:
    return str(uuid.uuid4())


def request_of(task_id: str, **fields: Any) -> Context:
    return Context(id=task_id, delivery_info={"redelivered": False}, **fields)


class Traffic:
    """The requests that a backend made, as methods, told by the wire."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from coatcheck.wire.blocking import BlockingWire

        self.methods: list[str] = []
        exchange = BlockingWire.exchange

        async def counted(wire: BlockingWire, request: Any) -> Any:
            self.methods.append(request.method)
            return await exchange(wire, request)

        monkeypatch.setattr(BlockingWire, "exchange", counted)

    def of(self, work: Callable[[], object]) -> list[str]:
        self.methods.clear()
        work()
        return self.methods.copy()


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    return Traffic(monkeypatch)


@pytest.fixture
def warm(moto: S3Server) -> S3Backend:
    """A backend on a strict server that has found out so already."""
    moto.create_bucket(name := f"test-{uuid.uuid4().hex[:20]}")
    backend = backend_on(moto, name)
    backend.store_result(new_id(), 1, states.SUCCESS)
    return backend


# What the original stores, ours reads; what ours stores, the original reads.


@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("base", [None, "results", "results/"])
def test_each_reads_what_the_other_wrote(
    rclone: S3Server, bucket: str, serializer: str, base: str | None
) -> None:
    settings = {"result_serializer": serializer, "s3_base_path": base}
    ours = backend_on(rclone, bucket, **settings)
    original = original_on(rclone, bucket, **settings)
    for writer, reader in ((ours, original), (original, ours)):
        done, failed, gid = new_id(), new_id(), new_id()
        writer.store_result(done, {"answer": [42, "\N{SNOWMAN}"]}, states.SUCCESS)
        writer.store_result(failed, ValueError("on purpose"), states.FAILURE, traceback="here")
        assert reader.get_result(done) == {"answer": [42, "\N{SNOWMAN}"]}
        assert reader.get_state(failed) == states.FAILURE
        assert repr(reader.get_result(failed)) == "ValueError('on purpose')"
        assert reader.get_traceback(failed) == "here"
        writer.save_group(gid, GroupResult(gid, [writer.app.AsyncResult(done)]))
        restored = reader.restore_group(gid)
        assert [result.id for result in restored] == [done]
        reader.forget(done)
        assert writer.get_state(done) == states.PENDING


def test_writes_the_very_keys_and_bodies_of_the_original(moto: S3Server) -> None:
    moto.create_bucket(bucket := f"test-{uuid.uuid4().hex[:20]}")
    settings = {
        "s3_base_path": "/prefix",
        "result_backend_transport_options": {"global_keyprefix": "app"},
    }
    witness = moto.witness()
    stored = []
    for backend in (
        original_on(moto, bucket, **settings),
        backend_on(moto, bucket, **settings),
    ):
        backend.set(backend.get_key_for_task("an-id"), '{"a": 1}')
        backend.save_group("a-group", GroupResult("a-group", []))
        listing = witness.list_objects_v2(Bucket=bucket)["Contents"]
        stored.append(
            {
                o["Key"]: witness.get_object(Bucket=bucket, Key=o["Key"])["Body"].read()
                for o in listing
            }
        )
        for key in stored[-1]:
            witness.delete_object(Bucket=bucket, Key=key)
    witness.close()
    assert stored[0] == stored[1]
    assert set(stored[1]) == {
        "/prefixapp_celery-task-meta-an-id",
        "/prefixapp_celery-taskset-meta-a-group",
    }


@pytest.mark.parametrize(
    ("url", "settings", "key"),
    [
        ("coatcheck+s3://{bucket}/in/url", {"s3_base_path": "set"}, "in/url/celery-task-meta-x"),
        ("coatcheck+s3://{bucket}", {"s3_base_path": "set"}, "setcelery-task-meta-x"),
        ("coatcheck+s3://{bucket}/a%20b/", {}, "a b/celery-task-meta-x"),
        (
            "coatcheck",
            {"s3_bucket": "{bucket}", "s3_base_path": "/set/", "s3_base_path_join": True},
            "set/celery-task-meta-x",
        ),
        ("coatcheck://", {"s3_bucket": "{bucket}"}, "celery-task-meta-x"),
        (
            "coatcheck.integrations.celery:S3Backend+s3://{bucket}/p",
            {"s3_bucket": "nobucket"},
            "p/celery-task-meta-x",
        ),
    ],
)
def test_where_a_result_goes(
    rclone: S3Server, bucket: str, url: str, settings: dict[str, Any], key: str
) -> None:
    """The URL wins over the settings, part by part."""
    filled = {
        name: value.format(bucket=bucket) if isinstance(value, str) else value
        for name, value in settings.items()
    }
    configuration = {**on_s3(rclone, bucket), "s3_bucket": None, **filled}
    configuration["result_backend"] = url.format(bucket=bucket)
    backend = application(**configuration).backend
    backend.store_result("x", 1, states.SUCCESS)
    witness = rclone.witness()
    assert [o["Key"] for o in witness.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    witness.close()


def test_options_in_the_url_win_over_the_settings(rclone: S3Server, bucket: str) -> None:
    configuration = {
        **on_s3(rclone, "nobucket"),
        "s3_endpoint_url": "http://127.0.0.1:9",
        "result_backend": f"coatcheck+{rclone.url(bucket, 'p')}",
    }
    backend = application(**configuration).backend
    backend.store_result("x", 1, states.SUCCESS)
    assert backend.get_result("x") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"result_backend": "coatcheck+s3://"}, "Missing bucket name: set s3_bucket"),
        ({"result_backend": "coatcheck"}, "Missing bucket name: set s3_bucket"),
        ({"result_backend": "coatcheck://bucket/prefix"}, r"write coatcheck\+s3://bucket/prefix"),
        ({"result_backend": "coatcheck+s3://b1b/p?regoin=x"}, "Did you mean region"),
        ({"result_backend": "coatcheck+s3://AKIA:hidden@b1b/p"}, "holds credentials"),
        ({"result_backend": "coatcheck+s3://b1b/?secret_access_key=hidden"}, "never go into a URL"),
        ({"result_backend": "coatcheck+ftp://b1b/p"}, "scheme 'ftp'"),
        ({"result_backend": "coatcheck+s3://b1b/p"}, "Missing aws s3 creds: set s3_access_key_id"),
        (
            {"result_backend": "coatcheck+s3://b1b", "s3_access_key_id": "AKIA"},
            "without secret_access_key",
        ),
        ({"result_backend": "coatcheck+s3://b1b?profile=missing"}, "profile"),
        (
            {"result_backend": "coatcheck+s3://b1b", "s3_options": {"tgas": {}}},
            "Did you mean tags",
        ),
    ],
)
def test_bad_settings_fail_at_start_and_say_what_to_do(
    settings: dict[str, Any], message: str
) -> None:
    app = application(**settings)
    with pytest.raises(ImproperlyConfigured, match=message) as caught:
        app.backend  # noqa: B018 - making the backend is what fails
    assert "hidden" not in str(caught.value)


@pytest.mark.skipif(celery.VERSION < (5, 7), reason="came with Celery 5.7")
def test_an_unknown_compression_fails_at_start() -> None:
    with pytest.raises(ImproperlyConfigured, match="Unknown compression method"):
        in_memory(result_compression="no-such")


def test_makes_no_request_when_it_is_made(traffic: Traffic, rclone: S3Server, bucket: str) -> None:
    assert traffic.of(lambda: backend_on(rclone, bucket)) == []


def test_its_uri_holds_no_secret(rclone: S3Server, bucket: str) -> None:
    backend = backend_on(rclone, bucket, s3_base_path="p")
    assert backend.as_uri() == backend.as_uri(include_password=True)
    assert backend.as_uri() == f"coatcheck+s3://{bucket}/p"
    shown = f"{backend!r} {vars(backend)!r} {backend._results!r}"
    assert rclone.secret_access_key not in shown


@pytest.mark.parametrize("form", ["url", "settings"])
def test_survives_pickle(rclone: S3Server, bucket: str, form: str) -> None:
    settings = on_s3(rclone, bucket)
    if form == "url":
        settings["result_backend"] = f"coatcheck+s3://{bucket}/prefix"
    app = application(**settings)
    app.set_current()
    app.backend.store_result("x", 1, states.SUCCESS)
    copied = pickle.loads(pickle.dumps(app.backend))
    assert isinstance(copied, S3Backend)
    assert copied.get_result("x") == 1
    assert copied.as_uri() == app.backend.as_uri()


# How many requests.


def test_a_poll_is_one_request(warm: S3Backend, traffic: Traffic) -> None:
    missing, there = new_id(), new_id()
    warm.store_result(there, 1, states.SUCCESS)
    assert traffic.of(lambda: warm.get_state(missing)) == ["GET"]
    assert traffic.of(lambda: warm.get_state(there)) == ["GET"]


def test_a_first_state_is_one_request(warm: S3Backend, traffic: Traffic) -> None:
    request = request_of(new_id())
    store = traffic.of(lambda: warm.store_result(request.id, 1, states.SUCCESS, request=request))
    assert store == ["PUT"]


def test_states_that_follow_each_other_are_one_request_each(
    warm: S3Backend, traffic: Traffic
) -> None:
    request = request_of(new_id())
    for state in (states.STARTED, "PROGRESS", "PROGRESS", states.SUCCESS):
        assert traffic.of(partial(warm.store_result, request.id, {}, state, request=request)) == [
            "PUT"
        ]
    assert warm.get_state(request.id) == states.SUCCESS


@pytest.mark.parametrize(
    "request_of_task",
    [None, request_of("x", retries=1), Context(id="x", delivery_info={"redelivered": True})],
)
def test_where_something_may_be_there_it_looks_first(
    warm: S3Backend, traffic: Traffic, request_of_task: Context | None
) -> None:
    task_id = new_id()
    for expected in (["GET", "PUT"], ["GET"]):
        assert (
            traffic.of(
                lambda: warm.store_result(task_id, 1, states.SUCCESS, request=request_of_task)
            )
            == expected
        )


def test_a_success_that_came_first_costs_two_requests_and_stays(
    warm: S3Backend, traffic: Traffic
) -> None:
    request = request_of(new_id())
    warm.store_result(request.id, "first", states.SUCCESS, request=request)
    again = traffic.of(
        lambda: warm.store_result(request.id, "second", states.SUCCESS, request=request)
    )
    assert again == ["PUT", "GET"]
    assert warm.get_result(request.id) == "first"


def test_a_lax_server_costs_two_requests(rclone: S3Server, bucket: str, traffic: Traffic) -> None:
    backend = backend_on(rclone, bucket)
    backend.store_result(new_id(), 1, states.SUCCESS)
    request = request_of(new_id())
    for state in (states.STARTED, states.SUCCESS):
        assert traffic.of(partial(backend.store_result, request.id, 1, state, request=request)) == [
            "GET",
            "PUT",
        ]


def test_many_results_are_fetched_side_by_side(
    rclone: S3Server, bucket: str, fault_server: FaultServer
) -> None:
    """The server answers none of 50 requests before it has them all."""
    direct = backend_on(rclone, bucket)
    ids = [new_id() for _ in range(50)]
    for task_id in ids:
        direct.store_result(task_id, task_id, states.SUCCESS)
    fault_server.play(forward(rclone.endpoint).stalled())
    backend = backend_on(rclone, bucket, s3_endpoint_url=fault_server.endpoint)
    found: dict[str, Any] = {}
    joining = threading.Thread(target=lambda: found.update(backend.get_many(ids, timeout=30)))
    joining.start()
    fault_server.wait_for_requests(50)
    fault_server.release()
    joining.join()
    assert {task_id: meta["result"] for task_id, meta in found.items()} == {i: i for i in ids}


# SUCCESS stays.


@pytest.mark.parametrize("s3_server", ["moto", "rclone"], indirect=True)
@pytest.mark.parametrize("later", [states.FAILURE, states.STARTED, states.RETRY, "PROGRESS"])
def test_success_is_never_overwritten(s3_server: S3Server, bucket: str, later: str) -> None:
    backend = backend_on(s3_server, bucket)
    request = request_of(new_id())
    backend.store_result(request.id, "right", states.SUCCESS, request=request)
    late = ValueError("late") if later in states.EXCEPTION_STATES else {"late": True}
    for known in (request, None):
        backend.store_result(request.id, late, later, request=known)
    assert backend.get_result(request.id) == "right"


def test_writers_at_once_never_turn_success_back(moto: S3Server) -> None:
    moto.create_bucket(bucket := f"test-{uuid.uuid4().hex[:20]}")
    task_ids = [new_id() for _ in range(5)]

    def work(number: int) -> None:
        backend = backend_on(moto, bucket)
        for task_id in task_ids:
            if number == 3:
                backend.store_result(task_id, "right", states.SUCCESS, request=request_of(task_id))
            else:
                backend.store_result(
                    task_id, ValueError("late"), states.FAILURE, request=request_of(task_id)
                )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    backend = backend_on(moto, bucket)
    assert [backend.get_result(task_id) for task_id in task_ids] == ["right"] * 5


# Expiry.


class Clock:
    """Time that the test moves on, for records in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from coatcheck.runtime.blocking import BlockingRuntime

        self.now = 1_800_000_000.0
        monkeypatch.setattr(BlockingRuntime, "wall_clock", lambda runtime: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def in_memory(**settings: Any) -> S3Backend:
    url = f"coatcheck+memory://{uuid.uuid4().hex}"
    backend = application(result_backend=url, **settings).backend
    assert isinstance(backend, S3Backend)
    return backend


@pytest.mark.parametrize("expires", [100, 100.0, timedelta(seconds=100)])
def test_an_expired_result_reads_as_missing(clock: Clock, expires: Any) -> None:
    backend = in_memory(result_expires=expires)
    backend.store_result("x", 1, states.SUCCESS)
    backend.save_group("g", GroupResult("g", []))
    clock.now += 100
    assert backend.get_result("x") == 1
    assert backend.restore_group("g") is not None
    clock.now += 0.01
    assert backend.get_state("x") == states.PENDING
    assert backend.restore_group("g") is None
    assert backend.mget([backend.get_key_for_task("x")]) == [None]


def test_without_expiry_a_result_stays(clock: Clock) -> None:
    backend = in_memory(result_expires=0)
    backend.store_result("x", 1, states.SUCCESS)
    clock.now += 10**9
    backend.cleanup()
    assert backend.get_result("x") == 1


def test_failures_and_parts_of_chords_have_lives_of_their_own(clock: Clock) -> None:
    backend = in_memory(result_expires=100, result_failure_expires=50, result_chord_expires=200)
    backend.store_result("ok", 1, states.SUCCESS)
    backend.store_result("bad", ValueError(), states.FAILURE)
    backend.store_result("part", 1, states.SUCCESS, request=request_of("part", group="g"))
    alive = []
    for moment in (0, 51, 101, 201):
        clock.now = 1_800_000_000.0 + moment
        alive.append([i for i in ("ok", "bad", "part") if backend.get_state(i) != "PENDING"])
    assert alive == [["ok", "bad", "part"], ["ok", "part"], ["part"], []]


def test_cleanup_removes_what_has_expired_and_nothing_else(
    clock: Clock,
) -> None:
    backend = in_memory(result_expires=100)
    objects = open_objects(backend.as_uri().removeprefix("coatcheck+"))
    objects.put("somebody-elses", b"1")
    backend.store_result("old", 1, states.SUCCESS)
    backend.save_group("old", GroupResult("old", []))
    backend.apply_chord(("gid", [backend.app.AsyncResult("a")]), backend.app.signature("x"))
    clock.now += 60
    backend.store_result("young", 1, states.SUCCESS)
    clock.now += 60
    backend.cleanup()
    assert [info.key for info in objects.list()] == ["celery-task-meta-young", "somebody-elses"]


# Serializers and compression.


@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_every_serializer_with_and_without_compression(
    serializer: str, compression: str | None
) -> None:
    backend = in_memory(result_serializer=serializer, result_compression=compression)
    backend.store_result("x", {"a": ["b"] * 200}, states.SUCCESS)
    backend.store_result("y", ValueError("bad"), states.FAILURE)
    assert backend.get_result("x") == {"a": ["b"] * 200}
    assert repr(backend.get_result("y")) == "ValueError('bad')"
    assert [m["result"] for _, m in backend.get_many(["x"])] == [{"a": ["b"] * 200}]


def test_what_was_stored_before_compression_stays_readable() -> None:
    plain = in_memory()
    plain.store_result("x", "a" * 100, states.SUCCESS)
    packed = application(result_backend=plain.as_uri(), result_compression="gzip").backend
    packed.store_result("y", "b" * 100, states.SUCCESS)
    for backend in (plain, packed):
        assert [backend.get_result(i) for i in "xy"] == ["a" * 100, "b" * 100]


def test_extended_results(memory: S3Backend) -> None:
    memory.app.conf.result_extended = True
    request = request_of("x", task="a.task", args=[1], kwargs={"k": 2}, hostname="w@h", retries=0)
    memory.store_result("x", 1, states.SUCCESS, request=request)
    meta = memory.get_task_meta("x")
    assert (meta["name"], meta["args"], meta["kwargs"], meta["worker"]) == (
        "a.task",
        [1],
        {"k": 2},
        "w@h",
    )


def test_keys_may_be_bytes_or_text(memory: S3Backend) -> None:
    memory.set(b"celery-task-meta-x", "text")
    memory.set("celery-task-meta-y", b"bytes")
    assert memory.get("celery-task-meta-x") == "text"
    assert memory.get(b"celery-task-meta-y") == "bytes"
    memory.delete(b"celery-task-meta-x")
    memory.delete("celery-task-meta-never-there")
    assert memory.mget(["celery-task-meta-x", b"celery-task-meta-y"]) == [None, "bytes"]


def test_a_local_folder_holds_results(tmp_path: Any) -> None:
    backend = application(result_backend=f"coatcheck+file://{tmp_path}/results").backend
    backend.store_result("x", 1, states.SUCCESS)
    assert backend.get_result("x") == 1
    assert (tmp_path / "results" / "celery-task-meta-x").is_file()


# Errors.


def test_tells_transient_from_permanent(memory: S3Backend) -> None:
    assert memory.exception_safe_to_retry(Unavailable("down"))
    assert memory.exception_safe_to_retry(Throttled("slow"))
    assert not memory.exception_safe_to_retry(Forbidden("no"))
    assert not memory.exception_safe_to_retry(ValueError())


def test_a_missing_bucket_is_an_error_and_not_a_pending_task(rclone: S3Server) -> None:
    backend = backend_on(rclone, "no-such-bucket")
    with pytest.raises(NotFound, match="no-such-bucket"):
        backend.get_state("x")
    with pytest.raises(NotFound, match="no-such-bucket"):
        backend.store_result("x", 1, states.SUCCESS, request=request_of("x"))


def test_always_retry_gets_through_a_server_that_comes_back(
    rclone: S3Server, bucket: str, fault_server: FaultServer
) -> None:
    answers = iter([reply(500)] * 3)
    fault_server.play(lambda request: next(answers, forward(rclone.endpoint)))
    settings = {"s3_endpoint_url": fault_server.endpoint, "s3_options": {"max_attempts": 1}}
    once = backend_on(rclone, bucket, **settings)
    with pytest.raises(Unavailable):
        once.get_state("x")
    backend = backend_on(rclone, bucket, **settings, result_backend_always_retry=True)
    assert backend.get_state("x") == states.PENDING
    backend.store_result("x", 1, states.SUCCESS)
    assert backend.get_result("x") == 1

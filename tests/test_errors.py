"""The error tree: what callers may catch, what messages say, and that errors cross processes."""

import copy
import inspect
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest

from coatcheck import errors
from coatcheck.errors import CoatcheckError, Diagnostics, printable

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, CoatcheckError)
]
SPECIFIC = [kind for kind in KINDS if kind is not CoatcheckError]
EVERYWHERE = Diagnostics("PutObject", "b", "k", 503, "SlowDown", "R1", 3, 1.25)


@pytest.mark.parametrize(
    ("kind", "built_in"),
    [
        (errors.NotFound, FileNotFoundError),
        (errors.BucketNotFound, FileNotFoundError),
        (errors.Forbidden, PermissionError),
        (errors.Corrupt, ValueError),
        (errors.TooLarge, ValueError),
        (errors.ClaimRejected, ValueError),
        (errors.ConfigError, ValueError),
        (errors.Unavailable, ConnectionError),
        (errors.DeadlineExceeded, TimeoutError),
    ],
)
def test_programs_that_catch_pythons_own_errors_catch_ours(kind, built_in):
    with pytest.raises(built_in) as caught:
        raise kind("it failed")
    assert isinstance(caught.value, CoatcheckError)


def test_a_missing_bucket_is_also_a_missing_object():
    assert issubclass(errors.BucketNotFound, errors.NotFound)


@pytest.mark.parametrize("kind", SPECIFIC)
def test_no_other_built_in_base_makes_a_handler_catch_too_much(kind):
    broad = {OSError, ValueError} & set(kind.__mro__)
    assert len(broad) <= 1, "an error must not be caught by two unrelated handlers"


def test_each_error_has_a_stable_code_of_its_own():
    assert {kind.__name__: kind.code for kind in KINDS} == {
        "BucketNotFound": "bucket_not_found",
        "ClaimRejected": "claim_rejected",
        "CoatcheckError": "error",
        "ConfigError": "config",
        "Conflict": "conflict",
        "Corrupt": "corrupt",
        "DeadlineExceeded": "deadline_exceeded",
        "Expired": "expired",
        "Forbidden": "forbidden",
        "NotFound": "not_found",
        "TooLarge": "too_large",
        "Throttled": "throttled",
        "Unavailable": "unavailable",
        "Unsupported": "unsupported",
    }


def test_only_what_time_can_mend_is_transient():
    assert {kind for kind in KINDS if kind.transient} == {
        errors.Throttled,
        errors.Unavailable,
        errors.DeadlineExceeded,
    }


@pytest.mark.parametrize("kind", SPECIFIC)
def test_every_message_ends_with_what_to_do(kind):
    assert kind.usual_remedy
    assert str(kind("it failed")).endswith(kind.usual_remedy)
    assert str(kind("it failed", remedy="Mend it")) == "it failed. Mend it"
    told = kind("it failed", remedy="Mend it", diagnostics=Diagnostics(bucket="b", key="k"))
    assert str(told) == "it failed [bucket=b, key=k]. Mend it"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_keeps_kind_text_and_attributes(kind, protocol):
    error = kind("it failed", remedy="Mend it", diagnostics=EVERYWHERE)
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is kind
    assert str(back) == str(error)
    assert (back.message, back.remedy, back.diagnostics) == ("it failed", "Mend it", EVERYWHERE)
    assert back.args == error.args


@pytest.mark.parametrize("kind", KINDS)
def test_copying_keeps_everything_too(kind):
    error = kind("it failed", diagnostics=EVERYWHERE)
    assert str(copy.copy(error)) == str(copy.deepcopy(error)) == str(error)


def _raise(kind: type[CoatcheckError]) -> None:
    raise kind("it failed", remedy="Mend it", diagnostics=EVERYWHERE)


def test_errors_come_back_from_another_process_as_themselves():
    # Celery, Temporal and multiprocessing carry errors this way.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        for kind in KINDS:
            caught = pool.submit(_raise, kind).exception()
            assert type(caught) is kind
            assert isinstance(caught, CoatcheckError)
            assert caught.diagnostics == EVERYWHERE
            assert caught.remedy == "Mend it"


def test_having_fills_only_what_is_unknown():
    error = errors.NotFound("gone", diagnostics=Diagnostics(key="first"))
    assert error.having(key="second", bucket="b") is error
    assert error.diagnostics == Diagnostics(key="first", bucket="b")


def test_having_refuses_what_diagnostics_do_not_have():
    with pytest.raises(AttributeError):
        errors.NotFound("gone").having(secret="x")


def test_diagnostics_show_what_is_known_in_a_fixed_order():
    assert str(EVERYWHERE) == (
        "operation=PutObject, bucket=b, key=k, status=503, server_code=SlowDown, request_id=R1,"
        " attempts=3, elapsed_seconds=1.25"
    )
    assert str(Diagnostics()) == ""
    assert str(Diagnostics(attempts=0)) == "attempts=0"


@pytest.mark.parametrize(
    "hostile", ["a\nERROR forged", "a\rb", "a\x1b[31mred", "a\x00b", "a\u2028b", "a\u202eb"]
)
def test_a_key_cannot_forge_a_line_of_the_log(hostile):
    shown = str(errors.NotFound("gone", diagnostics=Diagnostics(key=hostile)))
    assert shown.isprintable()
    assert len(shown.splitlines()) == 1


def test_printable_leaves_readable_text_alone_and_cuts_long_text():
    assert printable("käse.txt") == "käse.txt"
    assert printable("x" * 10, 4) == "xxxx..."
    assert printable("a\nb") == "a\\nb"
    assert printable("\udc80").isprintable()

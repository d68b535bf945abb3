"""What users import: complete, documented, and the same with and without await."""

import ast
import importlib
import inspect
import pkgutil
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from types import ModuleType

import pytest

import coatcheck
from coatcheck import blocking, opening
from coatcheck.blocking import (
    BlockingObjectStore,
    BlockingPayloadStore,
    BlockingResultStore,
    BlockingVolume,
    BlockingVolumeFile,
)
from coatcheck.objects.local import LocalObjects
from coatcheck.objects.memory import MemoryObjects
from coatcheck.objects.port import MultipartStore, ObjectStore
from coatcheck.objects.s3 import S3Objects
from coatcheck.payloads.blocking_reader import BlockingPayloadReader
from coatcheck.payloads.reader import PayloadReader
from coatcheck.payloads.store import PayloadStore
from coatcheck.results.blocking import BlockingLatch
from coatcheck.results.latch import Latch
from coatcheck.results.store import ResultStore
from coatcheck.volumes.file import VolumeFile
from coatcheck.volumes.volume import Volume

OF_THE_ASYNC_FACE_ALONE = {"runtime"}
"""What a store waits on concerns those who build on its coroutines, and nobody else."""

FACES = [
    (PayloadStore, BlockingPayloadStore),
    (ObjectStore, BlockingObjectStore),
    (ResultStore, BlockingResultStore),
    (Latch, BlockingLatch),
    (Volume, BlockingVolume),
    (VolumeFile, BlockingVolumeFile),
]


def _module_names() -> list[str]:
    found = pkgutil.walk_packages(coatcheck.__path__, "coatcheck.")
    # Integrations and the command line need packages of their own, and are tested with them.
    extras = ("coatcheck.integrations", "coatcheck.cli")
    return ["coatcheck", *(module.name for module in found if not module.name.startswith(extras))]


def _public(module: ModuleType) -> list[tuple[str, object]]:
    return [
        (name, value)
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _members(kind: type) -> dict[str, object]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


def test_all_lists_every_public_name_once_in_order_and_each_exists():
    listed = list(coatcheck.__all__)
    assert listed == sorted(set(listed))
    assert all(hasattr(coatcheck, name) for name in listed)
    seen_by_type_checkers = {
        alias.name
        for node in ast.walk(ast.parse(inspect.getsource(coatcheck)))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("coatcheck")
        for alias in node.names
    }
    assert seen_by_type_checkers == set(listed)


def test_what_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = coatcheck.no_such_name


def test_blocking_all_exists_too():
    assert all(hasattr(blocking, name) for name in blocking.__all__)


def test_every_error_can_be_imported_from_the_root():
    errors = {
        name
        for name, kind in inspect.getmembers(coatcheck.errors, inspect.isclass)
        if issubclass(kind, coatcheck.CoatcheckError)
    }
    assert errors <= set(coatcheck.__all__)


@pytest.mark.parametrize("module_name", _module_names())
def test_everything_public_says_what_it_is(module_name):
    module = importlib.import_module(module_name)
    assert module.__doc__
    silent = []
    for name, value in _public(module):
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        # Dataclasses without a docstring get their signature as one.
        if not value.__doc__ or value.__doc__.startswith(f"{name}("):
            silent.append(name)
        if inspect.isclass(value):
            silent += [
                f"{name}.{member}"
                for member, method in _members(value).items()
                if (inspect.isfunction(method) or isinstance(method, property | classmethod))
                and not method.__doc__
            ]
    assert silent == []


def _blocking_form(annotation: object) -> object:
    """What a blocking method must return where the async one has this annotation."""
    if annotation is PayloadReader:
        return BlockingPayloadReader
    if typing.get_origin(annotation) is AsyncGenerator:
        yielded, sent = typing.get_args(annotation)
        return Generator[yielded, sent, None]  # type: ignore[valid-type] # made at run time
    if typing.get_origin(annotation) is AsyncIterator:
        (item,) = typing.get_args(annotation)
        return Iterator[_blocking_form(item)]  # type: ignore[misc] # made at run time
    if typing.get_origin(annotation) is tuple:
        items = typing.get_args(annotation)
        return tuple[tuple(_blocking_form(item) for item in items)]  # type: ignore[misc] # as above
    return dict(FACES).get(annotation, annotation) if inspect.isclass(annotation) else annotation


def _hints(function: object) -> dict[str, object]:
    return {name: _blocking_form(hint) for name, hint in typing.get_type_hints(function).items()}


@pytest.mark.parametrize(("awaited", "plain"), FACES)
def test_both_faces_have_the_same_members(awaited, plain):
    assert set(_members(awaited)) - OF_THE_ASYNC_FACE_ALONE == set(_members(plain))


@pytest.mark.parametrize(
    ("awaited", "plain", "name"),
    [(a, p, name) for a, p in FACES for name in _members(p)],
)
def test_both_faces_take_and_give_the_same(awaited, plain, name):
    ours, theirs = inspect.getattr_static(plain, name), inspect.getattr_static(awaited, name)
    if isinstance(ours, property):
        assert isinstance(theirs, property)
        ours, theirs = ours.fget, theirs.fget
    assert not inspect.iscoroutinefunction(ours)
    shapes = [
        [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
        for function in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
    assert _hints(ours) == _hints(theirs)


@pytest.mark.parametrize("kind", [S3Objects, MemoryObjects, LocalObjects])
@pytest.mark.parametrize("name", sorted(_members(ObjectStore)))
def test_every_object_store_has_the_signatures_of_the_port(kind, name):
    theirs, ours = inspect.getattr_static(ObjectStore, name), inspect.getattr_static(kind, name)
    if isinstance(theirs, property):
        theirs, ours = theirs.fget, ours.fget
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))


def test_the_s3_store_is_the_one_that_takes_parts():
    assert issubclass(S3Objects, MultipartStore)
    assert not issubclass(MemoryObjects, MultipartStore)
    assert not issubclass(LocalObjects, MultipartStore)


@pytest.mark.parametrize("name", [name for name in blocking.__all__ if name.startswith("open_")])
def test_stores_are_opened_alike_with_and_without_await(name):
    ours, theirs = getattr(blocking, name), getattr(opening, name)
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    kinds = dict(FACES)
    assert typing.get_type_hints(ours)["return"] is kinds[typing.get_type_hints(theirs)["return"]]


def test_everything_that_opens_a_store_by_url_has_both_faces():
    by_url = {
        name
        for name, function in inspect.getmembers(opening, inspect.isfunction)
        if name.startswith("open_")
        and "url" in inspect.signature(function).parameters
        and function.__module__ == opening.__name__
    }
    assert by_url == {name for name in blocking.__all__ if name.startswith("open_")}

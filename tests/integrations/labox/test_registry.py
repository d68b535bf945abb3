"""Through labox's own API: a registry, rows in SQLite, values and streams of real libraries."""

from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.integrations.labox.support import MIB, content, ours, theirs

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
pytest.importorskip("aiosqlite")

from labox.builtin.storables.simple import StorableStream, StorableValue  # noqa: E402
from labox.core import Registry  # noqa: E402
from labox.core.api.loader import new_loader  # noqa: E402
from labox.core.api.saver import new_saver  # noqa: E402
from labox.core.database import BaseRecord  # noqa: E402
from labox.extra.numpy import NpySerializer  # noqa: E402
from labox.extra.pandas import ParquetDataFrameSerializer  # noqa: E402
from labox.extra.pyarrow import ParquetRecordBatchStreamSerializer  # noqa: E402
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine  # noqa: E402

MODULES = ["labox.builtin", "labox.extra.pandas", "labox.extra.pyarrow"]


@asynccontextmanager
async def database():
    engine = create_async_engine("sqlite+aiosqlite://")
    try:
        await BaseRecord.create_all(engine)
        async with AsyncSession(engine, expire_on_commit=False) as session:
            yield session
    finally:
        await engine.dispose()


def registry_of(storage):
    return Registry(
        modules=MODULES,
        serializers=[NpySerializer()],
        storages=[storage],
        default_storage=storage,
    )


async def save(storage, session, storable):
    async with new_saver(registry_of(storage), session) as saver:
        future = saver.save_soon(storable, tags={"kind": "test"})
    return future.value


async def load(storage, session, manifest, stack=None):
    async with new_loader(registry_of(storage), session, stack) as loader:
        future = loader.load_soon(manifest)
    return future.value


def _frame():
    return pd.DataFrame({"n": range(1000), "text": [f"row {n}" for n in range(1000)]})


VALUES = {
    "json": lambda: (StorableValue({"a": [1, 2]}), lambda got: got == {"a": [1, 2]}),
    "numpy": lambda: (
        StorableValue(np.arange(2 * MIB), serializer=NpySerializer),
        lambda got: np.array_equal(got, np.arange(2 * MIB)),
    ),
    "pandas": lambda: (
        StorableValue(_frame(), serializer=ParquetDataFrameSerializer),
        lambda got: got.equals(_frame()),
    ),
}


@pytest.mark.parametrize("writer", [ours, theirs])
@pytest.mark.parametrize("reader", [ours, theirs])
@pytest.mark.parametrize("kind", VALUES)
async def test_values_saved_by_one_are_loaded_by_the_other(
    kind, writer, reader, server, bucket_name
):
    storable, is_right = VALUES[kind]()
    async with database() as session:
        manifest = await save(writer(server, bucket_name), session, storable)
        loaded = await load(reader(server, bucket_name), session, manifest)
    assert is_right(loaded.value)


@pytest.mark.parametrize("writer", [ours, theirs])
async def test_parquet_streams_come_back_whoever_saved_them(writer, server, bucket_name):
    batches = [
        pa.record_batch({"n": list(range(100)), "data": [content(9000, seed=n)] * 100})
        for n in range(12)
    ]

    async def stream():
        for batch in batches:
            yield batch

    async with database() as session, AsyncExitStack() as stack:
        storable = StorableStream(stream(), serializer=ParquetRecordBatchStreamSerializer)
        manifest = await save(writer(server, bucket_name), session, storable)
        loaded = await load(ours(server, bucket_name), session, manifest, stack)
        got = [batch async for batch in loaded.value_stream]
    assert pa.Table.from_batches(got) == pa.Table.from_batches(batches)


async def test_a_stream_that_fails_leaves_no_row_and_no_object(server, bucket_name, witness):
    async def stream():
        yield {"n": 1}
        raise KeyError("mine")

    async with database() as session:
        with pytest.raises(BaseExceptionGroup):
            await save(ours(server, bucket_name), session, StorableStream(stream()))
    assert "Contents" not in witness.list_objects_v2(Bucket=bucket_name)

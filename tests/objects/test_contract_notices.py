"""The contract suite itself: a store with a fault does not get through it."""

import asyncio
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

import pytest

from coatcheck.errors import CoatcheckError, Conflict, NotFound
from coatcheck.objects.memory import MemoryObjects, forget
from coatcheck.runtime.aio import ASYNCIO
from coatcheck.testing.objects import CHECKS
from coatcheck.types import ByteRange, Fetched
from tests.objects.test_contract import MemoryWitness


class AsksFirst(MemoryObjects):
    """Looks and then writes, so that two can find the same."""

    async def put(self, key, body, *, condition=None, **given):
        if condition is not None:
            try:
                etag = (await self.head(key)).etag
            except NotFound:
                etag = None
            await asyncio.sleep(0)
            if etag != getattr(condition, "etag", None):
                raise Conflict("changed").having(key=key)
        return await super().put(key, body, **given)


class StoresWhatItRefuses(MemoryObjects):
    """Checks the digest too late."""

    async def put(self, key, body, *, digest=None, **given):
        await super().put(key, body)
        return await super().put(key, body, digest=digest, **given)


class CutsEmptyOff(MemoryObjects):
    """Takes an empty span for a missing object."""

    async def get(self, key, span=None, **given):
        fetched = await super().get(key, span, **given)
        if span is not None and not fetched.body:
            raise NotFound("empty").having(key=key)
        return fetched


class ForgetsTheSize(MemoryObjects):
    """Gives the size of the range for that of the object."""

    async def get(self, key, span=None, **given):
        fetched = await super().get(key, span, **given)
        return Fetched(fetched.body, len(fetched.body), fetched.etag)


class LimitsTheObject(MemoryObjects):
    """Applies the limit to the whole object instead of what is read."""

    async def get(self, key, span=None, *, limit_bytes, **given):
        await super().get(key, limit_bytes=limit_bytes)
        return await super().get(key, span, limit_bytes=limit_bytes, **given)


class FillsInPart(MemoryObjects):
    """Leaves the rest of a buffer as it was."""

    async def get_into(self, key, start, buffer, **given):
        size_bytes = (await self.head(key)).size_bytes
        left_bytes = max(0, min(len(buffer), size_bytes - start))
        await super().get_into(key, start, buffer[:left_bytes], **given)


class IgnoresTheVersion(MemoryObjects):
    """Reads whatever is there."""

    async def get_into(self, key, start, buffer, *, if_match=None):
        await super().get_into(key, start, buffer)


class SortsByFolder(MemoryObjects):
    """Lists as a walk through folders does that compares names alone."""

    async def list(self, prefix="", *, after=""):
        listing = super().list(prefix, after=after)
        infos = [info async for info in listing]
        for info in sorted(infos, key=lambda info: info.key.split("/")):
            yield info


class StartsAtTheStart(MemoryObjects):
    """Lists `after` itself."""

    async def list(self, prefix="", *, after=""):
        async for info in super().list(prefix):
            if info.key >= after:
                yield info


class DeletesByPrefix(MemoryObjects):
    """Removes what goes on from the key, too."""

    async def delete(self, key):
        await super().delete_many([info.key async for info in self.list(key)])


class DeletesAThousand(MemoryObjects):
    """Drops what one request cannot hold."""

    async def delete_many(self, keys):
        return await super().delete_many(keys[:1000])


class Moves(MemoryObjects):
    """Copies by renaming."""

    async def copy(self, source_key, key):
        info = await super().copy(source_key, key)
        await super().delete(source_key)
        return info


class Tidies(MemoryObjects):
    """Decodes keys once too often."""

    async def put(self, key, body, **given):
        return await super().put(key.replace("%2F", "_"), body, **given)


class NamesNoKey(MemoryObjects):
    """Leaves the key out of its errors."""

    async def head(self, key):
        try:
            return await super().head(key)
        except NotFound:
            raise NotFound("there is no such object") from None


class InventsTime(MemoryObjects):
    """Tells times without a time zone."""

    async def head(self, key):
        return replace(await super().head(key), last_modified=datetime(2000, 1, 1))


class TearsReads(MemoryObjects):
    """Reads in two steps, and does not notice that the object changed in between."""

    async def get(self, key, span=None, *, limit_bytes, **given):
        fetched = await super().get(key, span, limit_bytes=limit_bytes, **given)
        if len(fetched.body) < 1000 or span is not None:
            return fetched
        await asyncio.sleep(0)
        rest = await super().get(key, ByteRange(1000, limit_bytes), limit_bytes=limit_bytes)
        return Fetched(fetched.body[:1000] + rest.body, fetched.size_bytes, fetched.etag)


@pytest.mark.parametrize(
    ("faulty", "noticed_by"),
    [
        (AsksFirst, {"of_many_creators_one_wins", "of_many_changers_one_wins"}),
        (StoresWhatItRefuses, {"a_wrong_digest_is_refused"}),
        (CutsEmptyOff, {"a_span_gives_the_bytes_it_has"}),
        (ForgetsTheSize, {"a_span_gives_the_bytes_it_has"}),
        (LimitsTheObject, {"a_read_keeps_to_its_limit"}),
        (FillsInPart, {"a_buffer_that_cannot_be_filled_is_an_error"}),
        (IgnoresTheVersion, {"a_read_of_another_version_is_refused"}),
        (SortsByFolder, {"keys_are_listed_in_order"}),
        (StartsAtTheStart, {"a_start_is_left_out", "prefix_and_start_go_together"}),
        (DeletesByPrefix, {"a_delete_removes_one_object", "keys_may_go_on_from_keys"}),
        (DeletesAThousand, {"more_than_a_request_holds_are_deleted"}),
        (Moves, {"a_copy_is_an_object_of_its_own"}),
        (Tidies, {"hostile_keys_come_through"}),
        (NamesNoKey, {"what_is_missing_is_not_found"}),
        (InventsTime, {"every_look_tells_the_same"}),
        (TearsReads, {"readers_see_old_or_new"}),
    ],
)
def test_a_fault_is_noticed_by_the_checks_that_are_about_it(faulty, noticed_by):
    about_it = [check for check in CHECKS if str(check) in noticed_by]
    assert {str(check) for check in about_it if fails(check, faulty)} == noticed_by


def fails(check, kind):
    name = uuid4().hex
    try:
        asyncio.run(check(kind(name, ASYNCIO), MemoryWitness(name)))
    except (AssertionError, CoatcheckError):
        return True
    finally:
        forget(name)
    return False

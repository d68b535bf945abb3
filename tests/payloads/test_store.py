"""The payload store: what goes in comes out, once, verified, within its limits, on every store."""

import asyncio
import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest

import coatcheck
from coatcheck import blocking, errors
from coatcheck.objects.memory import MemoryObjects
from coatcheck.payloads.claim import Claim
from coatcheck.payloads.keys import key_of
from coatcheck.payloads.store import PayloadStore, StoredPayload
from coatcheck.payloads.transfer import part_size_for
from coatcheck.types import Digest
from tests.payloads.support import (
    MIB,
    PART,
    TakesParts,
    Watched,
    keys_of,
    open_payloads,
    payload,
    stored,
)
from tests.payloads.test_claim import mutations
from tests.s3.support import all_of, both_faces

VECTORS = json.loads(
    (Path(__file__).parents[2] / "docs" / "spec" / "vectors" / "keys.json").read_text()
)
SIZES = [0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1, 23 * MIB]


@pytest.fixture(scope="module")
def payloads():
    return {size: payload(size) for size in SIZES}


@pytest.fixture(params=["memory", "local", "rclone", "moto"])
def place(request, memory, tmp_path):
    """A URL with its arguments, and a function that reads an object behind the store's back."""
    if request.param == "memory":
        yield f"memory://{memory}", {}, lambda key: stored(memory)[key]
    elif request.param == "local":
        yield f"file://{tmp_path}/root", {}, lambda key: (tmp_path / "root" / key).read_bytes()
    else:
        server = request.getfixturevalue(request.param)
        bucket = f"payloads-{memory}"[:40]
        server.create_bucket(bucket)
        witness = server.witness()

        def read(key: str) -> bytes:
            return witness.get_object(Bucket=bucket, Key=f"p/{key}")["Body"].read()

        yield server.url(bucket, "p"), keys_of(server), read
        witness.close()


@both_faces
def test_every_size_comes_back_as_it_went_and_lies_where_the_format_says(face, place, payloads):
    url, arguments, read = place
    store = open_payloads(face, url, arguments)
    for size, data in payloads.items():
        claim = face.run(store.put(data))
        assert claim == Claim(Digest(hashlib.sha256(data).hexdigest()), size)
        assert read(key_of(claim.digest)) == data
        assert face.run(store.get(claim)) == data
        assert face.run(store.get(str(claim))) == data
        assert face.run(store.exists(claim))
        assert face.run(store.stat(claim)).size_bytes == size


def test_the_public_faces_open_read_and_write_the_same_places(place):
    url, arguments, _ = place
    plain = blocking.open_store(url, name="team/a", **arguments)
    claim = plain.put(b"hello")
    assert claim.store == plain.name == "team/a"

    async def read() -> bytes:
        store = coatcheck.open_store(url, name="team/a", **arguments)
        assert [found.claim async for found in store.list()] == [claim]
        return await store.get(claim)

    assert asyncio.run(read()) == b"hello"
    assert [found.claim for found in plain.list()] == [claim]
    assert plain.put_many([b"a", b"b"]) == [plain.put(b"a"), plain.put(b"b")]
    assert plain.get_many(plain.put_many([b"b", b"a"])) == [b"b", b"a"]
    plain.delete(claim)
    assert not plain.exists(claim)
    with pytest.raises(FileNotFoundError):
        plain.get(claim)


@pytest.mark.parametrize("vector", VECTORS["payloads"], ids=lambda vector: vector["name"])
@both_faces
def test_payloads_lie_under_the_keys_of_the_golden_vectors(face, memory, vector):
    data = bytes.fromhex(vector["hex"]) * vector["times"]
    claim = face.run(open_payloads(face, f"memory://{memory}").put(data))
    assert (claim.digest.hex, claim.size_bytes) == (vector["digest"], vector["size"])
    assert stored(memory) == {vector["key"]: data}


@both_faces
def test_a_listing_shows_payloads_in_order_and_passes_over_everything_else(face, memory):
    store = open_payloads(face, f"memory://{memory}", name="mine")
    objects = MemoryObjects(memory, face.backend.runtime)

    async def fill() -> list[StoredPayload]:
        for key in VECTORS["not_payloads"]:
            await objects.put(key, b"not a payload")
        await store.put_many([b"%d" % number for number in range(20)])
        return await all_of(store.list())

    found = face.run(fill())
    claims = [Claim(Digest.of(b"%d" % number), len(str(number)), "mine") for number in range(20)]
    assert [one.claim for one in found] == sorted(claims, key=lambda claim: claim.digest.hex)
    assert all(one.key == key_of(one.claim.digest) for one in found)
    assert all(one.last_modified is not None for one in found)


@both_faces
@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda data: memoryview(data)[::1]])
def test_any_buffer_is_stored_as_its_bytes(face, memory, kind):
    store = open_payloads(face, f"memory://{memory}")
    claim = face.run(store.put(kind(b"hello")))
    assert face.run(store.get(claim)) == b"hello"


@both_faces
def test_a_buffer_that_is_changed_meanwhile_is_stored_as_it_was(face, memory):
    objects = Watched(MemoryObjects(memory, face.backend.runtime))
    store = PayloadStore(objects)
    data = bytearray(b"hello")

    def change(_name: str) -> None:
        data[:] = b"HELLO"

    objects.before = change
    claim = face.run(store.put(data))
    assert claim.digest == Digest.of(b"hello")
    assert face.run(store.get(claim)) == b"hello"


@both_faces
@pytest.mark.parametrize("wrong", [5, "text", [1, 2], None, 1.5, object()])
def test_what_is_no_buffer_is_refused_and_not_guessed_at(face, memory, wrong):
    with pytest.raises(TypeError):
        face.run(open_payloads(face, f"memory://{memory}").put(wrong))
    assert stored(memory) == {}


def watched(face, memory, **options) -> tuple[Watched, PayloadStore]:
    objects = Watched(MemoryObjects(memory, face.backend.runtime))
    return objects, PayloadStore(objects, **{"part_size_bytes": PART, **options})


@both_faces
def test_thousands_of_mutated_claims_send_nothing_unless_they_are_valid(face, memory):
    objects, store = watched(face, memory)

    async def try_all() -> int:
        asked = 0
        for text in mutations(seed=2, count=2000):
            try:
                valid = Claim.parse(text).store == store.name
            except errors.ClaimRejected:
                valid = False
            for ask in (store.get, store.exists, store.stat, store.delete):
                with suppress(errors.NotFound if valid else errors.ClaimRejected):
                    await ask(text)
            asked += 4 * valid
        return asked

    assert len(objects.calls) == face.run(try_all())


@both_faces
def test_a_claim_of_another_store_is_refused_without_a_request(face, memory):
    objects, store = watched(face, memory, name="mine")
    foreign = Claim(Digest.of(b"x"), 1, "theirs")
    for ask in (store.get, store.exists, store.stat, store.delete):
        for form in (foreign, str(foreign)):
            with pytest.raises(errors.ClaimRejected, match="'theirs', this is 'mine'") as caught:
                face.run(ask(form))
            assert "name=" in caught.value.remedy
    with pytest.raises(errors.ClaimRejected):
        face.run(store.get_many([Claim(Digest.of(b"y"), 1, "mine"), foreign]))
    assert objects.calls == []


@both_faces
def test_the_cap_holds_both_ways_without_a_request(face, memory):
    objects, store = watched(face, memory, max_payload_bytes=10)
    with pytest.raises(errors.TooLarge, match="11 bytes, over the limit of 10") as caught:
        face.run(store.put(b"x" * 11))
    assert "max_payload_bytes" in caught.value.remedy
    for size in (11, 2**45):
        with pytest.raises(errors.TooLarge, match=f"{size} bytes"):
            face.run(store.get(Claim(Digest.of(b"x"), size)))
    assert objects.calls == []
    assert face.run(store.get(face.run(store.put(b"x" * 10)))) == b"x" * 10


@both_faces
def test_a_batch_with_one_payload_over_the_cap_is_told(face, memory):
    _, store = watched(face, memory, max_payload_bytes=10)
    with pytest.raises(errors.TooLarge):
        face.run(store.put_many([b"fine", b"x" * 11]))


@both_faces
def test_an_object_that_is_missing_shorter_longer_or_altered_is_told_apart(face, memory):
    objects, store = watched(face, memory)
    data = payload(PART + 1000)
    claim = face.run(store.put(data))
    key = key_of(claim.digest)

    def put_behind(body: bytes) -> None:
        face.run(objects.inner.put(key, body))

    for wrong in (data[:-1], data + b"x", data[:100], b"", data[:-1] + b"?", b"?" + data[1:]):
        put_behind(wrong)
        with pytest.raises(errors.Corrupt, match="nothing was returned") as caught:
            face.run(store.get(claim))
        assert caught.value.diagnostics.key == key
        assert face.run(store.exists(claim)) is (len(wrong) == len(data))
    face.run(objects.inner.delete(key))
    with pytest.raises(errors.NotFound):
        face.run(store.get(claim))
    assert face.run(store.exists(claim)) is False
    with pytest.raises(errors.NotFound):
        face.run(store.stat(claim))


@both_faces
@pytest.mark.parametrize("size", [0, 5])
def test_a_small_object_that_was_altered_is_told_as_well(face, memory, size):
    objects, store = watched(face, memory)
    claim = face.run(store.put(b"x" * size))
    for wrong in (b"x" * (size + 1), b"y" * (size + 100_000), b"y" * size or b"z"):
        face.run(objects.inner.put(key_of(claim.digest), wrong))
        with pytest.raises(errors.Corrupt):
            face.run(store.get(claim))


@both_faces
def test_a_message_about_corruption_does_not_tell_the_true_digest(face, memory):
    objects, store = watched(face, memory)
    claim = face.run(store.put(b"hello"))
    face.run(objects.inner.put(key_of(claim.digest), b"HELLO"))
    with pytest.raises(errors.Corrupt) as caught:
        face.run(store.get(claim))
    assert Digest.of(b"HELLO").hex not in str(caught.value)


@both_faces
@pytest.mark.parametrize("wrong", [b"", b"hell", b"hello!"])
def test_a_poisoned_key_of_another_size_is_replaced_by_the_next_put(face, memory, wrong, caplog):
    objects, store = watched(face, memory)
    key = key_of(Digest.of(b"hello"))
    face.run(objects.inner.put(key, wrong))
    claim = face.run(store.put(b"hello"))
    assert objects.calls == ["put", "head", "put"]
    assert face.run(store.get(claim)) == b"hello"
    assert f"has {len(wrong)} bytes" in caplog.text


@both_faces
def test_equal_payloads_are_stored_once(face, memory):
    objects, store = watched(face, memory)
    first, second = face.run(store.put(b"hello")), face.run(store.put(bytearray(b"hello")))
    assert first == second
    assert str(first) == str(second)
    assert objects.calls == ["put", "put", "head"]
    assert len(stored(memory)) == 1


@both_faces
def test_batches_keep_their_order_and_empty_ones_ask_nothing(face, memory):
    objects, store = watched(face, memory)
    data = [b"%d" % (number % 90) for number in range(200)]
    claims = face.run(store.put_many(iter(data)))
    assert [claim.digest for claim in claims] == [Digest.of(one) for one in data]
    assert face.run(store.get_many(str(claim) for claim in claims)) == data
    objects.calls.clear()
    assert face.run(store.put_many([])) == face.run(store.get_many([])) == []
    assert objects.calls == []


@both_faces
def test_the_first_failure_of_a_batch_ends_the_rest_and_what_was_stored_stays(face, memory):
    objects, store = watched(face, memory)
    count = 300

    def fail_the_tenth(_name: str) -> None:
        if len(objects.calls) == 10:
            raise errors.Unavailable("down")

    objects.before = fail_the_tenth
    with pytest.raises(errors.Unavailable):
        face.run(store.put_many([b"%d" % number for number in range(count)]))
    assert len(objects.calls) < count / 2
    assert len(stored(memory)) <= len(objects.calls)
    objects.before = lambda name: None
    claims = face.run(store.put_many([b"%d" % number for number in range(count)]))
    objects.calls.clear()
    objects.before = fail_the_tenth
    with pytest.raises(errors.Unavailable):
        face.run(store.get_many(claims))
    assert len(objects.calls) < count / 2


@both_faces
def test_deleting_twice_is_no_error(face, memory):
    _, store = watched(face, memory)
    claim = face.run(store.put(b"hello"))
    face.run(store.delete(claim))
    face.run(store.delete(str(claim)))
    assert stored(memory) == {}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"part_size_bytes": PART - 1}, "part_size_bytes is 5242879"),
        ({"part_size_bytes": 0}, "part_size_bytes is 0"),
        ({"part_size_bytes": -1}, "part_size_bytes is -1"),
        ({"max_payload_bytes": 0}, "max_payload_bytes is 0"),
        ({"max_payload_bytes": -5}, "max_payload_bytes is -5"),
        ({"name": ""}, "'' is not a store's name"),
        ({"name": "My Store"}, "'My Store' is not a store's name"),
        ({"name": "../x"}, "'../x' is not a store's name"),
    ],
)
@pytest.mark.parametrize("open_at", [coatcheck.open_store, blocking.open_store])
def test_an_impossible_setting_of_a_store_is_refused_by_name(open_at, options, named):
    with pytest.raises(errors.ConfigError, match=named) as caught:
        open_at("memory://", **options)
    assert caught.value.remedy


@both_faces
def test_a_store_tells_its_name_and_place_and_makes_no_request_to_do_so(face, memory):
    objects, store = watched(face, memory, name="mine")
    assert (store.name, store.location) == ("mine", f"memory://{memory}")
    assert store.runtime is face.backend.runtime
    assert objects.calls == []


@both_faces
def test_a_store_that_takes_parts_is_asked_first_and_given_parts_only_above_one(face, memory):
    objects = TakesParts(MemoryObjects(memory, face.backend.runtime))
    store = PayloadStore(objects, part_size_bytes=PART)
    face.run(store.put(payload(PART)))
    assert objects.calls == ["put"]
    objects.calls.clear()
    data = payload(2 * PART + 1)
    claim = face.run(store.put(data))
    assert objects.calls == ["head", "begin_upload", *["send_part"] * 3, "complete"]
    assert stored(memory)[key_of(claim.digest)] == data
    objects.calls.clear()
    face.run(store.put(data))
    assert objects.calls == ["head"]
    assert objects.open_uploads == set()


@both_faces
def test_parts_replace_an_object_of_another_size(face, memory):
    objects = TakesParts(MemoryObjects(memory, face.backend.runtime))
    store = PayloadStore(objects, part_size_bytes=PART)
    data = payload(PART + 1)
    face.run(objects.inner.put(key_of(Digest.of(data)), b"poison"))
    claim = face.run(store.put(data))
    assert face.run(store.get(claim)) == data


@both_faces
def test_who_may_write_but_not_read_can_store_all_sizes(face, memory):
    objects = TakesParts(MemoryObjects(memory, face.backend.runtime))
    store = PayloadStore(objects, part_size_bytes=PART)

    def write_only(name: str) -> None:
        if name in ("head", "get", "get_into"):
            raise errors.Forbidden("access denied")

    objects.before = write_only
    for data in (b"hello", payload(PART + 1)):
        for _ in range(2):
            claim = face.run(store.put(data))
            assert stored(memory)[key_of(claim.digest)] == data


@both_faces
def test_a_key_that_comes_and_goes_does_not_keep_a_put_for_ever(face, memory):
    # Refused because it is there, and gone when looked at: three times, then Conflict.
    objects, store = watched(face, memory)

    def flicker(name: str) -> None:
        if name == "put":
            raise errors.Conflict("it is there")

    objects.before = flicker
    with pytest.raises(errors.Conflict):
        face.run(store.put(b"hello"))
    assert objects.calls == ["put", "head"] * 3


def test_part_sizes_grow_so_that_ten_thousand_parts_are_enough():
    assert part_size_for(PART + 1, PART) == PART
    assert part_size_for(10_000 * PART, PART) == PART
    for size in (10_000 * PART + 1, 2**40, 50 * 2**40):
        part = part_size_for(size, PART)
        assert part % MIB == 0
        assert -(-size // part) <= 10_000
        assert -(-size // (part - MIB)) > 10_000, "no larger than need be"

"""The claim: the golden vectors, and that nothing a stranger writes is believed by accident."""

import json
import pickle
import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import ClaimRejected, ConfigError
from coatcheck.payloads.claim import (
    MAX_CLAIM_CHARACTERS,
    MAX_SIZE_BYTES,
    Claim,
    check_store_name,
)
from coatcheck.types import Digest

SPEC = Path(__file__).parents[2] / "docs" / "spec"
VECTORS = json.loads((SPEC / "vectors" / "claims.json").read_text())
MUTATIONS = 5000

TOLD = {
    "too long": "a claim of 4097 characters",
    "not JSON": "the claim is not JSON",
    "nesting": "is not (JSON|a claim)",  # how deep JSON may go is each parser's own choice
    "not a claim": "the JSON is not a claim",
    "version": "the claim has version",
    "fields": "the claim (lacks|has unknown fields)",
    "type": "must be (strings|a digest|a whole number)",
    "digest": "digest",
    "size": "a size of",
    "store": "is not a store's name",
}

digests = st.binary(min_size=32, max_size=32).map(lambda raw: Digest(raw.hex()))
names = st.from_regex(r"[a-z0-9](?:[a-z0-9._/-]{0,126}[a-z0-9])?", fullmatch=True)
claims = st.builds(Claim, digests, st.integers(0, MAX_SIZE_BYTES), names, st.none() | digests)


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["name"])
def test_valid_vectors_are_read_and_written_canonically(vector):
    claim = Claim.parse(vector["text"])
    assert claim == Claim.parse(vector["text"].encode())
    parts = Digest(vector["parts"]) if "parts" in vector else None
    assert claim == Claim(Digest(vector["digest"]), vector["size"], vector["store"], parts)
    assert str(claim) == vector["canonical"]
    assert json.loads(str(claim)) == json.loads(vector["text"])


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["name"])
def test_invalid_vectors_are_refused_for_their_reason_and_with_a_remedy(vector):
    for form in (vector["text"], vector["text"].encode()):
        with pytest.raises(ClaimRejected, match=TOLD[vector["reason"]]) as caught:
            Claim.parse(form)
        assert caught.value.remedy
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600


def test_the_vectors_are_of_this_version_and_give_every_reason():
    assert VECTORS["version"] == Claim.version == 1
    assert {vector["reason"] for vector in VECTORS["invalid"]} == set(TOLD)


def test_the_specification_states_the_limits_and_shows_a_claim():
    text = (SPEC / "claim.md").read_text()
    assert f"{MAX_CLAIM_CHARACTERS:,} characters" in text
    assert f"{MAX_SIZE_BYTES:,}" in text
    shown = next(line.strip() for line in text.splitlines() if line.startswith("    {"))
    assert str(Claim.parse(shown)) == shown


@given(claims)
def test_every_claim_reads_back_and_its_text_is_ascii_on_one_line(claim):
    text = str(claim)
    assert Claim.parse(text) == claim
    assert str(Claim.parse(text)) == text
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < MAX_CLAIM_CHARACTERS


@given(claims, claims)
def test_claims_are_equal_exactly_when_their_texts_are(one, other):
    assert (one == other) is (str(one) == str(other))


@given(claims)
def test_a_claim_is_a_value_that_crosses_processes(claim):
    assert pickle.loads(pickle.dumps(claim)) == claim
    assert hash(pickle.loads(pickle.dumps(claim))) == hash(claim)


def mutations(seed: int, count: int):
    """Claims with a few characters changed, dropped, doubled or swapped for hostile ones."""
    chance = random.Random(seed)
    hostile = ['"', "\\", "{", "}", "[", ",", ":", "\0", "\n", "é", "\U0001f600", "NaN", "1e9", "-"]
    hostile += ["null", "true", "\\u0000", "\\ud800", "9" * 400, '"size":1,', "../", "٣", "\ufeff"]
    digest = Digest.of(b"abc")
    for number in range(count):
        text = list(str(Claim(digest, number % 7, "team/a")))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            place = chance.randrange(len(text))
            match chance.randrange(4):
                case 0:
                    text[place] = chance.choice(hostile)
                case 1:
                    text.insert(place, chance.choice(hostile))
                case 2:
                    del text[place]
                case _:
                    other = chance.randrange(len(text))
                    text[place], text[other] = text[other], text[place]
        yield "".join(text)


def test_thousands_of_mutated_claims_are_refused_or_valid_and_nothing_else():
    refused = 0
    for text in mutations(seed=1, count=MUTATIONS):
        try:
            claim = Claim.parse(text)
        except ClaimRejected:
            refused += 1
            continue
        assert Claim.parse(str(claim)) == claim
    assert MUTATIONS * 0.8 < refused < MUTATIONS


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300)))
def test_no_text_and_no_bytes_raise_anything_but_claim_rejected(text):
    with suppress(ClaimRejected):
        Claim.parse(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["coatcheck", "digest", "size", "store", "x"]), json_values))
def test_no_value_of_a_field_raises_anything_but_claim_rejected(fields):
    with suppress(ClaimRejected):
        Claim.parse(json.dumps(fields))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "latin-1"])
def test_bytes_are_utf_8_or_refused(encoding):
    text = str(Claim(Digest.of(b""), 0)).replace("default", "défaut")
    with pytest.raises(ClaimRejected):
        Claim.parse(text.encode(encoding))


@pytest.mark.parametrize(
    ("size", "store"),
    [(-1, "default"), (MAX_SIZE_BYTES + 1, "default"), (0, ""), (0, "Upper"), (0, "a" * 129)],
)
def test_a_claim_that_could_not_be_read_cannot_be_made(size, store):
    with pytest.raises(ClaimRejected) as caught:
        Claim(Digest.of(b""), size, store)
    assert caught.value.remedy


@given(st.text(max_size=140))
def test_a_stores_name_is_possible_exactly_if_a_claim_can_carry_it(name):
    def possible(make, refusal) -> bool:
        try:
            make()
        except refusal:
            return False
        return True

    carried = possible(lambda: Claim(Digest.of(b""), 0, name), ClaimRejected)
    assert possible(lambda: check_store_name(name), ConfigError) is carried
    if carried:
        assert Claim.parse(str(Claim(Digest.of(b""), 0, name))).store == name

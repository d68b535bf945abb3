"""The tree of part digests: docs/spec/parts.md."""

import asyncio
import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.errors import Corrupt
from coatcheck.payloads import parts
from coatcheck.payloads.parts import Page, PartDigests, PartTree
from coatcheck.types import Digest

VECTORS = json.loads(
    (Path(__file__).parents[2] / "docs" / "spec" / "vectors" / "parts.json").read_text()
)


def digest_of_part(number):
    return sha256(number.to_bytes(8, "big")).digest()


def tree_of(size_bytes, part_bytes):
    digests = PartDigests(part_bytes)
    count = -(-size_bytes // part_bytes)
    for number in reversed(range(count)):
        digests.add(number, digest_of_part(number))
    return digests.pages(size_bytes)


@pytest.mark.parametrize("vector", VECTORS["pages"], ids=lambda vector: vector["what"])
def test_golden_pages(vector):
    digests = PartDigests(vector["part_bytes"])
    data = b"".join(bytes([n % 251]) for n in range(vector["size_bytes"]))
    for number, start in enumerate(range(0, len(data), vector["part_bytes"])):
        part = data[start : start + vector["part_bytes"]]
        digests.add(number, sha256(part).digest())
    [page] = digests.pages(len(data))
    assert page.hex() == vector["page"]
    assert sha256(page).hexdigest() == vector["digest"]
    assert Page.decode(page).encode() == page


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["why"])
def test_golden_refusals(vector):
    with pytest.raises(Corrupt):
        Page.decode(bytes.fromhex(vector["page"]))


@pytest.mark.parametrize("count", [1, 2, 4095, 4096, 4097, 2 * 4096, 3 * 4096 + 1])
@pytest.mark.parametrize("last_bytes", [1, 10])
def test_every_part_is_found_from_the_root(count, last_bytes):
    size_bytes = (count - 1) * 10 + last_bytes
    pages = {sha256(page).hexdigest(): page for page in tree_of(size_bytes, 10)}
    root = tree_of(size_bytes, 10)[-1]
    fetched = []

    async def fetch(digest):
        fetched.append(digest)
        return pages[digest.hex]

    async def look():
        tree = PartTree(Page.decode(root), fetch)
        assert tree.count == count
        for number in (0, count // 2, count - 1, count // 2 + 1):
            if number < count:
                part = await tree.part(number)
                assert part.digest == Digest(digest_of_part(number).hex())
                length = last_bytes if number == count - 1 else 10
                assert (part.span.start, part.span.length) == (number * 10, length)

    asyncio.run(look())
    assert len(fetched) <= (4 if count > 4096 else 0)
    assert all(len(page) <= parts.MAX_PAGE_BYTES for page in pages.values())


def test_a_page_in_another_s_place_is_refused():
    # Pages are fetched by digest: this is what one would do who can choose the root.
    size_bytes = 4097 * 10
    *_, last, _ = tree_of(size_bytes, 10)
    root = Page(1, 10, size_bytes, sha256(last).digest() * 2).encode()

    async def fetch(_digest):
        return last

    tree = PartTree(Page.decode(root), fetch)
    with pytest.raises(Corrupt, match="does not fit the one above"):
        asyncio.run(tree.part(0))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 255))
def test_whatever_bytes_are_a_page_or_corrupt(noise, place, value):
    page = bytearray(tree_of(95, 10)[-1])
    page[place % len(page)] = value
    for body in (noise, bytes(page), bytes(page) + noise, bytes(page)[:place]):
        try:
            decoded = Page.decode(body)
        except Corrupt:
            continue
        assert decoded.encode() == body

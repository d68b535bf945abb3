"""The work of the demo's workflow. What comes out depends on every byte that went in."""

import hashlib

from temporalio import activity

MIB = 1024 * 1024
MANUSCRIPT_BYTES = 3 * MIB
PAGES_BYTES = 5 * MIB
BOOK_BYTES = 7 * MIB


def write_manuscript(title: str) -> bytes:
    """Return the workflow's input: bytes that do not compress, the same for the same title."""
    return hashlib.shake_256(title.encode()).digest(MANUSCRIPT_BYTES)


@activity.defn
async def typeset(manuscript: bytes) -> bytes:
    """Turn the manuscript into pages."""
    return hashlib.shake_256(b"pages" + manuscript).digest(PAGES_BYTES)


@activity.defn
async def bind(pages: bytes) -> bytes:
    """Turn the pages into a book."""
    return hashlib.shake_256(b"book" + pages).digest(BOOK_BYTES)

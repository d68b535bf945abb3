"""How a draft in S3 becomes an object: one copy, several side by side, or what a server can do."""

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

import coatcheck
from coatcheck import errors
from coatcheck.objects import s3_draft
from coatcheck.objects.port import DraftStore, Leftover
from coatcheck.payloads.sweeping import sweep_leftovers
from coatcheck.s3.client import S3Client
from coatcheck.types import NO_ATTRIBUTES
from tests.payloads.support import PART, keys_of, payload
from tests.s3.support import all_of

DATA = payload(5 * PART + 3)


def chunks():
    return (DATA[start : start + 900_000] for start in range(0, len(DATA), 900_000))


@pytest.fixture
def sent(monkeypatch):
    """Count what is sent, by the name of the operation."""
    counts: Counter[str] = Counter()
    send = S3Client.send

    async def counted(client, bucket, operation):
        counts[operation.name] += 1
        return await send(client, bucket, operation)

    monkeypatch.setattr(S3Client, "send", counted)
    return counts


def open_on(server, memory):
    bucket = f"copies-{memory}"[:40]
    server.create_bucket(bucket)
    return coatcheck.open_store(
        server.url(bucket, "p"), part_size_bytes=PART, **keys_of(server)
    ), bucket


def left_in(server, bucket):
    witness = server.witness()
    keys = [item["Key"] for item in witness.list_objects_v2(Bucket=bucket).get("Contents", [])]
    with suppress(witness.exceptions.NoSuchUpload):  # rclone's way to say: none
        assert not witness.list_multipart_uploads(Bucket=bucket).get("Uploads")
    witness.close()
    return sorted(key.split("/")[2] for key in keys)


async def test_a_small_draft_is_one_copy(moto, memory, sent):
    store, bucket = open_on(moto, memory)
    claim = await store.put_stream(chunks())
    assert (sent["CopyObject"], sent["UploadPartCopy"]) == (1, 0)
    # Begin, six parts, complete, look, copy, clear away, and the digests.
    assert sum(sent.values()) == 6 + 6
    assert await store.get(claim) == DATA
    assert left_in(moto, bucket) == ["parts", "sha256"]


async def test_a_larger_one_is_copied_in_pieces(moto, memory, sent, monkeypatch):
    monkeypatch.setattr(s3_draft, "COPY_BYTES", 2 * PART)
    store, bucket = open_on(moto, memory)
    claim = await store.put_stream(chunks())
    assert (sent["CopyObject"], sent["UploadPartCopy"]) == (0, 3)
    assert await store.get(claim) == DATA
    assert left_in(moto, bucket) == ["parts", "sha256"]


async def test_a_server_that_copies_no_parts_copies_the_whole(rclone, memory, sent, monkeypatch):
    monkeypatch.setattr(s3_draft, "COPY_BYTES", 2 * PART)
    store, bucket = open_on(rclone, memory)
    claim = await store.put_stream(chunks())
    assert (sent["CopyObject"], sent["UploadPartCopy"], sent["AbortMultipartUpload"]) == (1, 1, 1)
    assert await store.get(claim) == DATA
    assert left_in(rclone, bucket) == ["parts", "sha256"]


async def test_a_draft_of_several_segments_is_put_together(moto, memory, sent, monkeypatch):
    monkeypatch.setattr(s3_draft, "SEGMENT_BYTES", 2 * PART)
    store, bucket = open_on(moto, memory)
    claim = await store.put_stream(chunks())
    assert sent["CreateMultipartUpload"] == 3 + 1
    assert sent["UploadPartCopy"] == 3
    assert sent["DeleteObjects"] == 1
    assert b"".join(await all_of(store.stream(claim))) == DATA
    assert left_in(moto, bucket) == ["parts", "sha256"]


async def test_several_segments_need_a_server_that_copies_parts(rclone, memory, monkeypatch):
    monkeypatch.setattr(s3_draft, "SEGMENT_BYTES", 2 * PART)
    store, bucket = open_on(rclone, memory)
    with pytest.raises(errors.Unsupported, match="cannot make parts"):
        await store.put_stream(chunks())
    assert left_in(rclone, bucket) == []


def test_pieces_are_even_and_few():
    class Home:
        bucket = "bucket"
        runtime = None

        def full_key(self, key):
            return key

    home: Any = Home()
    upload: Any = None
    tebibyte = 1024**4
    draft = s3_draft.S3Draft(home, "staging/x", 8 * 1024**2, NO_ATTRIBUTES)
    for total in (5 * tebibyte, 5 * 1024**3 + 1, 600 * 1024**2, 48 * tebibyte):
        segments = []
        for number, start in enumerate(range(0, total, s3_draft.SEGMENT_BYTES)):
            segment = s3_draft._Segment(f"staging/x.{number}", upload)
            segment.sent[0] = min(s3_draft.SEGMENT_BYTES, total - start)
            segments.append(segment)
        pieces = draft._pieces(segments)
        assert sum(piece.size_bytes for piece in pieces) == total
        assert len(pieces) <= s3_draft.MAX_PARTS
        assert max(piece.size_bytes for piece in pieces) <= s3_draft.SEGMENT_BYTES
        # Only the object's last part may be under 5 MiB.
        assert all(piece.size_bytes >= 5 * 1024**2 for piece in pieces[:-1])
        # A range of a small object cannot be asked for; all of it can.
        assert all(piece.span is None or piece.size_bytes > 5 * 1024**2 for piece in pieces)


async def test_the_sweep_removes_what_is_old_and_nothing_else(moto, memory, monkeypatch):
    store, bucket = open_on(moto, memory)
    kept = await store.put_stream(chunks())
    objects = coatcheck.open_objects(moto.url(bucket, "p"), **keys_of(moto))
    await objects.put("staging/20200101/abc", b"left over")
    assert await sweep_leftovers(objects) == []
    # moto says of every open upload that it was begun in 2010.
    assert isinstance(objects, DraftStore)
    draft = objects.begin_draft("staging/20200101/def", part_bytes=PART)
    await draft.send_part(1, bytes(PART))
    monkeypatch.setattr(
        type(objects.runtime), "wall_clock", lambda _: __import__("time").time() + 90_000
    )
    removed = await sweep_leftovers(objects)
    assert [(item.kind, item.key) for item in removed] == [
        ("draft", "staging/20200101/abc"),
        ("upload", "staging/20200101/def"),
    ]
    assert isinstance(removed[0], Leftover)
    monkeypatch.undo()
    assert left_in(moto, bucket) == ["parts", "sha256"]
    assert await store.exists(kept)
    with pytest.raises(errors.ConfigError, match="older_than_seconds"):
        await sweep_leftovers(objects, older_than_seconds=60)

"""The checks: each does once what coatcheck does all the time, and judges what comes of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from coatcheck.errors import CoatcheckError, Conflict, Forbidden, NotFound
from coatcheck.objects.doctor.finding import Finding, Verdict
from coatcheck.objects.doctor.scratch import BODY, Scratch
from coatcheck.objects.port import MultipartStore
from coatcheck.types import ByteRange, Digest, IfAbsent, IfMatch

_NO_RECORDS = "Harmless for payloads; do not keep records here that several writers change"


@dataclass(frozen=True, slots=True)
class Check:
    """A check, and what it means if it does not come to an end.

    needs: the checks without which it makes no sense. denied: what a role that may not do this
    cannot do; a warning, since many a role is meant to be like that. failure: the verdict on
    every other error.
    """

    name: str
    run: Callable[[Scratch], Awaitable[Finding]]
    needs: tuple[str, ...]
    denied: str
    failure: Verdict = Verdict.PROBLEM


async def write(scratch: Scratch) -> Finding:
    """One plain put."""
    scratch.written = key = scratch.new_key()
    await scratch.put(key, BODY, digest=Digest.of(BODY))
    return _ok("write", f"an object of {len(BODY)} bytes was stored")


async def read(scratch: Scratch) -> Finding:
    """One get of what was written."""
    fetched = await scratch.get(scratch.written)
    if fetched.body == BODY:
        return _ok("read", "what was written comes back, byte for byte")
    return Finding(
        "read",
        Verdict.PROBLEM,
        "what comes back is not what was written",
        "Find out what changes it: a proxy on the way, or the server itself",
    )


async def read_range(scratch: Scratch) -> Finding:
    """One get of a range, as payloads of several parts are read."""
    span = ByteRange(100, 200)
    fetched = await scratch.objects.get(scratch.written, span, limit_bytes=span.length)
    if fetched.body == BODY[100:300] and fetched.size_bytes == len(BODY):
        # rclone, for one. Content-Range tells the same, and is what coatcheck goes by.
        quirk = ", though with status 200 for 206" if scratch.traffic.last_status == 200 else ""
        return _ok("range", f"a part of an object can be read{quirk}")
    return Finding(
        "range",
        Verdict.PROBLEM,
        "asked for a part of an object, the server sends other bytes",
        "Set part_size_bytes above the size of the largest payload",
    )


async def look(scratch: Scratch) -> Finding:
    """One head, as before a large upload and after a lost reply."""
    info = await scratch.objects.head(scratch.written)
    if info.size_bytes == len(BODY):
        return _ok("head", "an object's size can be asked for")
    return Finding(
        "head",
        Verdict.PROBLEM,
        f"an object of {len(BODY)} bytes is said to have {info.size_bytes}",
        "Find out who else writes here, or what the server does to objects",
    )


async def list_objects(scratch: Scratch) -> Finding:
    """One listing of the scratch folder."""
    found = [info.key async for info in scratch.objects.list(scratch.folder)]
    if scratch.written in found:
        return _ok("list", "what was written is listed")
    if not scratch.written:
        return _ok("list", "objects can be listed")
    return Finding(
        "list",
        Verdict.WARNING,
        "what was just written is not listed",
        "Expect listings to lag behind here",
    )


async def create_once(scratch: Scratch) -> Finding:
    """Two puts of one key, each on condition that there is nothing yet."""
    key = scratch.new_key()
    await scratch.put(key, BODY, condition=IfAbsent())
    try:
        await scratch.put(key, BODY[:1], condition=IfAbsent())
    except Conflict:
        return _ok("create-once", "of two writers who create one object, one wins")
    return Finding(
        "create-once",
        Verdict.WARNING,
        "If-None-Match is ignored: what is there is overwritten",
        "Harmless for payloads: under one key there are only ever the same bytes",
    )


async def compare_and_swap(scratch: Scratch) -> Finding:
    """A put on condition that the newest version is there, and one that an old one is."""
    key = scratch.new_key()
    first = await scratch.put(key, BODY)
    second = await scratch.put(key, BODY[:2])
    if first.etag is None or second.etag is None:
        return Finding(
            "compare-and-swap",
            Verdict.WARNING,
            "the server does not tell the version (ETag) of what it stored",
            _NO_RECORDS,
        )
    await scratch.put(key, BODY[:3], condition=IfMatch(second.etag))
    try:
        await scratch.put(key, BODY[:4], condition=IfMatch(first.etag))
    except Conflict:
        return _ok("compare-and-swap", "nobody overwrites a version that they have not seen")
    return Finding(
        "compare-and-swap",
        Verdict.WARNING,
        "If-Match is ignored: a newer version is overwritten",
        _NO_RECORDS,
    )


async def digest(scratch: Scratch) -> Finding:
    """A put of a body that is not the one its digest names."""
    try:
        await scratch.put(scratch.new_key(), BODY, digest=Digest.of(b"another body"))
    except CoatcheckError as error:
        if error.transient:
            raise
        return _ok("digest", "a body that is damaged on its way is refused")
    return Finding(
        "digest",
        Verdict.WARNING,
        "a body that is damaged on its way is stored all the same",
        "The damage is noticed when the payload is read; https prevents it",
    )


async def multipart(scratch: Scratch) -> Finding:
    """An upload that is begun, gets a part, and is given up."""
    if not isinstance(scratch.objects, MultipartStore):
        return Finding("multipart", Verdict.SKIPPED, "objects are written in one piece here")
    upload = await scratch.begin_upload(scratch.objects)
    await upload.send_part(1, BODY)
    await scratch.abort(upload)
    return _ok("multipart", "uploads in parts can be begun and given up")


async def delete(scratch: Scratch) -> Finding:
    """Remove what was written, and look whether it is gone."""
    await scratch.delete(scratch.written)
    try:
        await scratch.get(scratch.written)
    except (NotFound, Forbidden):
        return _ok("delete", "what is deleted is gone")
    return Finding(
        "delete",
        Verdict.WARNING,
        "what was deleted can still be read",
        "Expect deletions to take their time here",
    )


def _ok(check: str, meaning: str) -> Finding:
    return Finding(check, Verdict.OK, meaning)


CHECKS = (
    Check("write", write, (), "writing is denied (it takes s3:PutObject): fine for a reader"),
    Check("read", read, ("write",), "reading is denied (it takes s3:GetObject): fine for a writer"),
    Check("range", read_range, ("write", "read"), "reading a part of an object is denied"),
    Check("head", look, ("write", "read"), "asking for an object's size is denied"),
    Check(
        "list",
        list_objects,
        (),
        "listing is denied (it takes s3:ListBucket): `coatcheck ls` will not work, and S3 calls"
        " a payload that is not there forbidden",
        Verdict.WARNING,
    ),
    Check("create-once", create_once, ("write",), "writing on a condition is denied"),
    Check(
        "compare-and-swap",
        compare_and_swap,
        ("write",),
        "writing on condition of a version is denied (it takes s3:GetObject as well)",
        Verdict.WARNING,
    ),
    Check("digest", digest, ("write",), "writing with a digest is denied", Verdict.WARNING),
    Check(
        "multipart",
        multipart,
        ("write",),
        "uploads in parts are denied, or giving them up is (it takes s3:AbortMultipartUpload)",
    ),
    Check(
        "delete",
        delete,
        ("write",),
        "deleting is denied (it takes s3:DeleteObject): fine for who never cleans up",
        Verdict.WARNING,
    ),
)

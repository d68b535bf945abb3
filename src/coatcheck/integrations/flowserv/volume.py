"""The volume: flowserv's names and rules, on a volume of coatcheck."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import quote

from flowserv import error, util
from flowserv.volume.base import IOHandle, StorageVolume
from flowserv.volume.fs import FSFile

from coatcheck import blocking
from coatcheck.blocking import BlockingVolume, BlockingVolumeFile
from coatcheck.errors import BucketNotFound, NotFound
from coatcheck.integrations.flowserv.form import S3Bucket
from coatcheck.volumes.paths import any_path


class S3File(IOHandle):
    """A file of a bucket, under its whole key. Implements `flowserv.volume.base.IOHandle`.

    bucket: the `bucket` of an S3Volume. known: the file, where a walk has found it.
    """

    def __init__(
        self, bucket: BlockingVolume, key: str, known: BlockingVolumeFile | None = None
    ) -> None:
        self.bucket = bucket
        self.key = key
        self._file = known if known is not None else bucket.load(key)

    def open(self) -> BytesIO:
        """Return the file's bytes in a buffer of its own. One GetObject for each 8 MiB.

        Raises UnknownFileError if there is no such file, and for everything else (no bucket, a
        refusal, an outage) the error of coatcheck that says what to do.
        """
        with self._missing_is_unknown():
            return BytesIO(self._file.read(limit_bytes=sys.maxsize))

    def size(self) -> int:
        """Return the file's size in bytes. One HeadObject; none for a file that a walk has found.

        Raises as `open` does.
        """
        with self._missing_is_unknown():
            return self._file.size()

    @contextmanager
    def _missing_is_unknown(self) -> Iterator[None]:
        try:
            yield
        except BucketNotFound:
            raise
        except NotFound as missing:
            raise error.UnknownFileError(self.key) from missing


class S3Volume(StorageVolume):
    """A tree of files in a bucket, below `prefix`. As `flowserv.volume.s3.S3Volume`.

    Keys are the prefix, a slash and the path, as flowserv makes them. `endpoint` (a URL) and
    `region` come from the AWS_* variables or the profile where they are not given; credentials
    always do. Making one does no I/O. Pickles; works in forked processes and from any thread.
    """

    def __init__(
        self,
        bucket_id: str,
        prefix: str | None = None,
        identifier: str | None = None,
        *,
        endpoint: str | None = None,
        region: str | None = None,
    ) -> None:
        super().__init__(identifier=identifier)
        self.bucket_id = bucket_id
        self.prefix = prefix
        self.endpoint = endpoint
        self.region = region
        self.bucket = blocking.open_volume(
            self._bucket_url(), check=any_path, endpoint_url=endpoint, region=region
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (S3Volume.from_dict, (self.to_dict(),))

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def copy(
        self,
        src: str | Sequence[str] | None,
        store: StorageVolume,
        dst: str | None = None,
        verbose: bool = False,
    ) -> list[str]:
        """Copy files and folders to another volume; return their paths there.

        A file goes to `dst`, or to its own path; a folder's files go into `dst`, or to the top.
        To an S3Volume of coatcheck, sixteen at a time, and on one server without their bytes
        passing through this process; to other volumes one after the other, as flowserv does.
        """
        if not isinstance(store, S3Volume):
            copied: list[str] = super().copy(src, store, dst=dst, verbose=verbose)
            return copied
        if verbose:
            print(f"Copy files from {self.describe()} to {store.describe()}")
        files: list[str] = []
        for path in [src] if src is None or isinstance(src, str) else src:
            files += self._copy_to_s3((path or "").rstrip("/"), store, dst)
        if verbose:
            for file in files:
                print(f"copied {file}")
        return files

    def _copy_to_s3(self, path: str, store: "S3Volume", dst: str | None) -> list[str]:
        files: list[str] = []
        is_file = bool(path) and self._is_there(path)
        goal = path if is_file and dst is None else dst or ""
        try:
            self._tree().copy_to(
                store._tree(), path, to=goal, notice=lambda copied: files.append(copied.path)
            )
        except BucketNotFound:
            raise
        except NotFound:
            # What is not there is not copied: so flowserv has it, and its callers.
            return []
        return sorted(files)

    def delete(self, key: str | None) -> int:
        """Delete the file at `key` and all files below it, and no others; return how many.

        None for `key` erases the volume, as in flowserv. One request to look for the file and two
        per 1,000 files. Raises NotAllDeleted, with each reason, when all was tried.
        """
        path = (key or "").rstrip("/")
        return self._tree().delete(path) if path else self.erase()

    def describe(self) -> str:
        """Return a line that names the bucket."""
        return f"AWS S3 storage bucket {self.bucket_id}"

    def erase(self) -> int:
        """Delete all files of the volume, and return how many there were.

        Those of the whole bucket if there is no prefix: flowserv's contract.
        """
        return self._tree().erase(confirm=True)

    @staticmethod
    def from_dict(doc: Mapping[str, Any]) -> "S3Volume":
        """Make the volume of a dictionary form, ours or flowserv's own."""
        arguments: dict[str, Any] = util.to_dict(doc.get("args", []))
        return S3Volume(
            bucket_id=arguments["bucket"],
            prefix=arguments.get("prefix"),
            identifier=doc.get("id"),
            endpoint=arguments.get("endpoint"),
            region=arguments.get("region"),
        )

    def get_store_for_folder(self, key: str, identifier: str | None = None) -> "S3Volume":
        """Return the folder at `key` as a volume of its own, there or not, on the same server."""
        folder = S3Volume(
            bucket_id=self.bucket_id,
            prefix=self._key(key),
            identifier=identifier,
            endpoint=self.endpoint,
            region=self.region,
        )
        folder.bucket = self.bucket
        return folder

    def load(self, key: str) -> S3File:
        """Return the file at `key`, whether it is there or not: opening it finds out. No I/O."""
        return S3File(bucket=self.bucket, key=self._key(key))

    def mkdir(self, path: str) -> None:
        """Do nothing: folders need no making."""

    def query(self, filter: str | None) -> set[str]:
        """Return the whole keys of all objects of the bucket that begin with `filter`."""
        objects = blocking.open_objects(
            self._bucket_url(), endpoint_url=self.endpoint, region=self.region
        )
        return {info.key for info in objects.list(filter or "")}

    def store(self, file: IOHandle, dst: str) -> None:
        """Store `file` at `dst`, in place of what was there. Requests as in `Volume.store`.

        What `file` opens is left open; a file on disk goes up in fixed memory.
        """
        if isinstance(file, FSFile):
            with open(file.filename, "rb") as source:
                self.bucket.store(self._key(dst), source)
        else:
            self.bucket.store(self._key(dst), file.open())

    def to_dict(self) -> dict[str, Any]:
        """Return the dictionary form, from which the volume can be made again; without secrets."""
        return S3Bucket(
            bucket=self.bucket_id,
            prefix=self.prefix,
            identifier=self.identifier,
            endpoint=self.endpoint,
            region=self.region,
        )

    def walk(self, src: str | None) -> list[tuple[str, S3File]]:
        """Return path and file of the file at `src`, or of all files below it, in order.

        None or "" for all files. Paths are relative to the volume, so `load` takes them.
        """
        return [
            (path, S3File(self.bucket, self._key(path), known=file))
            for path, file in self._tree().walk((src or "").rstrip("/"))
        ]

    def _bucket_url(self) -> str:
        return f"s3://{quote(self.bucket_id, safe=':')}"

    def _key(self, path: str | None) -> str:
        key: str = util.join(self.prefix, path)
        return key

    def _tree(self) -> BlockingVolume:
        return self.bucket.folder(self.prefix) if self.prefix else self.bucket

    def _is_there(self, path: str) -> bool:
        try:
            self.load(path).size()
        except error.UnknownFileError:
            return False
        return True

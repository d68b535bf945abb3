"""What the tests of the result store share: stores to run on, and requests that can be cut off."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from coatcheck.blocking import _BACKEND
from coatcheck.objects.opening import open_on
from coatcheck.objects.port import ObjectStore
from coatcheck.testing import S3Server
from coatcheck.types import Condition, IfMatch, ObjectInfo

OPERATIONS = ("put", "get", "head", "delete", "delete_if", "delete_many")


class Crash(BaseException):
    """The process is gone: nothing after this request happens."""


Hook = Callable[[str, str], None]


class Watched:
    """An object store that counts its requests, and lets a test in before and after each."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self.requests: list[str] = []
        self.before: Hook = lambda name, key: None
        self.after: Hook = lambda name, key: None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._objects, name)
        return self._watching(name, found) if name in OPERATIONS else found

    def _watching(self, name: str, found: Callable[..., Any]) -> Callable[..., Any]:
        async def watched(key: Any, *args: Any, **kwargs: Any) -> Any:
            self.requests.append(name)
            self.before(name, str(key))
            result = await found(key, *args, **kwargs)
            self.after(name, str(key))
            return result

        return watched

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        self.requests.append("list")
        self.before("list", prefix)
        async for info in self._objects.list(prefix, after=after):
            yield info
        self.after("list", prefix)


class Lax:
    """A store on a server that keeps no conditions, as rclone."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self.location = f"{objects.location}?lax"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    async def put(
        self, key: str, body: bytes, *, condition: Condition | None = None, **others: Any
    ) -> ObjectInfo:
        return await self._objects.put(key, body, **others)

    async def delete_if(self, key: str, condition: IfMatch) -> None:
        await self._objects.delete(key)


def crash_points(run: Callable[[Hook], None]) -> Iterator[int]:
    """Call `run` again and again, with a hook that ends it before its 1st, 2nd ... request.

    Yields the point after each crash; ends when `run` gets through.
    """
    point = 0
    while True:
        seen = 0

        def hook(name: str, key: str) -> None:
            nonlocal seen
            if seen == point:  # noqa: B023 - called in this round only
                raise Crash
            seen += 1

        try:
            run(hook)
        except Crash:
            yield point
            point += 1
        else:
            return


def open_blocking(url: str, **settings: Any) -> ObjectStore:
    """Open an object store whose coroutines the blocking runtime drives."""
    return open_on(_BACKEND, url, settings)  # type: ignore[arg-type] # by name


def on_server(server: S3Server, bucket: str, **settings: Any) -> ObjectStore:
    """Open a bucket of a test server."""
    return open_blocking(
        server.url(bucket),
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        **settings,
    )

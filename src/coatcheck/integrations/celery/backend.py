"""The result backend: what Celery calls."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from celery import states
from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import ImproperlyConfigured
from celery.utils.time import get_exponential_backoff_interval

from coatcheck.blocking import open_results
from coatcheck.errors import CoatcheckError, ConfigError
from coatcheck.integrations.celery.chords import Chords
from coatcheck.integrations.celery.lifetimes import Lifetimes, to_seconds
from coatcheck.integrations.celery.place import check_credentials, find_place
from coatcheck.results.store import Result
from coatcheck.types import Condition, IfAbsent, IfMatch

REMEMBERED_RECORDS = 1000
"""Unfinished tasks whose record's version is kept, so that the next write need not read first."""

_COMPRESSED = b"\0"
"""How Celery 5.7 begins a compressed record; no serializer's output begins so."""


class S3Backend(KeyValueStoreBackend):
    """Results in an S3 bucket, a folder or memory: a drop-in for `celery.backends.s3.S3Backend`.

    Settings: the URL, or s3_bucket, s3_base_path, s3_access_key_id, s3_secret_access_key,
    s3_endpoint_url, s3_region, and those that the original lacks: s3_session_token,
    s3_base_path_join, s3_options. What the URL says wins. Keys and bodies are the original's, so
    each reads what the other wrote.

    Requests: get 1; set and delete 1; storing a state 1 or 2; a part of a chord 2 more. Making one
    does no I/O, but where the credentials are neither given nor in the environment: then botocore
    is asked whether there are any. It may be used before and after a fork, and by all threads
    (result_backend_thread_safe). Raises ImproperlyConfigured.
    """

    supports_native_join = True
    supports_result_compression = True
    supports_failure_expires = True

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app=app, url=url, **kwargs)
        place = find_place(url, app.conf)
        self._base = place.base
        self._lifetimes = self._find_lifetimes()
        try:
            self._results = open_results(
                place.url,
                expires_in_seconds=self._lifetimes.longest or None,
                **place.arguments,
            )
        except ConfigError as error:
            raise ImproperlyConfigured(str(error)) from error
        check_credentials(place)
        self._chords = Chords(self, self._results)
        self._versions: dict[str, str] = {}

    def __reduce__(self, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return super().__reduce__(
            args, {"url": self.url, "expires": self.expires, **(kwargs or {})}
        )

    def as_uri(self, include_password: bool = False) -> str:
        """Return where the results are; there is never a secret in it."""
        location = self._results.location
        return f"coatcheck+{location}/{self._base}" if self._base else f"coatcheck+{location}"

    def get(self, key: str | bytes) -> str | bytes | None:
        """Return the record, or None if there is none or its life is over. One request."""
        return self._alive(self._results.get(self.full_key(key)))

    def mget(self, keys: Iterable[str | bytes]) -> list[str | bytes | None]:
        """Return the records in the order of their keys. One request each, 64 side by side."""
        found = self._results.get_many([self.full_key(key) for key in keys])
        return [self._alive(result) for result in found]

    def set(self, key: str | bytes, value: str | bytes) -> None:
        """Store the record. One request."""
        self._results.put(self.full_key(key), _to_bytes(value))

    def delete(self, key: str | bytes) -> None:
        """Remove the record; no error if there is none. One request."""
        self._results.delete(self.full_key(key))

    def cleanup(self) -> None:
        """Remove what has expired: Celery beat calls it once a day, as `celery.backend_cleanup`.

        See `coatcheck.ResultStore.delete_expired` for the cost. Interrupted, the next call goes on
        with what is left.
        """
        for prefix in (self.task_keyprefix, self.group_keyprefix, self.chord_keyprefix):
            self._results.delete_expired(self.full_key(prefix))

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """Whether trying again may help: for result_backend_always_retry."""
        return isinstance(exc, CoatcheckError) and exc.transient

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Prepare to count the parts of a chord. One request; no task polls for them."""
        self.ensure_chords_allowed()
        gid, results = header_result_args
        self._retrying(lambda: self._chords.begin(gid, results, body))

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count a part of a chord, and start the body after the last one."""
        if request.group and request.id:
            self._retrying(lambda: self._chords.part_returned(request))

    def chord_error_from_stack(self, callback: Any, exc: BaseException | None = None) -> Any:
        """Store that a chord failed, and tell the chord that this one is a part of, if any."""
        exc = sys.exc_info()[1] if exc is None else exc
        stored = super().chord_error_from_stack(callback, exc)
        self._chords.body_failed(callback, exc)
        return stored

    def full_key(self, key: str | bytes) -> str:
        """Return the key of an object: the base path, and what Celery calls the record."""
        return self._base + _to_text(key)

    def text(self, body: bytes) -> str | bytes:
        """Return a stored body as Celery's decoder wants it: text, unless it is binary."""
        if self.content_encoding == "binary" or body.startswith(_COMPRESSED):
            return body
        return body.decode()

    def encode_bytes(self, value: Any) -> bytes:
        """Return what to store for `value`."""
        return _to_bytes(self.encode(value))

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        meta = self._get_result_meta(
            result=result, state=state, traceback=traceback, request=request
        )
        meta["task_id"] = _to_text(task_id)
        body = self.encode_bytes(meta)
        key = self.full_key(self.get_key_for_task(task_id))
        etag = self._results.update(
            key,
            lambda present: None if self._is_success(present) else body,
            guess=self._guess(key, state, request),
        )
        self._remember(key, state, etag)
        return result

    def _retrying(self, work: Callable[[], None]) -> None:
        """Do `work` as Celery does the other operations: again, if the settings say so."""
        attempts = 0
        while True:
            try:
                return work()
            except CoatcheckError as error:
                attempts += 1
                if not (self.always_retry and error.transient and attempts <= self.max_retries):
                    raise
            pause = get_exponential_backoff_interval(
                self.base_sleep_between_retries_ms, attempts, self.max_sleep_between_retries_ms
            )
            time.sleep(pause / 1000)

    def _is_success(self, present: bytes | None) -> bool:
        return present is not None and self.decode(self.text(present))["status"] == states.SUCCESS

    def _guess(self, key: str, state: str, request: Any) -> Condition | None:
        """Guess what record of the task is there, where the odds are good.

        A failure may be stored by the parent of a lost process, which does not know what that
        process stored; a wrong guess would cost a third request.
        """
        if (etag := self._versions.pop(key, None)) is not None:
            return IfMatch(etag)
        delivery = getattr(request, "delivery_info", None) or {}
        is_first = request is not None and not getattr(request, "retries", 0)
        if is_first and not delivery.get("redelivered") and state != states.FAILURE:
            return IfAbsent()
        return None

    def _remember(self, key: str, state: str, etag: str | None) -> None:
        if etag is None or state in states.READY_STATES:
            return
        while len(self._versions) >= REMEMBERED_RECORDS:
            self._versions.pop(next(iter(self._versions), key), None)
        self._versions[key] = etag

    def _alive(self, result: Result | None) -> str | bytes | None:
        if result is None:
            return None
        body = self.text(result.body)
        age = result.age_seconds
        if age is None or age <= self._lifetimes.shortest:
            return body
        life = self._lifetimes.of(self.decode(body))
        return body if not life or age <= life else None

    def _find_lifetimes(self) -> Lifetimes:
        results = to_seconds(self.expires)
        failures = self.app.conf.get("result_failure_expires")
        chords = self.app.conf.get("result_chord_expires")
        return Lifetimes(
            results=results,
            failures=results if failures is None else to_seconds(failures),
            chords=results if chords is None else to_seconds(chords),
        )


def _to_text(key: str | bytes) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


def _to_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)

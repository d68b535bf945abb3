"""Chords: when all tasks of a header have returned, one of them starts the body."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from celery import VERSION, chain, chord, group, maybe_signature, states
from celery.app.task import Context
from celery.exceptions import ChordError
from celery.result import GroupResult, ResultBase, ResultSet, allow_join_result, result_from_tuple
from celery.utils.functional import regen
from celery.utils.log import get_logger

from coatcheck.results.blocking import BlockingResultStore
from coatcheck.results.latch import Arrival

if TYPE_CHECKING:
    from coatcheck.integrations.celery.backend import S3Backend

logger = get_logger(__name__)

_REGEN = type(regen(iter(())))
"""What Celery wraps generators in: their tasks may be numbered with gaps."""

_NUMBERS_PARTS = VERSION >= (5, 6)
"""Celery 5.5 gives all parts of a chord that replaces a task the number of that task."""


class Chords:
    """Counts the parts of each chord with a latch, whose marks lie below the chord's key."""

    def __init__(self, backend: "S3Backend", results: BlockingResultStore) -> None:
        self._backend = backend
        self._results = results

    def begin(self, gid: str, results: Iterable[ResultBase], body: Any) -> None:
        """Remember the header before its tasks are sent: one request.

        Where each result is one task's, the tasks' group_index numbers the parts, and the size
        travels with the body in `chord_size`: returning parts need not look up either.
        """
        numbered = _NUMBERS_PARTS and not isinstance(results, _REGEN)
        header = self._backend.app.GroupResult(gid, list(results))
        self._results.put(self._header_key(gid), self._backend.encode_bytes(header.as_tuple()))
        # Another chord may have used the same body before.
        body.pop("chord_size", None)
        if numbered and not any(isinstance(result, ResultSet) for result in header.results):
            body["chord_size"] = len(header.results)

    def part_returned(self, request: Any) -> None:
        """Note that a part is done, whatever came of it, and start the body after the last.

        Two requests; three where the part's number must be looked up.
        """
        gid = request.group
        numbered = self._number(request)
        if numbered is None:
            # Over already, or begun by a backend that watches its chords by polling.
            logger.warning("Chord %r: task %s returned to no header", gid, request.id)
            return
        part, size = numbered
        latch = self._results.latch(self._prefix(gid), size)
        arrival = latch.arrive(part)
        if arrival is Arrival.EARLY:
            return
        body = maybe_signature(request.chord, app=self._backend.app)
        if arrival is Arrival.LAST or not self._has_begun(body):
            self._start(gid, body)
        latch.close(part)
        # A role that may not delete leaves the header to the bucket's rule.
        self._results.delete_many([self._header_key(gid)])

    def body_failed(self, body: Any, error: BaseException | None) -> None:
        """Let those who wait for this body, and the chords that it is a part of, know its end.

        Celery stores the failure under the body's own id. Where the body is a chord, its result
        has another id; and that a chord waits for it, Celery knows only where chords poll.
        """
        for task in _last_tasks(body, self._backend.app):
            options = task.options
            if not options.get("task_id"):
                continue
            if isinstance(body, chord):
                self._backend.mark_as_failure(options["task_id"], error)
            if options.get("chord") and options.get("group_id"):
                request = Context(
                    id=options["task_id"],
                    group=options["group_id"],
                    group_index=options.get("group_index"),
                    chord=options["chord"],
                )
                self._backend.on_chord_part_return(request, states.FAILURE, error)

    def _number(self, request: Any) -> tuple[int, int] | None:
        """Return the part's number and how many there are; None for a chord that is not ours."""
        size, index = request.chord.get("chord_size"), request.group_index
        if isinstance(size, int) and isinstance(index, int) and 0 <= index < size:
            return index, size
        header = self._header(request.group)
        ids = [*_task_ids(header.results)] if header is not None else []
        return (ids.index(request.id), len(ids)) if request.id in ids else None

    def _has_begun(self, body: Any) -> bool:
        """Whether an earlier delivery of the same part has started the body, as far as we know."""
        if isinstance(body, group | chain | chord) or not body.id:
            return False
        return bool(self._backend.get_state(body.id) != states.PENDING)

    def _start(self, gid: str, body: Any) -> None:
        app = self._backend.app
        header = self._header(gid)
        if header is None:
            self._fail(gid, body, ChordError(f"GroupResult {gid} no longer exists"))
            return
        join = header.join_native if header.supports_native_join else header.join
        try:
            with allow_join_result():
                values = join(timeout=app.conf.result_chord_join_timeout, propagate=True)
        except Exception as error:
            self._fail(gid, body, _chord_error(repr(error), error))
            return
        try:
            body.delay(values)
        except Exception as error:
            self._fail(gid, body, _chord_error(f"Callback error: {error!r}", error))

    def _fail(self, gid: str, body: Any, error: ChordError) -> None:
        logger.error("Chord %r raised: %r", gid, error, exc_info=error)
        self._backend.chord_error_from_stack(body, error)

    def _header(self, gid: str) -> GroupResult | None:
        stored = self._results.get(self._header_key(gid))
        if stored is None:
            return None
        decoded = self._backend.decode(self._backend.text(stored.body))
        header: GroupResult = result_from_tuple(decoded, self._backend.app)
        return header

    def _header_key(self, gid: str) -> str:
        return f"{self._prefix(gid)}header"

    def _prefix(self, gid: str) -> str:
        return f"{self._backend.full_key(self._backend.get_key_for_chord(gid))}/"


def _task_ids(results: Iterable[ResultBase]) -> Iterator[str]:
    """Yield the ids of the tasks that return to a header, in order."""
    for result in results:
        if isinstance(result, ResultSet):
            yield from _task_ids(result.results)
        else:
            yield result.id


def _last_tasks(signature: Any, app: Any) -> Iterator[Any]:
    """Yield the tasks whose end is the end of `signature`: those that return to its chord."""
    signature = maybe_signature(signature, app=app)
    if isinstance(signature, group):
        for task in signature.tasks:
            yield from _last_tasks(task, app)
    elif isinstance(signature, chord):
        yield from _last_tasks(signature.body, app)
    elif isinstance(signature, chain):
        yield from _last_tasks(signature.tasks[-1], app)
    else:
        yield signature


def _chord_error(message: str, cause: BaseException) -> ChordError:
    error = ChordError(message)
    error.__cause__ = cause
    return error

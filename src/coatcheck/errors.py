"""The error tree: one class for each thing a caller can do about a failure.

Every error has a stable `code` for programs, says whether trying again later can help
(`transient`), pickles, and ends its message with what to do. Messages name buckets, keys and
request ids; they never hold a secret, nor a digest that the caller did not hand in.
"""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Where and how an operation failed. Every field may be unknown (None)."""

    operation: str | None = None
    bucket: str | None = None
    key: str | None = None
    status: int | None = None
    server_code: str | None = None
    request_id: str | None = None
    attempts: int | None = None
    elapsed_seconds: float | None = None

    def __str__(self) -> str:
        parts: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            shown = f"{value:.2f}" if isinstance(value, float) else printable(str(value))
            parts.append(f"{field.name}={shown}")
        return ", ".join(parts)


def printable(text: str, limit: int = 1100) -> str:
    """Return `text` fit for a log line: control characters escaped, cut after `limit` characters.

    Server replies, keys and claims are data from strangers; a newline in one must not forge a
    second log line.
    """
    shown = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= limit else f"{shown[:limit]}..."


class CoatcheckError(Exception):
    """The root of every error that coatcheck raises on purpose.

    `remedy` is a sentence on what to do, the class's own where none is given; `diagnostics` says
    where it happened; both are part of `str(error)`.
    """

    code: ClassVar[str] = "error"
    transient: ClassVar[bool] = False
    usual_remedy: ClassVar[str] = ""

    def __init__(
        self, message: str, *, remedy: str = "", diagnostics: Diagnostics | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.usual_remedy
        self.diagnostics = diagnostics or Diagnostics()

    def __str__(self) -> str:
        context = str(self.diagnostics)
        text = f"{self.message} [{context}]" if context else self.message
        return f"{text}. {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (Celery, multiprocessing): keyword-only arguments and the
        # built-in bases both defeat the pickling that Exception would do by itself.
        return (_rebuild, (type(self), self.message, self.remedy, self.diagnostics))

    def having(self, **known: object) -> Self:
        """Return this error with the named diagnostics filled in where they are still unknown."""
        unknown = {
            name: value for name, value in known.items() if getattr(self.diagnostics, name) is None
        }
        self.diagnostics = replace(self.diagnostics, **unknown)  # type: ignore[arg-type] # by name
        return self


def _rebuild(
    kind: type[CoatcheckError], message: str, remedy: str, diagnostics: Diagnostics
) -> CoatcheckError:
    return kind(message, remedy=remedy, diagnostics=diagnostics)


class NotFound(CoatcheckError, FileNotFoundError):
    """There is no such object. Trying again will not help."""

    code = "not_found"
    usual_remedy = "Check the key or the claim, and whether somebody deleted the object"


class BucketNotFound(NotFound):
    """There is no such bucket."""

    code = "bucket_not_found"
    usual_remedy = "Check the bucket's name and the endpoint, or create the bucket"


class Expired(CoatcheckError):
    """The object's life is over: its claim was valid once and must not be used any more."""

    code = "expired"
    usual_remedy = "Store the payload again"


class Forbidden(CoatcheckError, PermissionError):
    """The credentials are wrong, or may not do this."""

    code = "forbidden"
    usual_remedy = "Check the keys, and their permissions on this bucket and key"


class Corrupt(CoatcheckError, ValueError):
    """What is stored is not what was put there. The bytes were withheld."""

    code = "corrupt"
    usual_remedy = "Store it again, and find out who else writes to this place"


class TooLarge(CoatcheckError, ValueError):
    """A payload, object or reply is over a limit that was set."""

    code = "too_large"
    usual_remedy = "Raise the limit, if that is meant to be"


class ClaimRejected(CoatcheckError, ValueError):
    """A claim is malformed, or names a store that this reader was not told of. Nothing was sent."""

    code = "claim_rejected"
    usual_remedy = "Hand over the claim as it was given out, to the store that it names"


class Conflict(CoatcheckError):
    """Somebody else changed the object first: a condition on the write did not hold."""

    code = "conflict"
    usual_remedy = "Read the object again, and decide anew"


class Throttled(CoatcheckError):
    """The server asked for fewer requests, and still did after every retry."""

    code = "throttled"
    transient = True
    usual_remedy = "Try again later, with fewer requests at once"


class Unavailable(CoatcheckError, ConnectionError):
    """The server could not be reached, or failed, and still did after every retry."""

    code = "unavailable"
    transient = True
    usual_remedy = "Try again later; if it lasts, check the server and the endpoint"


class DeadlineExceeded(CoatcheckError, TimeoutError):
    """The operation did not finish in its time."""

    code = "deadline_exceeded"
    transient = True
    usual_remedy = "Give it more time with request_timeout_seconds, or try again"


class Unsupported(CoatcheckError):
    """The server does not understand a request that coatcheck needs."""

    code = "unsupported"
    usual_remedy = "Check the endpoint: coatcheck doctor shows what the server there can do"


class ConfigError(CoatcheckError, ValueError):
    """A setting, URL or argument cannot be right."""

    code = "config"
    usual_remedy = "Correct the setting, URL or argument"

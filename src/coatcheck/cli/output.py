"""What commands say: the same things in words (`text`) and for programs (`jsonlines`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol, Self

from coatcheck.errors import CoatcheckError
from coatcheck.objects.doctor.finding import Finding
from coatcheck.payloads.claim import Claim
from coatcheck.payloads.store import StoredPayload
from coatcheck.types import ObjectInfo


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a command did not succeed. `code` is that of `coatcheck.errors`, or "interrupted",
    "bug"; `context` says where it happened, as far as that is known."""

    code: str
    message: str
    remedy: str = ""
    transient: bool = False
    context: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, error: CoatcheckError) -> Self:
        """Take over what `error` says."""
        context: dict[str, object] = {}
        for item in fields(error.diagnostics):
            value = getattr(error.diagnostics, item.name)
            if value is not None:
                context[item.name] = round(value, 3) if isinstance(value, float) else value
        return cls(error.code, error.message, error.remedy, error.transient, context)


class Output(Protocol):
    """Where results go, standard output, and problems, standard error."""

    def stored(self, claim: Claim, location: str) -> None:
        """Tell that a payload was stored."""
        ...

    def fetched(self, claim: Claim, file: str) -> None:
        """Tell that a payload was written to a file."""
        ...

    def listed(self, payloads: Iterable[StoredPayload], location: str) -> None:
        """Tell what lies in a store, one by one as it comes."""
        ...

    def described(self, claim: Claim, info: ObjectInfo, location: str) -> None:
        """Tell what is known about a payload."""
        ...

    def examined(self, findings: Sequence[Finding], location: str) -> None:
        """Tell what an examination has shown."""
        ...

    def failed(self, problem: Problem) -> None:
        """Tell why the command does not succeed."""
        ...

    def warned(self, message: str) -> None:
        """Tell something that the user should know though the command succeeds."""
        ...

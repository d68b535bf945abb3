"""What every act plays on: the S3 server, the screen, and the promise that all is cleared away."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar

from coatcheck.testing import S3Server
from demo.interruption import Interruption
from demo.screen import Screen

T = TypeVar("T")


class Failed(Exception):
    """An act could not be played to its end; the message says why, for people."""


@dataclass(frozen=True)
class Stage:
    """Handed to each act."""

    s3: S3Server
    screen: Screen
    interruption: Interruption
    resources: ExitStack

    def start(self, what: str, resource: Callable[[], AbstractContextManager[T]]) -> T:
        """Enter `resource`, showing that it takes its time; it is left when the demo ends."""
        with self.screen.step(f"Starting {what}"):
            return self.resources.enter_context(resource())


class Outcome(Protocol):
    """What an act has to show for itself."""

    @property
    def problems(self) -> list[str]:
        """What was not as it must be; empty if all went well."""

    def show(self, screen: Screen) -> None:
        """Print it for people."""

    def to_json(self) -> Mapping[str, object]:
        """Return it for programs."""


Act = Callable[[Stage], Outcome]

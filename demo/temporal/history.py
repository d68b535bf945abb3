"""What a workflow's history holds in place of its payloads."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.json_format import Parse
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.sdk.v1 import ExternalStorageReference


@dataclass(frozen=True)
class Reference:
    """A payload that was put away, as the history knows it."""

    role: str
    """What the payload is, such as "workflow input"."""
    size_bytes: int
    """The payload's size, as the history states it."""
    claim: Mapping[str, str]
    """What stands in the payload's place."""
    reference_bytes: int
    """What that takes up in the history."""

    @property
    def key(self) -> str:
        """The key of the object that holds the payload."""
        return self.claim["key"]


def references_in(events: Iterable[HistoryEvent]) -> Iterator[Reference]:
    """Yield the payloads of a history that were put away, in the order of its events."""
    for role, payload in _payloads(events):
        if payload.external_payloads:
            reference = Parse(payload.data, ExternalStorageReference())
            yield Reference(
                role,
                payload.external_payloads[0].size_bytes,
                dict(reference.claim_data),
                payload.ByteSize(),
            )


def _payloads(events: Iterable[HistoryEvent]) -> Iterator[tuple[str, Payload]]:
    """Yield each payload of the events that the demo's workflow has, and its role."""
    activities: dict[int, str] = {}
    for event in events:
        match event.WhichOneof("attributes"):
            case "workflow_execution_started_event_attributes":
                started = event.workflow_execution_started_event_attributes
                yield from _each("workflow input", started.input.payloads)
            case "activity_task_scheduled_event_attributes":
                scheduled = event.activity_task_scheduled_event_attributes
                name = activities[event.event_id] = scheduled.activity_type.name
                yield from _each(f"{name} input", scheduled.input.payloads)
            case "activity_task_completed_event_attributes":
                completed = event.activity_task_completed_event_attributes
                name = activities[completed.scheduled_event_id]
                yield from _each(f"{name} result", completed.result.payloads)
            case "workflow_execution_completed_event_attributes":
                ended = event.workflow_execution_completed_event_attributes
                yield from _each("workflow output", ended.result.payloads)


def _each(role: str, payloads: Iterable[Payload]) -> Iterator[tuple[str, Payload]]:
    for payload in payloads:
        yield role, payload

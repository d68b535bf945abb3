"""Interrupts code at each of the places where CPython runs signal handlers, one after the other.

CPython looks for signals when a function begins or a generator goes on (a coroutine that awaits
another does not: the innermost one does), when a loop jumps back, and when a call of a C function
returns. A trace function that raises there is told from a signal
handler that raises there by nobody.
"""

import dis
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

RESUME_AFTER_YIELD_FROM = 2


class Checkpoints:
    """Counts the checkpoints that a call passes in certain files, and raises at the one wanted."""

    def __init__(self, files: frozenset[str], wanted: int, error: BaseException) -> None:
        self._files = files
        self._left = wanted
        self._error = error
        self._operations: dict[FrameType, str] = {}
        self._called_python: set[FrameType | None] = set()
        self.place = ""
        self.is_entry = False

    def run(self, call: Callable[[], object]) -> None:
        """Run `call`; whatever it raises comes out."""
        outer = sys.gettrace()
        sys.settrace(self._enter)
        try:
            call()
        finally:
            sys.settrace(outer)

    def _enter(self, frame: FrameType, event: str, _arg: object) -> Any:
        self._called_python.add(frame.f_back)
        code, place = frame.f_code.co_code, frame.f_lasti
        if dis.opname[code[place]] == "RESUME" and code[place + 1] & 3 < RESUME_AFTER_YIELD_FROM:
            self._operations[frame] = "RESUME"
        else:
            self._operations.pop(frame, None)
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "opcode":
            last = self._operations.get(frame, "")
            code = frame.f_code.co_code
            self._operations[frame] = dis.opname[code[frame.f_lasti]]
            called_python = frame in self._called_python
            self._called_python.discard(frame)
            if frame.f_lineno is None:
                return self._step  # a generator that is thrown away
            if last in ("RESUME", "JUMP_BACKWARD") or (
                last.startswith("CALL") and not called_python
            ):
                self._left -= 1
                if self._left == 0:
                    where = frame.f_code
                    self.is_entry = last == "RESUME"
                    self.place = f"{where.co_filename}:{frame.f_lineno} in {where.co_qualname}"
                    raise self._error
        return self._step

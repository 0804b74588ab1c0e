"""Count the instructions of code. Imports only `sys` and `types`, because imports are counted."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any


class Meter:
    """Counts the work of this thread within the block; the counts are reproducible.

    instructions: instructions of Python's bytecode. calls: calls of functions written in C.
    importlib's own work is excluded, because it depends on the location of the modules.
    """

    def __init__(self) -> None:
        self.instructions = 0
        self.calls = 0

    def __enter__(self) -> Meter:
        self._before = sys.gettrace(), sys.getprofile()
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        trace, profile = self._before
        sys.settrace(trace)
        sys.setprofile(profile)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:  # Any: sys.settrace's types
        if _is_importlib(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, arg: Any) -> Any:  # Any: sys.settrace's types
        self.instructions += event == "opcode"
        return self._step

    def _profile(self, frame: FrameType, event: str, arg: object) -> None:
        self.calls += event == "c_call" and not _is_importlib(frame)


def _is_importlib(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith("<frozen")

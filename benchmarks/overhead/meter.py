"""Counts what a piece of code does; `sys` and `types` alone, as imports are counted too."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any


class Meter:
    """Counts what this thread does within the block, the same every time.

    instructions: of Python's bytecode. calls: of functions written in C.
    importlib's own work is left out, as it depends on where the modules lie.
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

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:  # Any: as sys.settrace has it
        if _is_importlib(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, arg: Any) -> Any:  # Any: as above
        self.instructions += event == "opcode"
        return self._step

    def _profile(self, frame: FrameType, event: str, arg: object) -> None:
        self.calls += event == "c_call" and not _is_importlib(frame)


def _is_importlib(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith("<frozen")

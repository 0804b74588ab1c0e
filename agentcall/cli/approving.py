"""A person is asked whether a call may be carried out; without a person it may not."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

from agentcall.approval import Approved, Decision, Denied
from agentcall.cli.calltext import call_line
from agentcall.cli.faults import warn
from agentcall.cli.plain import is_terminal, line_of, styled
from agentcall.messages import ToolCall

_NOBODY = "nobody is there to approve it"


def decide(call: ToolCall, reason: str = "") -> Decision:
    """Asks at the terminal, also where standard input is a pipe; denies where there is none.

    `reason` is why somebody has to decide.
    """
    shown = call_line(call, most=1000)
    keyboard = _keyboard()
    if keyboard is None:
        why = f" ({line_of(reason)})" if reason else ""
        warn(f"denied {shown}: it needs approval{why}, and there is no terminal to ask at")
        return Denied(_NOBODY)
    try:
        return _asked(shown, reason, keyboard)
    finally:
        if keyboard is not sys.stdin:
            keyboard.close()


def _asked(shown: str, reason: str, keyboard: TextIO) -> Decision:
    sys.stderr.write(styled("approve", "yellow", sys.stderr) + f" {shown}\n")
    if reason:
        sys.stderr.write(f"  why: {line_of(reason)}\n")
    while True:
        said = _line("  yes, no, or the reason why not: ", keyboard)
        if said.lower() in ("y", "yes"):
            return Approved()
        if said.lower() in ("n", "no"):
            return Denied()
        if said:
            return Denied(said)


def _line(question: str, keyboard: TextIO) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    line = keyboard.readline()
    return line.strip() if line else "no"


def _keyboard() -> TextIO | None:
    """Where a person types, if one sees what is asked."""
    if not is_terminal(sys.stderr):
        return None
    if sys.stdin is not None and sys.stdin.isatty():
        return sys.stdin
    if os.name == "posix":
        with suppress(OSError):
            return open("/dev/tty", encoding="utf-8", errors="replace")  # noqa: PTH123
    return None

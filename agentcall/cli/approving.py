"""A person is asked whether a call may be carried out, and sees all of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TextIO

from agentcall.approval import Approved, Decision, Denied, Edited
from agentcall.cli.plain import is_terminal, line_of, styled
from agentcall.errors import UsageError

Check = Callable[[Edited], None]
"""Raises UsageError for edited arguments that do not fit."""

_CHOICES: dict[str, Decision] = {
    "y": Approved(),
    "yes": Approved(),
    "t": Approved(always="tool"),
    "tool": Approved(always="tool"),
    "c": Approved(always="call"),
    "call": Approved(always="call"),
    "n": Denied(),
    "no": Denied(),
}
_QUESTION = "  y(es) once, t(ool) always, this c(all) always, e(dit), n(o), or the reason why not: "


def can_ask() -> bool:
    """Whether a person is there, who sees what is asked."""
    with _keyboard() as keyboard:
        return keyboard is not None


def decide(shown: str, reason: str, check: Check) -> Decision:
    """Asks at the terminal, also where standard input is a pipe; denies where there is none.

    shown: the call, whole. reason: why somebody has to decide.
    """
    with _keyboard() as keyboard:
        if keyboard is None:
            return Denied("nobody is there to approve it")
        sys.stderr.write(styled("approve", "yellow", sys.stderr) + f" {shown}\n")
        if reason:
            sys.stderr.write(f"  why: {line_of(reason)}\n")
        return _asked(keyboard, check)


def _asked(keyboard: TextIO, check: Check) -> Decision:
    while True:
        said = _line(_QUESTION, keyboard)
        if said.lower() in ("e", "edit"):
            edited = _edited(keyboard, check)
            if edited is not None:
                return edited
        elif said:
            return _CHOICES.get(said.lower()) or Denied(said)


def _edited(keyboard: TextIO, check: Check) -> Edited | None:
    """Arguments that fit; None where none are given after all."""
    while said := _line("  the arguments instead, as JSON (nothing: as it was): ", keyboard, ""):
        try:
            check(Edited(said))
        except UsageError as error:
            sys.stderr.write(f"  {line_of(str(error))}\n")
        else:
            return Edited(said)
    return None


def _line(question: str, keyboard: TextIO, at_end: str = "no") -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    line = keyboard.readline()
    return line.strip() if line else at_end


@contextmanager
def _keyboard() -> Generator[TextIO | None, None, None]:
    """Where a person types, if one sees what is asked."""
    if not is_terminal(sys.stderr):
        yield None
    elif sys.stdin is not None and sys.stdin.isatty():
        yield sys.stdin
    else:
        with _terminal() as terminal:
            yield terminal


@contextmanager
def _terminal() -> Generator[TextIO | None, None, None]:
    """The terminal itself, where standard input is something else."""
    terminal: TextIO | None = None
    if os.name == "posix":
        with suppress(OSError):
            terminal = open("/dev/tty", encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115
    try:
        yield terminal
    finally:
        if terminal is not None:
            terminal.close()

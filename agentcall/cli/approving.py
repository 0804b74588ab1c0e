"""A person is asked whether a call may be carried out, and sees all of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TextIO

from agentcall.approval import Approved, Decision, Denied, Edited
from agentcall.cli.plain import is_terminal, styled
from agentcall.errors import UsageError
from agentcall.messages import ToolCall
from agentcall.plaintext import line_of, visible

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
_INSTEAD = "  the arguments instead, as JSON (nothing: as it was): "


class Person(Protocol):
    """Somebody who can be asked."""

    @property
    def is_there(self) -> bool:
        """Whether a person is there, who sees what is asked."""
        ...

    def say(self, question: str, begun: str = "") -> str | None:
        """What the person says, which may be begun for them; None at the end of all input."""
        ...


class Keyboard:
    """A person at the terminal, also where standard input is a pipe."""

    @property
    def is_there(self) -> bool:
        """Whether there is a terminal."""
        with _keyboard() as keyboard:
            return keyboard is not None

    def say(self, question: str, begun: str = "") -> str | None:
        """A line, typed from its beginning."""
        with _keyboard() as keyboard:
            if keyboard is None:
                return None
            sys.stderr.write(question)
            sys.stderr.flush()
            return keyboard.readline() or None


@dataclass(frozen=True, slots=True)
class Matter:
    """What is to be decided: the call, all of it as a person reads it, and why it needs one."""

    call: ToolCall
    shown: str
    reason: str


def decide(matter: Matter, person: Person, check: Check) -> Decision:
    """Asks a person; denies where there is none."""
    if not person.is_there:
        return Denied("nobody is there to approve it")
    sys.stderr.write(styled("approve", "yellow", sys.stderr) + f" {matter.shown}\n")
    if matter.reason:
        sys.stderr.write(f"  why: {line_of(matter.reason)}\n")
    sys.stderr.flush()
    while True:
        answer = person.say(_QUESTION)
        said = "no" if answer is None else answer.strip()
        if said.lower() in ("e", "edit"):
            edited = _edited(matter.call, person, check)
            if edited is not None:
                return edited
        elif said:
            return decision_in(said)


def decision_in(words: str) -> Decision:
    """The decision that the words are: one of the letters, or a reason why not."""
    return _CHOICES.get(words.lower()) or Denied(words)


def _edited(call: ToolCall, person: Person, check: Check) -> Edited | None:
    """Arguments that fit; None where none are given after all."""
    said = call.arguments
    while said := (person.say(_INSTEAD, visible(said)) or "").strip():
        try:
            check(Edited(said))
        except UsageError as error:
            sys.stderr.write(f"  {line_of(str(error))}\n")
        else:
            return Edited(said)
    return None


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

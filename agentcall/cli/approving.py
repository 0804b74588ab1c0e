"""A person is asked whether a call may be carried out, and sees all of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TextIO

from agentcall.approvals import Approved, Decision, Denied, Edited
from agentcall.cli.plain import is_terminal, style_text
from agentcall.display import escape_invisible, to_single_line
from agentcall.errors import UsageError
from agentcall.messages import ToolCall

EditValidator = Callable[[Edited], None]
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
_APPROVAL_QUESTION = (
    "  y(es) once, t(ool) always, this c(all) always, e(dit), n(o), or the reason why not: "
)
_EDIT_QUESTION = "  the arguments instead, as JSON (nothing: as it was): "


class Prompter(Protocol):
    """Somebody who can be asked."""

    @property
    def is_available(self) -> bool:
        """Whether a person is there, who sees what is asked."""
        ...

    def ask(self, question: str, default: str = "") -> str | None:
        """What the person says, which may be begun for them; None at the end of all input."""
        ...


class TerminalPrompter:
    """A person at the terminal, also where standard input is a pipe."""

    @property
    def is_available(self) -> bool:
        """Whether there is a terminal."""
        with _open_keyboard() as keyboard:
            return keyboard is not None

    def ask(self, question: str, default: str = "") -> str | None:
        """A line, typed from its beginning."""
        with _open_keyboard() as keyboard:
            if keyboard is None:
                return None
            sys.stderr.write(question)
            sys.stderr.flush()
            return keyboard.readline() or None


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """What is to be decided: the call, all of it as a person reads it, and why it needs one."""

    call: ToolCall
    call_text: str
    reason: str


def ask_for_decision(
    request: ApprovalRequest, prompter: Prompter, validate: EditValidator
) -> Decision:
    """Asks a person; denies where there is none."""
    if not prompter.is_available:
        return Denied("nobody is there to approve it")
    sys.stderr.write(style_text("approve", "yellow", sys.stderr) + f" {request.call_text}\n")
    if request.reason:
        sys.stderr.write(f"  why: {to_single_line(request.reason)}\n")
    sys.stderr.flush()
    while True:
        answer = prompter.ask(_APPROVAL_QUESTION)
        said = "no" if answer is None else answer.strip()
        if said.lower() in ("e", "edit"):
            edited = _ask_for_edit(request.call, prompter, validate)
            if edited is not None:
                return edited
        elif said:
            return parse_decision(said)


def parse_decision(text: str) -> Decision:
    """The decision that the words are: one of the letters, or a reason why not."""
    return _CHOICES.get(text.lower()) or Denied(text)


def _ask_for_edit(call: ToolCall, prompter: Prompter, validate: EditValidator) -> Edited | None:
    """Arguments that fit; None where none are given after all."""
    said = call.arguments
    while said := (prompter.ask(_EDIT_QUESTION, escape_invisible(said)) or "").strip():
        try:
            validate(Edited(said))
        except UsageError as error:
            sys.stderr.write(f"  {to_single_line(str(error))}\n")
        else:
            return Edited(said)
    return None


@contextmanager
def _open_keyboard() -> Generator[TextIO | None, None, None]:
    """Where a person types, if one sees what is asked."""
    if not is_terminal(sys.stderr):
        yield None
    elif sys.stdin is not None and sys.stdin.isatty():
        yield sys.stdin
    else:
        with _open_terminal() as terminal:
            yield terminal


@contextmanager
def _open_terminal() -> Generator[TextIO | None, None, None]:
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

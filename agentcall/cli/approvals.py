"""Decisions about calls that wait for approval: asked at a terminal, or read from options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO, cast

import orjson

from agentcall.approvals import Approved, Decision, Denied, Edited, Question
from agentcall.cli.options import DecisionOptions
from agentcall.cli.terminal import is_terminal, style_text
from agentcall.display import escape_invisible, format_full_call, to_single_line
from agentcall.errors import UsageError
from agentcall.messages import JSON, ToolCall
from agentcall.result import PendingCall, RunResult

EditValidator = Callable[[Edited], None]
"""Raises UsageError for edited arguments that do not fit the tool."""

ALL_CALLS = "all"
"""The id that means every pending call."""

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
_ANSWER_QUESTION = "  y(es), or the reason why not: "
_EDIT_QUESTION = "  new arguments as JSON (empty: leave it as it was): "


class Prompter(Protocol):
    """Asks a person."""

    @property
    def is_available(self) -> bool:
        """Whether a person is there and sees the question."""
        ...

    def ask(self, question: str, default: str = "") -> str | None:
        """Return the answer, or None at the end of input; `default` is editable text."""
        ...


class TerminalPrompter:
    """Asks a person at the terminal, even if standard input is a pipe."""

    @property
    def is_available(self) -> bool:
        """Whether there is a terminal."""
        with _open_keyboard() as keyboard:
            return keyboard is not None

    def ask(self, question: str, default: str = "") -> str | None:
        """Return a typed line; the default is ignored."""
        with _open_keyboard() as keyboard:
            if keyboard is None:
                return None
            sys.stderr.write(question)
            sys.stderr.flush()
            return keyboard.readline() or None


def ask_for_decision(
    pending: PendingCall, shown_call: str, prompter: Prompter, validate: EditValidator
) -> Decision:
    """Ask a person about a call; return Denied if nobody is there.

    shown_call: the complete call, as the person reads it.
    """
    if not prompter.is_available:
        return Denied("nobody is there to approve it")
    verb = "approve" if pending.question is None else "answer"
    sys.stderr.write(style_text(verb, "yellow", sys.stderr) + f" {shown_call}\n")
    if pending.reason:
        sys.stderr.write(f"  why: {to_single_line(pending.reason)}\n")
    sys.stderr.flush()
    if pending.question is not None:
        return _ask_for_answer(pending.question, prompter, validate)
    while True:
        line = prompter.ask(_APPROVAL_QUESTION)
        answer = "no" if line is None else line.strip()
        if answer.lower() in ("e", "edit"):
            edited = _ask_for_edit(pending.call, prompter, validate)
            if edited is not None:
                return edited
        elif answer:
            return parse_decision(answer)


def parse_decision(text: str) -> Decision:
    """Return the decision for an answer: one of the letters, or a reason why not."""
    return _CHOICES.get(text.lower()) or Denied(text)


def _ask_for_edit(call: ToolCall, prompter: Prompter, validate: EditValidator) -> Edited | None:
    """Ask until the arguments fit; return None for an empty answer."""
    text = call.arguments
    while text := (prompter.ask(_EDIT_QUESTION, escape_invisible(text)) or "").strip():
        try:
            validate(Edited(text))
        except UsageError as error:
            sys.stderr.write(f"  {to_single_line(str(error))}\n")
        else:
            return Edited(text)
    return None


def _ask_for_answer(question: Question, prompter: Prompter, validate: EditValidator) -> Decision:
    """Ask for each value of an answer until they fit; Denied if a required one is left out."""
    sys.stderr.write("  with the answer, the call is made again from its beginning\n")
    if question.schema is None:
        line = prompter.ask(_ANSWER_QUESTION)
        answer = "no" if line is None else line.strip()
        return Approved() if answer.lower() in ("y", "yes") else Denied(answer.lower())
    fields = cast("Mapping[str, Mapping[str, JSON]]", question.schema.get("properties") or {})
    required = cast("Sequence[str]", question.schema.get("required") or ())
    while True:
        values: dict[str, JSON] = {}
        for name, field in fields.items():
            text = (prompter.ask(f"  {_format_field(name, field, required)}: ") or "").strip()
            if text:
                values[name] = _parse_value(text, field)
            elif name in required:
                return Denied("the user did not answer")
        edited = Edited(values)
        try:
            validate(edited)
        except UsageError as error:
            sys.stderr.write(f"  {to_single_line(str(error))}\n")
        else:
            return edited


def _format_field(name: str, field: Mapping[str, JSON], required: Sequence[str]) -> str:
    """Return what a person is to enter, on one line: the server has written it."""
    choices = field.get("enum")
    kind = " or ".join(map(str, choices)) if isinstance(choices, list) else str(field.get("type"))
    note = "empty: no answer" if name in required else f"empty: {field.get('default', 'none')}"
    description = f", {field['description']}" if "description" in field else ""
    return to_single_line(f"{name} ({kind}{description}; {note})", 300)


def _parse_value(text: str, field: Mapping[str, JSON]) -> JSON:
    """Return what a person typed as a value of the field's type; if it is none, the text."""
    match field.get("type"):
        case "boolean":
            return text.lower() in ("y", "yes", "true", "1")
        case "integer" | "number":
            try:
                return cast("JSON", orjson.loads(text))
            except ValueError:
                return text
        case "array":
            return [item.strip() for item in text.split(",")]
        case _:
            return text


@contextmanager
def _open_keyboard() -> Generator[TextIO | None, None, None]:
    """Yield the person's input if the person sees standard error, else None."""
    if not is_terminal(sys.stderr):
        yield None
    elif sys.stdin is not None and sys.stdin.isatty():
        yield sys.stdin
    elif sys.platform == "win32":
        yield None
    else:  # standard input is a pipe, but the terminal itself may still be there
        terminal: TextIO | None = None
        with suppress(OSError):
            terminal = open("/dev/tty", encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115 - a device, closed by its owner
        try:
            yield terminal
        finally:
            if terminal is not None:
                terminal.close()


def format_pending_calls(
    result: RunResult[Any],  # Any: there is no output yet
) -> list[str]:
    """Return lines that show each pending call: its id, all of its arguments, and the reason."""
    lines: list[str] = []
    for pending in result.pending:
        call_id = pending.call.id
        shown = format_full_call(pending.call, result.get_agent_path(call_id))
        lines.append(f"waiting: {to_single_line(call_id)}  {shown}")
        if pending.reason:
            lines.append(f"  why: {to_single_line(pending.reason)}")
        schema = None if pending.question is None else pending.question.schema
        if schema is not None:
            fields = cast("Mapping[str, Mapping[str, JSON]]", schema.get("properties") or {})
            required = cast("Sequence[str]", schema.get("required") or ())
            described = (_format_field(name, field, required) for name, field in fields.items())
            lines.append(f"  answer it with --edit and JSON: {'; '.join(described)}")
    return lines


def parse_decision_options(
    options: DecisionOptions,
    result: RunResult[Any],  # Any: as above
) -> dict[str, Decision]:
    """Return the decisions by call id.

    Raises UsageError for a call that does not wait, and for two decisions about one.
    """
    ids = [pending.call.id for pending in result.pending]
    decisions: dict[str, Decision] = {}
    for call_id, decision in _iter_decisions(options, ids):
        if call_id in decisions:
            raise UsageError(f"there are two decisions about {call_id}; give one")
        decisions[call_id] = decision
    return decisions


def _iter_decisions(options: DecisionOptions, ids: list[str]) -> Iterator[tuple[str, Decision]]:
    approvals: list[tuple[list[str] | None, Decision]] = [
        (options.approve, Approved()),
        (options.always_tool, Approved(always="tool")),
        (options.always_call, Approved(always="call")),
    ]
    for texts, decision in approvals:
        for text in texts or ():
            for call_id, _ in _match_call_ids(text, ids, bare=True):
                yield call_id, decision
    for text in options.deny or ():
        for call_id, reason in _match_call_ids(text, ids):
            yield call_id, Denied(reason)
    for text in options.edit or ():
        for call_id, arguments in _match_call_ids(text, ids):
            yield call_id, Edited(arguments)


def _match_call_ids(text: str, ids: list[str], *, bare: bool = False) -> list[tuple[str, str]]:
    """Return the ids that `ID` or `ID=VALUE` names, each with the value."""
    known = [*ids, *([] if ALL_CALLS in ids else [ALL_CALLS])]
    # the longest first, as a model may have written an id with a "=" in it
    for call_id in sorted(known, key=len, reverse=True):
        if text == call_id or (not bare and text.startswith(f"{call_id}=")):
            value = text[len(call_id) + 1 :]
            return [(each, value) for each in (ids if call_id == ALL_CALLS else [call_id])]
    raise UsageError(f"{text!r} names no pending call; these are pending: {', '.join(known)}")

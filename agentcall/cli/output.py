"""Shows a run: the answer on standard output, everything else on standard error.

The answer streams, is written at the end, or is JSON. Beside it there are cards on a terminal,
lines elsewhere, or nothing.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

from agentcall.approvals import question_to_json
from agentcall.cli.options import RunOptions
from agentcall.cli.render import CardDisplay, LineDisplay, format_usage
from agentcall.cli.terminal import is_terminal, write_json, write_text
from agentcall.display import strip_control_characters
from agentcall.errors import ModelError
from agentcall.events import (
    AnswerDiscarded,
    Event,
    TextDelta,
    ToolCallFinished,
    ToolCallRefused,
    event_to_json,
)
from agentcall.messages import JSON, ToolCall, ToolResult, hide_image_data, to_json, usage_to_json
from agentcall.result import MissingOutput, RunResult, ToolCallRecord
from agentcall.tools.serialize import serialize, to_json_value

AnyRunResult = RunResult[Any]  # Any: only the user's agent knows its output type


class AnswerWriter(Protocol):
    """Writes the answer of a run to standard output."""

    def handle(self, event: Event) -> None:
        """Handle an event of the run."""
        ...

    def finish(self, result: AnyRunResult | None, error: ModelError | None) -> None:
        """Handle the end of the run."""
        ...


def choose_answer_writer(options: RunOptions) -> AnswerWriter:
    """Return the writer for the options."""
    if options.json:
        return ResultJSONWriter()
    if options.events:
        return EventJSONLinesWriter()
    return StreamingAnswerWriter() if is_terminal(sys.stdout) else FinalAnswerWriter()


class StreamingAnswerWriter:
    """Writes text as it arrives, for a terminal."""

    def __init__(self) -> None:
        self._is_line_open = False
        self._margin = ""

    def handle(self, event: Event) -> None:
        """Write a delta; end the line before anything else is shown."""
        match event:
            case TextDelta(text):
                text = strip_control_characters(text)
                if not self._is_line_open:
                    text = text.lstrip("\n")
                if text:
                    write_text(text if self._is_line_open else self._margin + text)
                    self._is_line_open, self._margin = True, ""
            case AnswerDiscarded():
                self._end_line(" [cut]")
            case ToolCallFinished():
                self._end_line()
                self._margin = "\n"
            case _:
                self._end_line()

    def finish(self, result: AnyRunResult | None, error: ModelError | None) -> None:
        """End the last line, and write an output that a call gave."""
        self._end_line()
        if result is not None and result.ended_by_call:
            write_text(strip_control_characters(serialize(result.answer)) + "\n")

    def _end_line(self, mark: str = "") -> None:
        if self._is_line_open:
            write_text(f"{mark}\n")
            self._is_line_open = False


class FinalAnswerWriter:
    """Writes only the final answer, at the end: for files and pipes."""

    def handle(self, event: Event) -> None:
        """Ignore the event."""

    def finish(self, result: AnyRunResult | None, error: ModelError | None) -> None:
        """Write the answer if there is one."""
        if result is None or isinstance(result.answer, MissingOutput):
            return
        if result.stop_reason != "cancelled":
            text = serialize(result.answer)
            write_text(text if text.endswith("\n") else text + "\n")


class EventJSONLinesWriter:
    """Writes each event as a line of JSON."""

    def handle(self, event: Event) -> None:
        """Write the event."""
        write_json(event_to_json(event))

    def finish(self, result: AnyRunResult | None, error: ModelError | None) -> None:
        """Write the error that ended the run, if there is one."""
        if error is not None:
            write_json({"type": "Error", "error": type(error).__name__, "message": str(error)})


class ResultJSONWriter:
    """Writes one JSON object at the end."""

    def handle(self, event: Event) -> None:
        """Ignore the event."""

    def finish(self, result: AnyRunResult | None, error: ModelError | None) -> None:
        """Write the result, as far as the run came, and the error."""
        document: dict[str, JSON] = {"output": None, "stop_reason": "error"}
        if result is not None:
            document = _result_to_json(result)
        if error is not None:
            document["error"] = {"type": type(error).__name__, "message": str(error)}
        write_json(document)


def _result_to_json(result: AnyRunResult) -> dict[str, JSON]:
    answer = result.answer
    document: dict[str, JSON] = {
        "output": None if isinstance(answer, MissingOutput) else to_json_value(answer),
        "stop_reason": result.stop_reason,
        "usage": usage_to_json(result.usage),
        "tool_calls": [_call_to_json(record) for record in result.tool_calls],
        "messages": [to_json(hide_image_data(message)) for message in result.messages],
    }
    if result.pending:
        document["run_id"] = result.run_id
        document["pending"] = [
            {
                "id": pending.call.id,
                "name": pending.call.name,
                "arguments": pending.call.args,
                "agent": pending.agent,
                "reason": pending.reason,
                **(
                    {}
                    if pending.question is None
                    else {"question": question_to_json(pending.question)}
                ),
            }
            for pending in result.pending
        ]
    if isinstance(answer, MissingOutput):
        document["reason"] = answer.reason
    return document


def _call_to_json(record: ToolCallRecord) -> dict[str, JSON]:
    result = record.result
    return {
        "id": record.id,
        "name": record.name,
        "arguments": record.args,
        "result": None if result is None else result.text,
        "is_error": None if result is None else result.is_error,
        "seconds": record.seconds,
    }


class ActivityDisplay(Protocol):
    """Shows what happens beside the answer."""

    def handle(self, event: Event) -> None:
        """Handle an event of the run."""
        ...

    def show_refusal(self, call: ToolCall, result: ToolResult) -> None:
        """Show a call that was answered without being executed."""
        ...

    def end(self, result: AnyRunResult, usage: str) -> None:
        """Show how the run ended, and its usage."""
        ...

    def clear(self) -> None:
        """Remove what moves, so that other text can be written."""
        ...


class SilentDisplay:
    """Shows nothing."""

    def handle(self, event: Event) -> None:
        """Ignore the event."""

    def show_refusal(self, call: ToolCall, result: ToolResult) -> None:
        """Ignore the call."""

    def end(self, result: AnyRunResult, usage: str) -> None:
        """Ignore the end."""

    def clear(self) -> None:
        """Do nothing."""


def choose_display(options: RunOptions) -> ActivityDisplay:
    """Return cards on a terminal, else lines; nothing with --quiet."""
    if options.quiet:
        return SilentDisplay()
    if is_terminal(sys.stderr):
        return CardDisplay(verbose=options.verbose)
    return LineDisplay(verbose=options.verbose)


class RunDisplay:
    """Shows one run on both streams, which may be the same terminal."""

    def __init__(self, writer: AnswerWriter, display: ActivityDisplay) -> None:
        self._writer = writer
        self._display = display
        self._decided_ids: set[str] = set()

    def handle(self, event: Event) -> None:
        """Show an event; the writer is first, as it ends a line before a card begins."""
        if isinstance(event, TextDelta):
            self._display.clear()
        self._writer.handle(event)
        self._display.handle(event)
        if isinstance(event, ToolCallRefused) and event.call.id not in self._decided_ids:
            self._display.show_refusal(event.call, event.result)

    def skip_refusal(self, call: ToolCall) -> None:
        """Do not show the refusal of a call that a person has decided about."""
        self._decided_ids.add(call.id)

    def end(self, result: AnyRunResult, seconds: float) -> None:
        """Show how the run ended, and its usage."""
        self._display.end(result, format_usage(result.usage, seconds))

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._display.clear()

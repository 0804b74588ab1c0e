"""What goes to standard output: the answer, as it streams or whole, or JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any, Protocol

import orjson

from agentcall.cli.plain import escape_json, is_terminal
from agentcall.cli.run import RunOptions
from agentcall.display import strip_control_characters
from agentcall.errors import ModelError
from agentcall.events import AnswerDiscarded, Event, TextDelta, ToolCallFinished, event_to_json
from agentcall.messages import JSON, ToolCall, ToolResult, encode_json, to_json
from agentcall.result import MissingOutput, RunResult
from agentcall.tools.serialize import serialize, to_json_value


class AnswerWriter(Protocol):
    """Shows a run on standard output."""

    def handle(self, event: Event) -> None:
        """Something happened."""
        ...

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """The run is over, well or with an error."""
        ...


def choose_answer_writer(options: RunOptions) -> AnswerWriter:
    """The answer in the form that the options ask for."""
    if options.json:
        return ResultJSONWriter()
    if options.events:
        return EventJSONLinesWriter()
    return StreamingAnswerWriter() if is_terminal(sys.stdout) else FinalAnswerWriter()


class StreamingAnswerWriter:
    """Text as it arrives, for a terminal."""

    def __init__(self) -> None:
        self._is_line_open = False
        self._margin = ""

    def handle(self, event: Event) -> None:
        """Writes a delta; ends the line before anything else is shown."""
        match event:
            case TextDelta(text):
                self._write_delta(strip_control_characters(text))
            case AnswerDiscarded():
                self._end_line(" [cut]")
            case ToolCallFinished():
                self._end_line()
                self._margin = "\n"
            case _:
                self._end_line()

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """Ends the last line."""
        self._end_line()

    def _write_delta(self, text: str) -> None:
        text = text if self._is_line_open else text.lstrip("\n")
        if text:
            _write(text if self._is_line_open else self._margin + text)
            self._is_line_open, self._margin = True, ""

    def _end_line(self, mark: str = "") -> None:
        if self._is_line_open:
            _write(f"{mark}\n")
            self._is_line_open = False


class FinalAnswerWriter:
    """The final answer alone, at the end: for files and pipes."""

    def handle(self, event: Event) -> None:
        """Waits."""

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """Writes the answer if there is one."""
        if result is None or isinstance(result.answer, MissingOutput):
            return
        if result.stop_reason == "cancelled":
            return
        text = serialize(result.answer)
        _write(text if text.endswith("\n") else text + "\n")


class EventJSONLinesWriter:
    """Each event as a line of JSON."""

    def handle(self, event: Event) -> None:
        """Writes it."""
        _write_json(event_to_json(event))

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """Says what broke the run, if anything did."""
        if error is not None:
            _write_json({"type": "Error", "error": type(error).__name__, "message": str(error)})


class ResultJSONWriter:
    """One JSON object at the end."""

    def handle(self, event: Event) -> None:
        """Waits."""

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """Writes it, whole or as far as it came."""
        document: dict[str, JSON] = {"output": None, "stop_reason": "error"}
        if result is not None:
            document = _result_to_json(result)
        if error is not None:
            document["error"] = {"type": type(error).__name__, "message": str(error)}
        _write_json(document)


def _result_to_json(result: RunResult[Any]) -> dict[str, JSON]:
    answer = result.answer
    document: dict[str, JSON] = {
        "output": None if isinstance(answer, MissingOutput) else to_json_value(answer),
        "stop_reason": result.stop_reason,
        "usage": asdict(result.usage),
        "tool_calls": [_call_to_json(call, done) for call, done in result.tool_calls],
        "messages": [to_json(message) for message in result.messages],
    }
    if result.pending:
        document["run_id"] = result.run_id
        document["pending"] = [
            {
                "id": pending.call.id,
                "name": pending.call.name,
                "arguments": orjson.loads(pending.call.arguments),
                "agent": pending.agent,
                "reason": pending.reason,
            }
            for pending in result.pending
        ]
    if isinstance(answer, MissingOutput):
        document["reason"] = answer.reason
    return document


def _call_to_json(call: ToolCall, result: ToolResult | None) -> dict[str, JSON]:
    return {
        "id": call.id,
        "name": call.name,
        "arguments": orjson.loads(call.arguments),
        "result": None if result is None else result.text,
        "is_error": None if result is None else result.is_error,
    }


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def _write_json(value: JSON) -> None:
    sys.stdout.buffer.write(escape_json(encode_json(value)) + b"\n")
    sys.stdout.buffer.flush()

"""What goes to standard output: the answer, as it streams or whole, or JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any, Protocol

import orjson

from agentcall.cli.plain import is_terminal, shown_json
from agentcall.cli.run import RunOptions
from agentcall.errors import ModelError
from agentcall.events import AnswerDiscarded, Event, TextDelta, ToolCallFinished, event_json
from agentcall.messages import JSON, ToolCall, ToolResult, encoded, to_json
from agentcall.plaintext import harmless
from agentcall.result import Missing, RunResult
from agentcall.snapshot import as_json, snapshot


class Answer(Protocol):
    """Shows a run on standard output."""

    def see(self, event: Event) -> None:
        """Something happened."""
        ...

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """The run is over, well or with an error."""
        ...


def answer_for(options: RunOptions) -> Answer:
    """The answer in the form that the options ask for."""
    if options.json:
        return Document()
    if options.events:
        return EventLines()
    return Streamed() if is_terminal(sys.stdout) else Whole()


class Streamed:
    """Text as it arrives, for a terminal."""

    def __init__(self) -> None:
        self._open = False
        self._margin = ""

    def see(self, event: Event) -> None:
        """Writes a delta; ends the line before anything else is shown."""
        match event:
            case TextDelta(text):
                self._write_delta(harmless(text))
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
        text = text if self._open else text.lstrip("\n")
        if text:
            _write(text if self._open else self._margin + text)
            self._open, self._margin = True, ""

    def _end_line(self, mark: str = "") -> None:
        if self._open:
            _write(f"{mark}\n")
            self._open = False


class Whole:
    """The final answer alone, at the end: for files and pipes."""

    def see(self, event: Event) -> None:
        """Waits."""

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """Writes the answer if there is one."""
        if result is None or isinstance(result.answer, Missing):
            return
        if result.stop_reason == "cancelled":
            return
        text = snapshot(result.answer)
        _write(text if text.endswith("\n") else text + "\n")


class EventLines:
    """Each event as a line of JSON."""

    def see(self, event: Event) -> None:
        """Writes it."""
        _write_json(event_json(event))

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """Says what broke the run, if anything did."""
        if error is not None:
            _write_json({"type": "Error", "error": type(error).__name__, "message": str(error)})


class Document:
    """One JSON object at the end."""

    def see(self, event: Event) -> None:
        """Waits."""

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """Writes it, whole or as far as it came."""
        document: dict[str, JSON] = {"output": None, "stop_reason": "error"}
        if result is not None:
            document = _document(result)
        if error is not None:
            document["error"] = {"type": type(error).__name__, "message": str(error)}
        _write_json(document)


def _document(result: RunResult[Any]) -> dict[str, JSON]:
    answer = result.answer
    document: dict[str, JSON] = {
        "output": None if isinstance(answer, Missing) else as_json(answer),
        "stop_reason": result.stop_reason,
        "usage": asdict(result.usage),
        "tool_calls": [_call_json(call, done) for call, done in result.tool_calls],
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
    if isinstance(answer, Missing):
        document["reason"] = answer.reason
    return document


def _call_json(call: ToolCall, done: ToolResult | None) -> dict[str, JSON]:
    return {
        "id": call.id,
        "name": call.name,
        "arguments": orjson.loads(call.arguments),
        "result": None if done is None else done.text,
        "is_error": None if done is None else done.is_error,
    }


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def _write_json(value: JSON) -> None:
    sys.stdout.buffer.write(shown_json(encoded(value)) + b"\n")
    sys.stdout.buffer.flush()

"""What goes to standard output: the answer, as it streams or whole, or JSON."""

from __future__ import annotations

import sys
from typing import Any, Protocol

import orjson

from agentcall.cli.plain import harmless, is_terminal
from agentcall.cli.run import RunOptions
from agentcall.errors import ModelError
from agentcall.events import AnswerDiscarded, Event, TextDelta, event_json
from agentcall.messages import JSON, ToolCall, ToolResult, to_json
from agentcall.result import Missing, RunResult
from agentcall.snapshot import snapshot


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
        self._column = 0

    def see(self, event: Event) -> None:
        """Writes a delta; ends the line before anything else is shown."""
        if isinstance(event, TextDelta):
            text = harmless(event.text)
            text = text if self._column else text.lstrip("\n")
            _write(text)
            self._column = 0 if text.endswith("\n") else self._column + len(text)
        elif self._column:
            _write(" [cut]\n" if isinstance(event, AnswerDiscarded) else "\n")
            self._column = 0

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """Ends the last line."""
        if self._column:
            _write("\n")
            self._column = 0


class Whole:
    """The final answer alone, at the end: for files and pipes."""

    def see(self, event: Event) -> None:
        """Waits."""

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """Writes the answer if there is one."""
        if result is None or isinstance(result.answer, Missing):
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
    usage = {name: getattr(result.usage, name) for name in type(result.usage).__slots__}
    document: dict[str, JSON] = {
        "output": None if isinstance(answer, Missing) else _json_of(answer),
        "stop_reason": result.stop_reason,
        "usage": usage,
        "tool_calls": [_call_json(call, done) for call, done in result.tool_calls],
        "messages": [to_json(message) for message in result.messages],
    }
    if isinstance(answer, Missing):
        document["reason"] = answer.reason
    return document


def _json_of(answer: object) -> JSON:
    return answer if isinstance(answer, str) else orjson.loads(snapshot(answer))


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
    sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
    sys.stdout.buffer.flush()

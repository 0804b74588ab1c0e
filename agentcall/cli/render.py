"""Displays of a run: cards with a spinner on a terminal, plain lines for logs and pipes."""

from __future__ import annotations

from time import monotonic
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.status import Status
from rich.text import Text

from agentcall.cli.errors import describe_ending
from agentcall.cli.terminal import write_note
from agentcall.dialects.constrained.call_expression import is_plan
from agentcall.display import (
    format_arguments,
    format_call,
    strip_control_characters,
    to_single_line,
)
from agentcall.events import (
    AnswerDiscarded,
    ContextCompacted,
    ContextTrimmed,
    DialectChosen,
    Event,
    HandedOver,
    LoopDetected,
    MessageReceived,
    MessagesOmitted,
    ModelProgress,
    Nested,
    RunBlocked,
    ServerAdapted,
    ThinkingDelta,
    ToolCallFinished,
    ToolCallRepaired,
    ToolCallStarted,
    ToolProgress,
)
from agentcall.messages import ToolCall, ToolResult, Usage
from agentcall.result import RunResult


def format_usage(usage: Usage, seconds: float) -> str:
    """Return one line: requests, tokens in and out, tokens per second, tool calls, seconds."""
    rate = usage.tokens_per_second
    parts = [
        format_count(usage.requests, "request"),
        f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out",
        *([f"{rate:.1f} tokens/s"] if rate else []),
        format_count(usage.tool_calls, "tool call"),
        f"{seconds:.1f} s",
    ]
    return " · ".join(parts)


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 request`, `2 requests`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """Return a duration in few characters: `20 ms`, `1.5 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


_MAX_ARGUMENTS, _MAX_RESULT = 200, 200


class LineDisplay:
    """Writes a line to standard error for each thing that happens."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._dialect = ""
        self._adapted: set[str] = set()

    def handle(self, event: Event) -> None:
        """Write a line for an event that needs one."""
        match event:
            case DialectChosen(dialect, reason) if self._verbose and dialect != self._dialect:
                self._dialect = dialect
                write_note(f"dialect: {dialect} ({reason})")
            case ServerAdapted(name, reason):
                if name not in self._adapted:
                    self._adapted.add(name)
                    write_note(f"server: {name}: {reason}")
            case ToolCallFinished(call, result, seconds):
                self._write_call(call, result, seconds)
            case ToolProgress():
                self._write_progress(event)
            case ToolCallRepaired(call, rule, before, after):
                change = f": {before} -> {after}" if self._verbose else ""
                write_note(f"repaired: {call.name}: {rule}{change}")
            case Nested(agent, _, inner):
                self._handle_nested_event(agent, inner)
            case _:
                if notice := _describe_notice(event):
                    write_note(notice)

    def _handle_nested_event(self, agent: str, event: Event) -> None:
        match event:
            case Nested(other, _, inner):
                self._handle_nested_event(f"{agent}/{other}", inner)
            case ToolCallFinished(call, result, seconds):
                self._write_call(call, result, seconds, f"{agent}: ")
            case ToolProgress():
                self._write_progress(event, f"{agent}: ")
            case _:
                pass

    def show_refusal(self, call: ToolCall, result: ToolResult) -> None:
        """Write which call was not executed, and why."""
        shown = format_call(call, _MAX_ARGUMENTS)
        write_note(f"not called: {shown}: {to_single_line(result.text, self._limit)}")

    def end(self, result: RunResult[Any], usage: str) -> None:
        """Write how the run ended, and its usage."""
        if ending := describe_ending(result):
            write_note(ending)
        write_note(usage)

    def clear(self) -> None:
        """Do nothing: lines do not move."""

    def _write_progress(self, progress: ToolProgress, agent: str = "") -> None:
        write_note(f"tool: {agent}{progress.call.name}: {progress.format(self._limit)}")

    def _write_call(
        self, call: ToolCall, result: ToolResult, seconds: float, agent: str = ""
    ) -> None:
        arrow = "error:" if result.is_error else "->"
        text = to_single_line(result.text, self._limit)
        shown = format_call(call, _MAX_ARGUMENTS)
        write_note(f"tool: {agent}{shown} {arrow} {text} ({format_duration(seconds)})")

    @property
    def _limit(self) -> int | None:
        return None if self._verbose else _MAX_RESULT


_MAX_RESULT_LINES = 4


class CardDisplay:
    """Shows a run as cards on standard error or another console.

    verbose: show all thinking and complete results.
    """

    def __init__(self, *, verbose: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._verbose = verbose
        self._spinner = WaitSpinner(self._console)
        self._thinking = ThinkingText()
        self._dialect = ""
        self._adapted: set[str] = set()
        self._running: dict[str, str] = {}
        self._repairs: dict[str, list[ToolCallRepaired]] = {}

    def handle(self, event: Event) -> None:
        """Show an event; the spinner shows what the run waits for."""
        if not isinstance(event, ThinkingDelta):
            self._show_thinking()
        match event:
            case DialectChosen() | ServerAdapted() | ModelProgress():
                self._handle_preparation(event)
            case ThinkingDelta(text):
                self._thinking.add(text)
                self._spinner.show(f"thinking: {self._thinking.tail}")
            case ToolCallStarted(call):
                self._running[call.id] = to_single_line(call.name, 40)
                self._spinner.show(f"running {', '.join(self._running.values())}")
            case ToolProgress(call):
                name = to_single_line(call.name, 40)
                self._spinner.show(f"running {name}: {event.format(_MAX_RESULT)}")
            case ToolCallFinished(call, result, seconds):
                self._show_call(call, result, seconds)
            case Nested(agent, _, inner):
                self._show_nested_event(agent, inner)
            case ToolCallRepaired(call):
                self._repairs.setdefault(call.id, []).append(event)
            case _:
                if notice := _describe_notice(event):
                    self._console.print(Text(to_single_line(notice), "yellow"))

    def show_refusal(self, call: ToolCall, result: ToolResult) -> None:
        """Show the card of a call that was answered without being executed."""
        self._show_card(call, Text("not called", "yellow"), result.text)

    def end(self, result: RunResult[Any], usage: str) -> None:
        """Show how the run ended, and its usage."""
        self.clear()
        if ending := describe_ending(result):
            self._console.print(Text(to_single_line(ending), "yellow"))
        self._console.print(Text(f"\n{usage}", "dim"))

    def clear(self) -> None:
        """Remove the spinner."""
        self._show_thinking()
        self._spinner.hide()

    def _show_dialect(self, dialect: str, reason: str) -> None:
        if self._verbose and dialect != self._dialect:
            self._console.print(Text(to_single_line(f"dialect {dialect}: {reason}"), "dim"))
        self._dialect = dialect

    def _show_adaptation(self, name: str, reason: str) -> None:
        if name not in self._adapted:
            self._adapted.add(name)
            self._console.print(Text(to_single_line(f"server: {name}: {reason}"), "dim"))

    def _handle_preparation(self, event: DialectChosen | ServerAdapted | ModelProgress) -> None:
        """Show what happens before an answer."""
        match event:
            case DialectChosen(dialect, reason):
                self._show_dialect(dialect, reason)
                self._spinner.show("waiting for the model")
            case ServerAdapted(name, reason):
                self._show_adaptation(name, reason)
            case ModelProgress():
                self._show_progress(event)

    def _show_progress(self, progress: ModelProgress) -> None:
        if progress.stage == "fetching":
            self._spinner.hide()  # the download shows a bar of its own
        else:
            self._spinner.show(progress.format())

    def _show_thinking(self) -> None:
        if self._thinking:
            shown = self._thinking.full_text if self._verbose else self._thinking.summary
            self._console.print(Text(shown, "dim italic"))
            self._thinking = ThinkingText()

    def _show_call(self, call: ToolCall, result: ToolResult, seconds: float) -> None:
        self._running.pop(call.id, None)
        if self._running:
            self._spinner.show(f"running {', '.join(self._running.values())}")
        else:
            self._spinner.hide()
        state = _format_state(result)
        state.append(f" {format_duration(seconds)}", "not bold dim default")
        self._show_card(call, state, result.text)

    def _show_card(self, call: ToolCall, state: Text, result: str) -> None:
        name = to_single_line(call.name, 80)
        width = 10_000 if self._verbose else self._console.width - len(name) - len(state.plain) - 7
        arguments = format_arguments(call.arguments, max(20, width))
        head = Text("▸ ", "cyan").append(name, "bold cyan")
        head.append(f"({arguments})  ", "default").append_text(state)
        self._console.print(head)
        for repair in self._repairs.pop(call.id, ()):
            self._console.print(Padding(self._format_repair(repair), (0, 0, 0, 2)))
        self._console.print(Padding(Text(self._shorten(result)), (0, 0, 0, 2)))

    def _format_repair(self, repair: ToolCallRepaired) -> Text:
        shown = Text("repaired ", "yellow").append(to_single_line(repair.rule), "yellow")
        limit = None if self._verbose else 100
        change = f": {to_single_line(repair.before, limit)} → {to_single_line(repair.after, limit)}"
        return shown.append(change, "dim")

    def _show_nested_event(self, agent: str, event: Event) -> None:
        """Show a line for each call of an agent that is a tool."""
        match event:
            case Nested(other, _, inner):
                self._show_nested_event(f"{agent}/{other}", inner)
            case ToolCallFinished(call, result, seconds):
                line = Text(f"  {to_single_line(agent, 40)} ▸ ", "dim cyan")
                line.append(format_call(call, 60)).append("  ").append_text(_format_state(result))
                self._console.print(line.append(f" {format_duration(seconds)}", "dim"))
            case ToolProgress(call):
                name = to_single_line(f"{agent}: {call.name}", 80)
                self._spinner.show(f"running {name}: {event.format(_MAX_RESULT)}")
            case _:
                pass

    def _shorten(self, text: str) -> str:
        """Return the first lines of a result, none wider than the terminal."""
        lines = strip_control_characters(text).expandtabs(4).strip("\n").split("\n")
        if self._verbose:
            return "\n".join(lines)
        width = max(20, self._console.width - 4)
        shown = [line if len(line) <= width else line[: width - 1] + "…" for line in lines]
        more = len(lines) - _MAX_RESULT_LINES
        if more <= 1:
            return "\n".join(shown)
        return "\n".join([*shown[:_MAX_RESULT_LINES], f"… {more} more lines"])


def _describe_notice(event: Event) -> str:
    """Return one line about an event that changed the run's course; "" for other events."""
    match event:
        case LoopDetected(call, reason):
            return f"loop: {call.name}: {reason}"
        case AnswerDiscarded(reason):
            return f"discarded: {reason}"
        case HandedOver(agent, other):
            return f"handed over: {agent} to {other}"
        case MessageReceived(text):
            return f"received: {to_single_line(text)}"
        case RunBlocked(reason):
            return f"blocked: {reason}"
        case MessagesOmitted(count):
            return f"left out: the {count} oldest messages, to fit the model's window"
        case ContextCompacted(before, after):
            return f"compacted: {before} messages to {after}, to fit the model's window"
        case ContextTrimmed(call_id, before, after):
            return f"trimmed: the result of {call_id} from {before:,} to {after:,} characters"
        case _:
            return ""


def _format_state(result: ToolResult) -> Text:
    return Text("error", "bold red") if result.is_error else Text("ok", "green")


class ThinkingText:
    """The model's thinking since its last answer or call."""

    def __init__(self) -> None:
        self._text = ""
        self._since = self._until = 0.0

    def __bool__(self) -> bool:
        return bool(self._text.strip())

    def add(self, text: str) -> None:
        """Append thinking; its time begins with its first piece, not with the waiting for it."""
        self._until = monotonic()
        self._since = self._since or self._until
        self._text += text

    @property
    def tail(self) -> str:
        """The last characters, for the spinner."""
        return to_single_line(self._text[-60:])

    @property
    def full_text(self) -> str:
        """All of it."""
        return strip_control_characters(self._text).strip()

    @property
    def summary(self) -> str:
        """The first words, and how long they took to write if they are not a plan."""
        text = to_single_line(self._text, 72)
        if is_plan(self._text):
            return f"plan: {text}"
        return f"thought for {format_duration(self._until - self._since)}: {text}"


class WaitSpinner:
    """A spinner that shows what the run waits for."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def show(self, text: str) -> None:
        """Show the spinner with this text."""
        shown = Text(text, "dim", no_wrap=True, overflow="ellipsis")
        if self._status is None:
            self._status = Status(shown, console=self._console, spinner_style="cyan")
            self._status.start()
        else:
            self._status.update(shown)

    def hide(self) -> None:
        """Remove the spinner."""
        if self._status is not None:
            self._status.stop()
            self._status = None

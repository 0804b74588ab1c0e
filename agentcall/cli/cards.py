"""Cards of tool calls, folded thinking and a spinner: a run on a terminal."""

from __future__ import annotations

from time import monotonic
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.status import Status
from rich.text import Text

from agentcall.cli.endings import describe_ending
from agentcall.cli.tally import format_duration
from agentcall.display import (
    format_arguments,
    format_call,
    strip_control_characters,
    to_single_line,
)
from agentcall.events import (
    AnswerDiscarded,
    ContextTrimmed,
    DialectChosen,
    Event,
    HandedOver,
    LoopDetected,
    Nested,
    ThinkingDelta,
    ToolCallFinished,
    ToolCallRepaired,
    ToolCallStarted,
)
from agentcall.messages import ToolCall, ToolResult
from agentcall.result import RunResult

_MAX_RESULT_LINES = 4


class CardDisplay:
    """Shows a run on standard error, or elsewhere; `whole` unfolds thinking and results."""

    def __init__(self, *, verbose: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._verbose = verbose
        self._spinner = WaitSpinner(self._console)
        self._thinking = ThinkingText()
        self._dialect = ""
        self._running: dict[str, str] = {}
        self._repairs: dict[str, list[ToolCallRepaired]] = {}

    def handle(self, event: Event) -> None:
        """Shows what happened, and what is waited for now."""
        if not isinstance(event, ThinkingDelta):
            self._show_thinking()
        match event:
            case DialectChosen(dialect, reason):
                self._show_dialect(dialect, reason)
                self._spinner.show("waiting for the model")
            case ThinkingDelta(text):
                self._thinking.add(text)
                self._spinner.show(f"thinking: {self._thinking.tail}")
            case ToolCallStarted(call):
                self._running[call.id] = to_single_line(call.name, 40)
                self._spinner.show(f"running {', '.join(self._running.values())}")
            case ToolCallFinished(call, result, seconds):
                self._show_call(call, result, format_duration(seconds))
            case Nested(agent, _, inner):
                self._show_nested_event(agent, inner)
            case ToolCallRepaired(call):
                self._repairs.setdefault(call.id, []).append(event)
            case _:
                self._show_notice(event)

    def show_refusal(self, call: ToolCall, result: ToolResult) -> None:
        """A card of a call that was answered without being carried out."""
        self._show_card(call, Text("not called", "yellow"), result.text)

    def end(self, result: RunResult[Any], usage: str) -> None:
        """Says how it ended and what it took."""
        self.clear()
        if words := describe_ending(result):
            self._console.print(Text(to_single_line(words), "yellow"))
        self._console.print(Text(f"\n{usage}", "dim"))

    def clear(self) -> None:
        """Takes the spinner away."""
        self._show_thinking()
        self._spinner.hide()

    def _show_dialect(self, dialect: str, reason: str) -> None:
        if self._verbose and dialect != self._dialect:
            self._console.print(Text(to_single_line(f"dialect {dialect}: {reason}"), "dim"))
        self._dialect = dialect

    def _show_thinking(self) -> None:
        if self._thinking:
            shown = self._thinking.full_text if self._verbose else self._thinking.summary
            self._console.print(Text(shown, "dim italic"))
            self._thinking = ThinkingText()

    def _show_call(self, call: ToolCall, result: ToolResult, took: str) -> None:
        self._running.pop(call.id, None)
        if self._running:
            self._spinner.show(f"running {', '.join(self._running.values())}")
        else:
            self._spinner.hide()
        state = Text("error", "bold red") if result.is_error else Text("ok", "green")
        self._show_card(call, state.append(f" {took}", "not bold dim default"), result.text)

    def _show_card(self, call: ToolCall, state: Text, result: str) -> None:
        name = to_single_line(call.name, 80)
        room = 10_000 if self._verbose else self._console.width - len(name) - len(state.plain) - 7
        arguments = format_arguments(call.arguments, max(20, room))
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
        """A line for each call that an agent makes which is a tool itself."""
        match event:
            case Nested(other, _, inner):
                self._show_nested_event(f"{agent}/{other}", inner)
            case ToolCallFinished(call, result, seconds):
                state = Text("error", "bold red") if result.is_error else Text("ok", "green")
                head = Text(f"  {to_single_line(agent, 40)} ▸ ", "dim cyan").append(
                    format_call(call, 60)
                )
                self._console.print(
                    head.append("  ")
                    .append_text(state)
                    .append(f" {format_duration(seconds)}", "dim")
                )
            case _:
                pass

    def _show_notice(self, event: Event) -> None:
        match event:
            case LoopDetected(call, reason):
                words = f"loop: {call.name}: {reason}"
            case AnswerDiscarded(reason):
                words = f"taken back: {reason}"
            case HandedOver(before, after):
                words = f"handed over: {before} to {after}"
            case ContextTrimmed(_, before, after):
                words = f"trimmed: a result from {before:,} to {after:,} characters"
            case _:
                return
        self._console.print(Text(to_single_line(words), "yellow"))

    def _shorten(self, text: str) -> str:
        """The first lines of a result, each no wider than the terminal."""
        lines = strip_control_characters(text).expandtabs(4).strip("\n").split("\n")
        if self._verbose:
            return "\n".join(lines)
        width = max(20, self._console.width - 4)
        shown = [line if len(line) <= width else line[: width - 1] + "…" for line in lines]
        more = len(lines) - _MAX_RESULT_LINES
        if more <= 1:
            return "\n".join(shown)
        return "\n".join([*shown[:_MAX_RESULT_LINES], f"… {more} more lines"])


class ThinkingText:
    """What a model has thought so far in one go."""

    def __init__(self) -> None:
        self._text = ""
        self._since = monotonic()

    def __bool__(self) -> bool:
        return bool(self._text.strip())

    def add(self, text: str) -> None:
        """Goes on thinking."""
        self._text += text

    @property
    def tail(self) -> str:
        """The last words, for a line that moves."""
        return to_single_line(self._text[-60:])

    @property
    def full_text(self) -> str:
        """All of it."""
        return strip_control_characters(self._text).strip()

    @property
    def summary(self) -> str:
        """How long it took, and its first words."""
        return (
            f"thought for {format_duration(monotonic() - self._since)}: "
            f"{to_single_line(self._text, 72)}"
        )


class WaitSpinner:
    """A spinner that says what is waited for."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def show(self, text: str) -> None:
        """Turns, with these words."""
        shown = Text(text, "dim", no_wrap=True, overflow="ellipsis")
        if self._status is None:
            self._status = Status(shown, console=self._console, spinner_style="cyan")
            self._status.start()
        else:
            self._status.update(shown)

    def hide(self) -> None:
        """Is gone."""
        if self._status is not None:
            self._status.stop()
            self._status = None

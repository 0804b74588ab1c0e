"""Cards of tool calls, folded thinking and a spinner: a run on a terminal."""

from __future__ import annotations

from time import monotonic
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.status import Status
from rich.text import Text

from agentcall.calltext import arguments_line, call_line
from agentcall.cli.endings import ending
from agentcall.cli.tally import lasted
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
from agentcall.plaintext import harmless, line_of
from agentcall.result import RunResult

_FOLDED_LINES = 4


class Cards:
    """Shows a run on standard error, or elsewhere; `whole` unfolds thinking and results."""

    def __init__(self, *, whole: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._whole = whole
        self._wait = Wait(self._console)
        self._thought = Thought()
        self._dialect = ""
        self._running: dict[str, str] = {}
        self._repairs: dict[str, list[ToolCallRepaired]] = {}

    def see(self, event: Event) -> None:
        """Shows what happened, and what is waited for now."""
        if not isinstance(event, ThinkingDelta):
            self._show_thought()
        match event:
            case DialectChosen(dialect, reason):
                self._show_dialect(dialect, reason)
                self._wait.on("waiting for the model")
            case ThinkingDelta(text):
                self._thought.add(text)
                self._wait.on(f"thinking: {self._thought.tail}")
            case ToolCallStarted(call):
                self._running[call.id] = line_of(call.name, 40)
                self._wait.on(f"running {', '.join(self._running.values())}")
            case ToolCallFinished(call, result, seconds):
                self._show_call(call, result, lasted(seconds))
            case Nested(agent, _, inner):
                self._show_nested(agent, inner)
            case ToolCallRepaired(call):
                self._repairs.setdefault(call.id, []).append(event)
            case _:
                self._show_notice(event)

    def refused(self, call: ToolCall, result: ToolResult) -> None:
        """A card of a call that was answered without being carried out."""
        self._show_card(call, Text("not called", "yellow"), result.text)

    def end(self, result: RunResult[Any], usage: str) -> None:
        """Says how it ended and what it took."""
        self.clear()
        if words := ending(result):
            self._console.print(Text(line_of(words), "yellow"))
        self._console.print(Text(f"\n{usage}", "dim"))

    def clear(self) -> None:
        """Takes the spinner away."""
        self._show_thought()
        self._wait.off()

    def _show_dialect(self, dialect: str, reason: str) -> None:
        if self._whole and dialect != self._dialect:
            self._console.print(Text(line_of(f"dialect {dialect}: {reason}"), "dim"))
        self._dialect = dialect

    def _show_thought(self) -> None:
        if self._thought:
            shown = self._thought.whole if self._whole else self._thought.folded
            self._console.print(Text(shown, "dim italic"))
            self._thought = Thought()

    def _show_call(self, call: ToolCall, result: ToolResult, took: str) -> None:
        self._running.pop(call.id, None)
        if self._running:
            self._wait.on(f"running {', '.join(self._running.values())}")
        else:
            self._wait.off()
        state = Text("error", "bold red") if result.is_error else Text("ok", "green")
        self._show_card(call, state.append(f" {took}", "not bold dim default"), result.text)

    def _show_card(self, call: ToolCall, state: Text, result: str) -> None:
        name = line_of(call.name, 80)
        room = 10_000 if self._whole else self._console.width - len(name) - len(state.plain) - 7
        arguments = arguments_line(call.arguments, max(20, room))
        head = Text("▸ ", "cyan").append(name, "bold cyan")
        head.append(f"({arguments})  ", "default").append_text(state)
        self._console.print(head)
        for repair in self._repairs.pop(call.id, ()):
            self._console.print(Padding(self._repair(repair), (0, 0, 0, 2)))
        self._console.print(Padding(Text(self._folded(result)), (0, 0, 0, 2)))

    def _repair(self, repair: ToolCallRepaired) -> Text:
        shown = Text("repaired ", "yellow").append(line_of(repair.rule), "yellow")
        limit = None if self._whole else 100
        change = f": {line_of(repair.before, limit)} → {line_of(repair.after, limit)}"
        return shown.append(change, "dim")

    def _show_nested(self, agent: str, event: Event) -> None:
        """A line for each call that an agent makes which is a tool itself."""
        match event:
            case Nested(other, _, inner):
                self._show_nested(f"{agent}/{other}", inner)
            case ToolCallFinished(call, result, seconds):
                state = Text("error", "bold red") if result.is_error else Text("ok", "green")
                head = Text(f"  {line_of(agent, 40)} ▸ ", "dim cyan").append(call_line(call, 60))
                self._console.print(
                    head.append("  ").append_text(state).append(f" {lasted(seconds)}", "dim")
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
        self._console.print(Text(line_of(words), "yellow"))

    def _folded(self, text: str) -> str:
        """The first lines of a result, each no wider than the terminal."""
        lines = harmless(text).expandtabs(4).strip("\n").split("\n")
        if self._whole:
            return "\n".join(lines)
        width = max(20, self._console.width - 4)
        shown = [line if len(line) <= width else line[: width - 1] + "…" for line in lines]
        more = len(lines) - _FOLDED_LINES
        if more <= 1:
            return "\n".join(shown)
        return "\n".join([*shown[:_FOLDED_LINES], f"… {more} more lines"])


class Thought:
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
        return line_of(self._text[-60:])

    @property
    def whole(self) -> str:
        """All of it."""
        return harmless(self._text).strip()

    @property
    def folded(self) -> str:
        """How long it took, and its first words."""
        return f"thought for {lasted(monotonic() - self._since)}: {line_of(self._text, 72)}"


class Wait:
    """A spinner that says what is waited for."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def on(self, words: str) -> None:
        """Turns, with these words."""
        shown = Text(words, "dim", no_wrap=True, overflow="ellipsis")
        if self._status is None:
            self._status = Status(shown, console=self._console, spinner_style="cyan")
            self._status.start()
        else:
            self._status.update(shown)

    def off(self) -> None:
        """Is gone."""
        if self._status is not None:
            self._status.stop()
            self._status = None

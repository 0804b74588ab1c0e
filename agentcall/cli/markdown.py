"""Renders an answer as Markdown on a terminal while it arrives.

Rules:
1. A finished block (a paragraph, a list, a fence) is printed and stays; the last one is redrawn.
2. Nothing is left out: HTML and link definitions are shown as source text, a line end stays
   a line end, and the address of a link is shown beside its text.
3. No text reaches the terminal as a command: neither control characters nor hyperlinks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

from agentcall.display import strip_control_characters
from agentcall.errors import ModelError
from agentcall.events import AnswerDiscarded, Event, ModelAnswered, TextDelta, ToolCallFinished
from agentcall.result import RunResult

_PARSER = (
    MarkdownIt("commonmark", {"html": False})
    .enable(["strikethrough", "table"])
    .disable("reference")
)
_REFRESHES_PER_SECOND = 12
"""How often the last block is redrawn."""


class SafeMarkdown(Markdown):
    """Markdown that follows the rules of this module."""

    def __init__(self, text: str) -> None:
        super().__init__("", code_theme="ansi_dark", hyperlinks=False)
        self.parsed = _PARSER.parse(strip_control_characters(text))
        for token in self.parsed:
            for child in token.children or ():
                if child.type == "softbreak":
                    child.type = "hardbreak"


def split_blocks(text: str) -> list[str]:
    """Split the text where blocks begin; all but the last block are finished."""
    rows = [token.map[0] for token in _PARSER.parse(text) if token.level == 0 and token.map]
    starts = [0, *sorted({row for row in rows if row > rows[0]})]
    lines = text.split("\n")
    return ["\n".join(lines[a:b]) for a, b in zip(starts, [*starts[1:], None], strict=True)]


class MarkdownAnswerWriter:
    """Writes the answer to a console, block by block."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tail = MarkdownBlock(max_lines=lambda: max(1, console.height - 2))
        self._live: Live | None = None
        self._margin = False
        self._is_open = False

    def handle(self, event: Event) -> None:
        """Show a delta; print the last block before anything else is shown."""
        match event:
            case TextDelta(text):
                self._add(text.replace("\r", ""))
            case AnswerDiscarded():
                self._flush(" [cut]")
            case ToolCallFinished():
                self._flush()
                self._margin = True
            case ModelAnswered():
                pass
            case _:
                self._flush()

    def finish(self, result: RunResult[Any] | None, error: ModelError | None) -> None:
        """Print the last block."""
        self._flush()

    def _add(self, text: str) -> None:
        self._tail.text += text
        if not self._tail.text.strip():
            return
        self._is_open = True
        if "\n" in text:
            *finished, self._tail.text = split_blocks(self._tail.text)
            for block in finished:
                self._print(block)
        if self._live is None:
            self._live = Live(
                self._tail,
                console=self._console,
                refresh_per_second=_REFRESHES_PER_SECOND,
                transient=True,
            )
            self._live.start()

    def _flush(self, mark: str = "") -> None:
        rest, self._tail.text = self._tail.text, ""
        if rest.strip() or (mark and self._is_open):
            for block in split_blocks(rest + mark):
                self._print(block)
        self._stop()
        self._is_open = False

    def _print(self, text: str) -> None:
        self._stop()
        if self._margin:
            self._console.print()
        self._console.print(MarkdownBlock(text), end="")
        self._margin = True

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class MarkdownBlock:
    """A block of Markdown without blank lines around it.

    max_lines: how many of its last lines are shown, as a redrawn block must fit the terminal.
    """

    def __init__(self, text: str = "", *, max_lines: Callable[[], int] | None = None) -> None:
        self.text = text
        self._max_lines = max_lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(SafeMarkdown(self.text.strip("\n")), options, pad=False)
        while lines and _is_blank(lines[-1]):
            lines.pop()
        while lines and _is_blank(lines[0]):
            lines.pop(0)
        for line in lines[-self._max_lines() :] if self._max_lines else lines:
            yield from _strip_trailing_blanks(line)
            yield Segment.line()


def _is_blank(line: list[Segment]) -> bool:
    return not "".join(segment.text for segment in line).strip()


def _strip_trailing_blanks(line: list[Segment]) -> list[Segment]:
    """Return the line without trailing blanks, which would be copied from the terminal."""
    while line and not line[-1].text.strip():
        line = line[:-1]
    return line and [*line[:-1], line[-1]._replace(text=line[-1].text.rstrip())]

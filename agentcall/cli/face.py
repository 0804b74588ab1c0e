"""Where a chat takes place: who speaks, and how what comes of it is shown."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Protocol

from rich.console import Console
from rich.text import Text

from agentcall.cli.answer import AnswerWriter, FinalAnswerWriter
from agentcall.cli.approving import Prompter, TerminalPrompter
from agentcall.cli.cards import CardDisplay
from agentcall.cli.fence import is_fence_open, strip_fence
from agentcall.cli.lines import LineDisplay
from agentcall.cli.screen import ActivityDisplay
from agentcall.display import strip_control_characters
from agentcall.events import TextDelta


class ChatUI(Protocol):
    """Where a chat takes place."""

    @property
    def prompter(self) -> Prompter:
        """Who decides about calls."""
        ...

    def read(self, status: str) -> str | None:
        """What is said next; None at the end. Raises KeyboardInterrupt.

        status: how the chat stands, in a line.
        """
        ...

    def open_writers(self) -> tuple[AnswerWriter, ActivityDisplay]:
        """What shows the answer to one question, and what happens beside it."""
        ...

    def show(self, text: str) -> None:
        """Shows what a command gives."""
        ...

    def replay(self, text: str) -> None:
        """Shows an answer that was given earlier."""
        ...

    def mute_echo(self) -> AbstractContextManager[None]:
        """Around an answer."""
        ...


class PipeUI:
    """No terminal: what is piped in is asked, and plain text comes out."""

    def __init__(self) -> None:
        self.prompter = TerminalPrompter()

    def read(self, status: str) -> str | None:
        '''The next line, or the lines between """ and """.'''
        if sys.stdin is not None and sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        said = _read_line()
        while said is not None and is_fence_open(said) and (line := _read_line()) is not None:
            said += f"\n{line}"
        return said and strip_fence(said)

    def open_writers(self) -> tuple[AnswerWriter, ActivityDisplay]:
        """The answer on standard output, all else as lines on standard error."""
        return FinalAnswerWriter(), LineDisplay()

    def show(self, text: str) -> None:
        """Shows what a command gives."""
        sys.stdout.buffer.write(strip_control_characters(text).encode("utf-8", "replace") + b"\n")
        sys.stdout.buffer.flush()

    def replay(self, text: str) -> None:
        """Nothing: what was said earlier is not said again."""

    def mute_echo(self) -> AbstractContextManager[None]:
        """Around an answer."""
        return nullcontext()


def _read_line() -> str | None:
    data = b"" if sys.stdin is None else sys.stdin.buffer.readline()
    return data.decode("utf-8-sig", "replace").rstrip("\r\n") if data else None


class ChatPrompter(Prompter, Protocol):
    """A person who types."""

    def read(self, status: str) -> str | None:
        """What the person says next; None at the end. Raises KeyboardInterrupt."""
        ...


class TerminalUI:
    """A person at a terminal: Markdown, cards, colours."""

    def __init__(self, prompter: ChatPrompter, console: Console, *, verbose: bool) -> None:
        self.prompter = prompter
        self._prompter = prompter
        self._console = console
        self._verbose = verbose

    def read(self, status: str) -> str | None:
        """What the person types next, above a line at the foot."""
        return self._prompter.read(status)

    def open_writers(self) -> tuple[AnswerWriter, ActivityDisplay]:
        """Markdown as it arrives, and cards."""
        from agentcall.cli.rendered import MarkdownAnswerWriter

        return MarkdownAnswerWriter(self._console), CardDisplay(
            verbose=self._verbose, console=self._console
        )

    def show(self, text: str) -> None:
        """Shows what a command gives."""
        self._console.print(Text(f"{strip_control_characters(text)}\n"))

    def replay(self, text: str) -> None:
        """Shows an answer that was given earlier."""
        answer, _ = self.open_writers()
        answer.handle(TextDelta(text))
        answer.finish(None, None)
        self._console.print()

    @contextmanager
    def mute_echo(self) -> Generator[None, None, None]:
        """Around an answer: what is typed meanwhile is not shown in the middle of it."""
        self._console.print()
        with _disable_echo():
            yield
        self._console.print()


@contextmanager
def _disable_echo() -> Generator[None, None, None]:
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    quiet = termios.tcgetattr(file)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(file, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(file, termios.TCSANOW, before)

"""The user interface of a chat: a terminal, or pipes."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Protocol

from rich.console import Console
from rich.text import Text

from agentcall.cli.approvals import Prompter, TerminalPrompter
from agentcall.cli.output import ActivityDisplay, AnswerWriter, FinalAnswerWriter
from agentcall.cli.render import CardDisplay, LineDisplay
from agentcall.cli.terminal import write_text
from agentcall.display import strip_control_characters
from agentcall.events import TextDelta

FENCE = '"""'


def is_fence_open(text: str) -> bool:
    '''Return whether the text starts with """ and its last """ is not closed.'''
    return text.lstrip().startswith(FENCE) and text.count(FENCE) % 2 == 1


def strip_fence(text: str) -> str:
    '''Return the text without the """ around it; invalid bytes become ?.'''
    bare = text.strip()
    if len(bare) >= 2 * len(FENCE) and bare.startswith(FENCE) and bare.endswith(FENCE):
        text = bare[len(FENCE) : -len(FENCE)].strip("\n")
    return text.encode("utf-8", "replace").decode()


class ChatUI(Protocol):
    """Reads what the user types and shows what comes of it."""

    @property
    def prompter(self) -> Prompter:
        """The prompter that asks about calls."""
        ...

    def read(self, status: str) -> str | None:
        """Return the next input; None at the end. Raises KeyboardInterrupt.

        status: one line about the conversation.
        """
        ...

    def open_writers(self) -> tuple[AnswerWriter, ActivityDisplay]:
        """Return what shows the answer to one question, and the activity beside it."""
        ...

    def show(self, text: str) -> None:
        """Show the output of a command."""
        ...

    def replay(self, text: str) -> None:
        """Show an earlier answer."""
        ...

    def mute_echo(self) -> AbstractContextManager[None]:
        """Return a context in which typed text is not shown, for the time of an answer."""
        ...


class PipeUI:
    """Reads questions from a pipe and writes plain text."""

    def __init__(self) -> None:
        self.prompter = TerminalPrompter()

    def read(self, status: str) -> str | None:
        '''Return the next line, or the lines between """ and """.'''
        if sys.stdin is not None and sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        text = _read_line()
        while text is not None and is_fence_open(text) and (line := _read_line()) is not None:
            text += f"\n{line}"
        return text and strip_fence(text)

    def open_writers(self) -> tuple[AnswerWriter, ActivityDisplay]:
        """Return a writer to standard output and lines on standard error."""
        return FinalAnswerWriter(), LineDisplay()

    def show(self, text: str) -> None:
        """Write the output of a command."""
        write_text(strip_control_characters(text) + "\n")

    def replay(self, text: str) -> None:
        """Do nothing: a pipe gets new answers only."""

    def mute_echo(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()


def _read_line() -> str | None:
    data = b"" if sys.stdin is None else sys.stdin.buffer.readline()
    return data.decode("utf-8-sig", "replace").rstrip("\r\n") if data else None


class ChatPrompter(Prompter, Protocol):
    """Prompts for questions and for decisions."""

    def read(self, status: str) -> str | None:
        """Return what the person types; None at the end. Raises KeyboardInterrupt."""
        ...


class TerminalUI:
    """Shows Markdown, cards and colours at a terminal."""

    def __init__(self, prompter: ChatPrompter, console: Console, *, verbose: bool) -> None:
        self.prompter = prompter
        self._prompter = prompter
        self._console = console
        self._verbose = verbose

    def read(self, status: str) -> str | None:
        """Return what the person types above the status line."""
        return self._prompter.read(status)

    def open_writers(self) -> tuple[AnswerWriter, ActivityDisplay]:
        """Return a writer of Markdown, and cards."""
        from agentcall.cli.markdown import MarkdownAnswerWriter

        return MarkdownAnswerWriter(self._console), CardDisplay(
            verbose=self._verbose, console=self._console
        )

    def show(self, text: str) -> None:
        """Show the output of a command."""
        self._console.print(Text(f"{strip_control_characters(text)}\n"))

    def replay(self, text: str) -> None:
        """Show an earlier answer."""
        answer, _ = self.open_writers()
        answer.handle(TextDelta(text))
        answer.finish(None, None)
        self._console.print()

    @contextmanager
    def mute_echo(self) -> Generator[None, None, None]:
        """Return a context in which typed text is not shown in the middle of an answer."""
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

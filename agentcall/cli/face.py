"""Where a chat takes place: who speaks, and how what comes of it is shown."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Protocol

from rich.console import Console
from rich.text import Text

from agentcall.cli.answer import Answer, Whole
from agentcall.cli.approving import Keyboard, Person
from agentcall.cli.cards import Cards
from agentcall.cli.fence import is_open, unfenced
from agentcall.cli.lines import Lines
from agentcall.cli.screen import Notes
from agentcall.events import TextDelta
from agentcall.plaintext import harmless


class Face(Protocol):
    """Where a chat takes place."""

    @property
    def person(self) -> Person:
        """Who decides about calls."""
        ...

    def read(self, status: str) -> str | None:
        """What is said next; None at the end. Raises KeyboardInterrupt.

        status: how the chat stands, in a line.
        """
        ...

    def shown(self) -> tuple[Answer, Notes]:
        """What shows the answer to one question, and what happens beside it."""
        ...

    def show(self, text: str) -> None:
        """Shows what a command gives."""
        ...

    def replay(self, text: str) -> None:
        """Shows an answer that was given earlier."""
        ...

    def busy(self) -> AbstractContextManager[None]:
        """Around an answer."""
        ...


class Pipe:
    """No terminal: what is piped in is asked, and plain text comes out."""

    def __init__(self) -> None:
        self.person = Keyboard()

    def read(self, status: str) -> str | None:
        '''The next line, or the lines between """ and """.'''
        if sys.stdin is not None and sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        said = _line()
        while said is not None and is_open(said) and (line := _line()) is not None:
            said += f"\n{line}"
        return said and unfenced(said)

    def shown(self) -> tuple[Answer, Notes]:
        """The answer on standard output, all else as lines on standard error."""
        return Whole(), Lines()

    def show(self, text: str) -> None:
        """Shows what a command gives."""
        sys.stdout.buffer.write(harmless(text).encode("utf-8", "replace") + b"\n")
        sys.stdout.buffer.flush()

    def replay(self, text: str) -> None:
        """Nothing: what was said earlier is not said again."""

    def busy(self) -> AbstractContextManager[None]:
        """Around an answer."""
        return nullcontext()


def _line() -> str | None:
    data = b"" if sys.stdin is None else sys.stdin.buffer.readline()
    return data.decode("utf-8-sig", "replace").rstrip("\r\n") if data else None


class Reader(Person, Protocol):
    """A person who types."""

    def read(self, status: str) -> str | None:
        """What the person says next; None at the end. Raises KeyboardInterrupt."""
        ...


class AtTerminal:
    """A person at a terminal: Markdown, cards, colours."""

    def __init__(self, typist: Reader, console: Console, *, whole: bool) -> None:
        self.person = typist
        self._typist = typist
        self._console = console
        self._whole = whole

    def read(self, status: str) -> str | None:
        """What the person types next, above a line at the foot."""
        return self._typist.read(status)

    def shown(self) -> tuple[Answer, Notes]:
        """Markdown as it arrives, and cards."""
        from agentcall.cli.rendered import Rendered

        return Rendered(self._console), Cards(whole=self._whole, console=self._console)

    def show(self, text: str) -> None:
        """Shows what a command gives."""
        self._console.print(Text(f"{harmless(text)}\n"))

    def replay(self, text: str) -> None:
        """Shows an answer that was given earlier."""
        answer, _ = self.shown()
        answer.see(TextDelta(text))
        answer.finish(None, None)
        self._console.print()

    @contextmanager
    def busy(self) -> Generator[None, None, None]:
        """Around an answer: what is typed meanwhile is not shown in the middle of it."""
        self._console.print()
        with _no_echo():
            yield
        self._console.print()


@contextmanager
def _no_echo() -> Generator[None, None, None]:
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

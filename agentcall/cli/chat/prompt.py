"""The prompt of a chat at a terminal: lines with a history, completion, and text of several lines.

Needs prompt_toolkit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import (
    CompleteEvent,
    Completer,
    Completion,
    PathCompleter,
    WordCompleter,
)
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.styles import Style

from agentcall.cli.chat.ui import is_fence_open, strip_fence
from agentcall.cli.load import get_state_folder
from agentcall.storage.private_files import make_folder, open_private

_PROMPT_STYLE = Style.from_dict({"bottom-toolbar": "noreverse ansibrightblack"})


class PromptToolkitPrompter:
    """Prompts a person at the terminal.

    commands: a function for each command that returns the completions of its argument.
    """

    def __init__(self, commands: Mapping[str, Callable[[], list[str]]]) -> None:
        self._chat_session: PromptSession[str] = PromptSession(
            "> ",
            multiline=True,
            prompt_continuation="  ",
            history=FileHistory(str(_prepare_history_file())),
            key_bindings=_make_key_bindings(),
            completer=CommandCompleter(commands),
            style=_PROMPT_STYLE,
            reserve_space_for_menu=6,
        )
        self._question_session: PromptSession[str] = PromptSession()

    def read(self, status: str) -> str | None:
        """Return what the person types above the status line; None at the end of input.

        Raises KeyboardInterrupt.
        """
        try:
            return strip_fence(self._chat_session.prompt(bottom_toolbar=status))
        except EOFError:
            return None

    @property
    def is_available(self) -> bool:
        """True: a person is there."""
        return True

    def ask(self, question: str, default: str = "") -> str | None:
        """Return the answer to a question. Raises KeyboardInterrupt."""
        try:
            return self._question_session.prompt(question, default=default)
        except EOFError:
            return None


def _make_key_bindings() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        if is_fence_open(event.current_buffer.text):
            event.current_buffer.insert_text("\n")
        else:
            event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    @keys.add("<sigint>")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    return keys


class CommandCompleter(Completer):
    """Completes commands and their arguments."""

    def __init__(self, commands: Mapping[str, Callable[[], list[str]]]) -> None:
        self._commands = commands

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        name, blank, rest = document.text_before_cursor.partition(" ")
        if not name.startswith("/"):
            return
        if not blank:
            completer = WordCompleter(list(self._commands), sentence=True)
            yield from completer.get_completions(document, complete_event)
        elif words := self._commands.get(name, list)():
            completer = WordCompleter(words, sentence=True)
            yield from completer.get_completions(Document(rest), complete_event)
        elif name in ("/image", "/export"):
            paths = PathCompleter(expanduser=True)
            yield from paths.get_completions(Document(rest), complete_event)


def _prepare_history_file() -> Path:
    """Return the file of the prompt's history, which only its owner can read."""
    path = get_state_folder() / "chat_history"
    make_folder(path.parent)
    os.close(open_private(path, os.O_CREAT | os.O_WRONLY))
    return path

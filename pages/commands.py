"""The reference page of the commands, generated from their help texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from agentcall.cli import app


def commands_page() -> str:
    """Return the page, with all commands and their subcommands."""
    root = typer.main.get_command(app)
    blocks = [f"## {name}\n\n```text\n{text}\n```" for name, text in _list_help(root, "agentcall")]
    return "# Commands\n\n" + "\n\n".join(blocks) + "\n"


def _list_help(
    command: Any,
    name: str,
    parent: Any = None,  # Any: the click that typer brings
) -> Iterator[tuple[str, str]]:
    last_word = name.rpartition(" ")[2]
    context = command.make_context(last_word, [], parent=parent, resilient_parsing=True)
    context.terminal_width = context.max_content_width = 92
    yield name, command.get_help(context).rstrip()
    if hasattr(command, "list_commands"):
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            if not inner.hidden:
                yield from _list_help(inner, f"{name} {word}", context)

"""A page out of what every command says of itself with --help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from agentcall.cli import app


def commands_page() -> str:
    """All commands, the longest way down."""
    blocks = [f"## {name}\n\n```text\n{words}\n```" for name, words in _all(app)]
    return "# Commands\n\n" + "\n\n".join(blocks) + "\n"


def _all(commands: typer.Typer) -> Iterator[tuple[str, str]]:
    command = typer.main.get_command(commands)
    yield from _below(command, "agentcall", None)


def _below(command: Any, name: str, above: Any) -> Iterator[tuple[str, str]]:  # Any: typer's click
    word = name.rpartition(" ")[2]
    context = command.make_context(word, [], parent=above, resilient_parsing=True)
    context.terminal_width = context.max_content_width = 92
    yield name, command.get_help(context).rstrip()
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    for word, each in inner.items():
        if not each.hidden:
            yield from _below(each, f"{name} {word}", context)

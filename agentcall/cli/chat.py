"""`agentcall chat`: a conversation with a model and tools, at the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.words import AgentSessionOptions

CHAT_HELP = '''Chat with a model, with tools.

At a terminal answers stream as Markdown, calls are cards, and /help lists the commands. Where
something is piped in or out, each line is a question, and the answers are plain text. A question of
several lines begins and ends with """.

\b
  agentcall chat -t calculator -m http://127.0.0.1:8080/v1
  agentcall chat -a my_agents.py:agent
  agentcall chat -c
  cat questions.txt | agentcall chat -m embedded

\b
Conversations are kept (agentcall sessions); -c goes on with the last one. Exit codes are those of
`agentcall run`: what is piped in ends with that of its last question.
'''


@dataclass(frozen=True, slots=True)
class ChatOptions(AgentSessionOptions):
    """What `agentcall chat` is told."""

    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Show the dialect, all thinking and whole results."),
    ] = False


def start_chat(options: ChatOptions) -> None:
    """Chats, and exits with the code that HELP says."""
    from agentcall.cli.chatting import run_chat

    code = run_chat(options)
    if code:
        raise typer.Exit(code)

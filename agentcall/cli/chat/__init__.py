"""`agentcall chat`: a conversation with a model and tools, at the terminal or through pipes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from agentcall.cli.chat.commands import COMMANDS, ChatExit, execute_command, show_history
from agentcall.cli.chat.loop import TerminalChat
from agentcall.cli.chat.ui import PipeUI, TerminalUI
from agentcall.cli.command import make_app
from agentcall.cli.interrupt import DeferredInterrupt, InterruptibleLoop
from agentcall.cli.load import build_agent, open_session
from agentcall.cli.model_server import ensure_server, prepare_in_background
from agentcall.cli.options import AgentSessionOptions, VerboseOption
from agentcall.cli.render import format_count
from agentcall.cli.terminal import is_terminal, write_note
from agentcall.display import to_single_line
from agentcall.errors import MissingExtra
from agentcall.models.resolve import describe_model
from agentcall.serving.conversation import Conversation, new_session
from agentcall.sessions import ChatSession

CHAT_HELP = '''Chat with a model, with tools.

At a terminal, answers stream as Markdown, tool calls are cards, and /help lists the commands. If
input or output is a pipe, each line is a question and answers are plain text. A question of several
lines starts and ends with """.

\b
  agentcall chat -t calculator -m http://127.0.0.1:8080/v1
  agentcall chat -a my_agents.py:agent
  agentcall chat -c
  cat questions.txt | agentcall chat -m embedded

Conversations are saved (agentcall sessions); -c continues the last one. Exit codes are those of
`agentcall run`; with piped input it is that of the last question.
'''


@dataclass(frozen=True, slots=True)
class ChatOptions(AgentSessionOptions):
    """Options of `agentcall chat`."""

    verbose: VerboseOption = False


def run_chat(options: ChatOptions) -> int:
    """Chat until the user leaves, and return the exit code."""
    conversation = Conversation(build_agent(options), open_session(options) or new_session())
    if options.launch:
        ensure_server(options.model)
    prepare_in_background(conversation.agent)
    with InterruptibleLoop() as loop:
        if sys.stdin is None or not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
            chat = TerminalChat(conversation, loop, PipeUI())
            chat.verbose = options.verbose
            chat.print_pending_calls()
            while (line := chat.ui.read("")) is not None and _handle_line(chat, line):
                pass
            return chat.exit_code
        ui = _open_terminal_ui(conversation.session, verbose=options.verbose)
        chat = TerminalChat(conversation, loop, ui)
        chat.verbose = options.verbose
        _print_greeting(chat)
        try:
            with DeferredInterrupt() as interrupt:
                while _handle_next_line(chat, interrupt):
                    pass
        finally:
            if chat.conversation.history:
                session_id = chat.conversation.session.id
                write_note(f"saved: agentcall chat --session {session_id}", "dim")
    return 0


def _open_terminal_ui(current: ChatSession, *, verbose: bool) -> TerminalUI:
    try:
        from agentcall.cli.chat.prompt import PromptToolkitPrompter
    except ImportError as error:
        raise MissingExtra.for_feature("agentcall chat", "chat", error) from None
    from rich.console import Console

    completions: dict[str, Callable[[], list[str]]] = dict.fromkeys(COMMANDS, list)
    completions["/load"] = lambda: [session.id for session in current.list_sessions()]
    return TerminalUI(PromptToolkitPrompter(completions), Console(highlight=False), verbose=verbose)


def _print_greeting(chat: TerminalChat) -> None:
    agent = chat.conversation.agent
    model = "the default model" if agent.model is None else describe_model(agent.model).strip("'")
    tools = format_count(len(agent.registry), "tool")
    chat.ui.show(f"{to_single_line(model)} · {tools} · /help lists the commands, Ctrl-D leaves")
    show_history(chat)


def _format_status(chat: TerminalChat) -> str:
    images = f"{format_count(len(chat.images), 'image')} · " if chat.images else ""
    return f"{images}{chat.meter.format(chat.conversation.usage)} · {chat.conversation.session.id}"


def _handle_next_line(chat: TerminalChat, interrupt: DeferredInterrupt) -> bool:
    """Read a line and act on it; return whether the chat continues.

    Raises KeyboardInterrupt at a second Ctrl-C in a row.
    """
    is_idle = True
    try:
        interrupt.raise_if_pending()
        line = chat.ui.read(_format_status(chat))
        chat.is_interrupted = is_idle = False
        return line is not None and _handle_line(chat, line)
    except KeyboardInterrupt:
        if chat.is_interrupted:
            raise
        chat.handle_interrupt("" if is_idle else "stopped; ")
        return True


def _handle_line(chat: TerminalChat, line: str) -> bool:
    """Execute a command or ask a question; return whether the chat continues."""
    try:
        if line.strip() and not execute_command(chat, line):
            chat.ask(line.strip())
    except ChatExit:
        return False
    except Exception as error:
        chat.report_error(error)
    return True


app = make_app(ChatOptions, run_chat, CHAT_HELP)

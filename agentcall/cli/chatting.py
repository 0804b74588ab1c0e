"""`agentcall chat`: the chat that the options mean, from its first line to its last."""

from __future__ import annotations

import sys
from collections.abc import Callable

from agentcall.cli.chat import ChatOptions
from agentcall.cli.chatter import TerminalChat
from agentcall.cli.face import ChatUI, PipeUI, TerminalUI
from agentcall.cli.interruptible import DeferredInterrupt, InterruptibleLoop
from agentcall.cli.launching import ensure_server
from agentcall.cli.making import build_agent
from agentcall.cli.plain import is_terminal, style_text
from agentcall.cli.sessioned import open_session
from agentcall.cli.slash import COMMANDS, ChatExit, execute_command, show_history
from agentcall.cli.tally import format_count
from agentcall.display import to_single_line
from agentcall.errors import MissingExtra
from agentcall.models.resolve import describe_model
from agentcall.serving.conversation import Conversation, new_session
from agentcall.sessions import ChatSession


def run_chat(options: ChatOptions) -> int:
    """Chats until the person leaves; gives the exit code."""
    talk = Conversation(build_agent(options), open_session(options) or new_session())
    if options.launch:
        ensure_server(options.model)
    with InterruptibleLoop() as loop:
        if sys.stdin is None or not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
            chat = TerminalChat(talk, loop, PipeUI())
            chat.print_pending_calls()
            return _answer_piped_lines(chat)
        chat = TerminalChat(talk, loop, _open_terminal_ui(talk.session, whole=options.verbose))
        _print_greeting(chat)
        try:
            _run_prompt_loop(chat)
        finally:
            _print_session_id(chat)
    return 0


def _open_terminal_ui(session: ChatSession, *, whole: bool) -> ChatUI:
    try:
        from agentcall.cli.typed import PromptToolkitPrompter
    except ImportError as error:
        raise MissingExtra(
            "agentcall chat needs prompt_toolkit at a terminal: pip install 'agentcall[chat]'"
        ) from error
    from rich.console import Console

    words: dict[str, Callable[[], list[str]]] = dict.fromkeys(COMMANDS, list)
    words["/load"] = lambda: [each.id for each in session.list_sessions()]
    return TerminalUI(PromptToolkitPrompter(words), Console(highlight=False), verbose=whole)


def _print_greeting(chat: TerminalChat) -> None:
    agent = chat.conversation.agent
    model = "the usual model" if agent.model is None else describe_model(agent.model).strip("'")
    tools = format_count(len(agent.registry), "tool")
    chat.ui.show(f"{to_single_line(model)} · {tools} · /help lists the commands, Ctrl-D leaves")
    show_history(chat)


def _print_session_id(chat: TerminalChat) -> None:
    if chat.conversation.history:
        words = f"kept: agentcall chat --session {chat.conversation.session.id}"
        sys.stderr.write(style_text(words, "dim", sys.stderr) + "\n")


def _format_status(chat: TerminalChat) -> str:
    images = f"{format_count(len(chat.images), 'image')} · " if chat.images else ""
    return f"{images}{chat.meter.format(chat.conversation.usage)} · {chat.conversation.session.id}"


def _run_prompt_loop(chat: TerminalChat) -> None:
    """Until the person leaves. Raises KeyboardInterrupt at a second Ctrl-C."""
    with DeferredInterrupt() as interrupt:
        while _handle_next_line(chat, interrupt):
            pass


def _handle_next_line(chat: TerminalChat, interrupt: DeferredInterrupt) -> bool:
    """One thing that the person says, and what comes of it."""
    was_idle = True
    try:
        interrupt.raise_if_pending()
        said = chat.ui.read(_format_status(chat))
        chat.is_interrupted = was_idle = False
        return said is not None and _handle_line(chat, said)
    except KeyboardInterrupt:
        if chat.is_interrupted:
            raise
        chat.handle_interrupt("" if was_idle else "stopped; ")
        return True


def _answer_piped_lines(chat: TerminalChat) -> int:
    """Until what is piped in ends; the exit code of the last question."""
    while (said := chat.ui.read("")) is not None and _handle_line(chat, said):
        pass
    return chat.exit_code


def _handle_line(chat: TerminalChat, line: str) -> bool:
    """Does what was said; whether the chat goes on."""
    try:
        if line.strip() and not execute_command(chat, line):
            chat.ask(line.strip())
    except ChatExit:
        return False
    except Exception as error:
        chat.report_error(error)
    return True

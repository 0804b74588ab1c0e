"""`agentcall chat`: the chat that the options mean, from its first line to its last."""

from __future__ import annotations

import sys
from collections.abc import Callable

from agentcall.cli.chat import ChatOptions
from agentcall.cli.chatter import Chat
from agentcall.cli.face import AtTerminal, Face, Pipe
from agentcall.cli.interruptible import InterruptibleLoop, Patience
from agentcall.cli.launching import ensure_up
from agentcall.cli.making import agent_of
from agentcall.cli.plain import is_terminal, styled
from agentcall.cli.sessioned import session_of
from agentcall.cli.slash import COMMANDS, Leave, carried_out, show_past
from agentcall.cli.tally import counted
from agentcall.errors import MissingExtra
from agentcall.models.shorthand import place_of
from agentcall.plaintext import line_of
from agentcall.session import Store
from agentcall.talk import Talk, new_session


def chatted(options: ChatOptions) -> int:
    """Chats until the person leaves; gives the exit code."""
    talk = Talk(agent_of(options), session_of(options) or new_session())
    if options.launch:
        ensure_up(options.model)
    with InterruptibleLoop() as loop:
        if sys.stdin is None or not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
            chat = Chat(talk, loop, Pipe())
            chat.tell_waiting()
            return _piped(chat)
        chat = Chat(talk, loop, _at_terminal(talk.session.store, whole=options.verbose))
        _greet(chat)
        try:
            _talked(chat)
        finally:
            _part(chat)
    return 0


def _at_terminal(store: Store, *, whole: bool) -> Face:
    try:
        from agentcall.cli.typed import Typist
    except ImportError as error:
        raise MissingExtra(
            "agentcall chat needs prompt_toolkit at a terminal: pip install 'agentcall[chat]'"
        ) from error
    from rich.console import Console

    words: dict[str, Callable[[], list[str]]] = dict.fromkeys(COMMANDS, list)
    words["/load"] = lambda: [each.id for each in store.list()]
    return AtTerminal(Typist(words), Console(highlight=False), whole=whole)


def _greet(chat: Chat) -> None:
    agent = chat.talk.agent
    model = "the usual model" if agent.model is None else place_of(agent.model).strip("'")
    tools = counted(len(agent.registry), "tool")
    chat.face.show(f"{line_of(model)} · {tools} · /help lists the commands, Ctrl-D leaves")
    show_past(chat)


def _part(chat: Chat) -> None:
    if chat.talk.history:
        words = f"kept: agentcall chat --session {chat.talk.session.id}"
        sys.stderr.write(styled(words, "dim", sys.stderr) + "\n")


def _status(chat: Chat) -> str:
    images = f"{counted(len(chat.images), 'image')} · " if chat.images else ""
    return f"{images}{chat.gauge.line(chat.talk.usage)} · {chat.talk.session.id}"


def _talked(chat: Chat) -> None:
    """Until the person leaves. Raises KeyboardInterrupt at a second Ctrl-C."""
    with Patience() as patience:
        while _goes_on(chat, patience):
            pass


def _goes_on(chat: Chat, patience: Patience) -> bool:
    """One thing that the person says, and what comes of it."""
    was_idle = True
    try:
        patience.take()
        said = chat.face.read(_status(chat))
        chat.is_stopped = was_idle = False
        return said is not None and _heard(chat, said)
    except KeyboardInterrupt:
        if chat.is_stopped:
            raise
        chat.stop("" if was_idle else "stopped; ")
        return True


def _piped(chat: Chat) -> int:
    """Until what is piped in ends; the exit code of the last question."""
    while (said := chat.face.read("")) is not None and _heard(chat, said):
        pass
    return chat.code


def _heard(chat: Chat, said: str) -> bool:
    """Does what was said; whether the chat goes on."""
    try:
        if said.strip() and not carried_out(chat, said):
            chat.ask(said.strip())
    except Leave:
        return False
    except Exception as error:
        chat.fail(error)
    return True

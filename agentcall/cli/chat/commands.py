"""The commands of a chat: `/help`, `/undo` and the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from agentcall.cli.approvals import parse_decision
from agentcall.cli.chat.loop import TerminalChat, UsageMeter
from agentcall.cli.errors import print_warning
from agentcall.cli.load import load_image
from agentcall.cli.render import format_count
from agentcall.cli.terminal import write_file
from agentcall.display import escape_invisible, strip_control_characters, to_single_line
from agentcall.errors import UsageError
from agentcall.messages import Assistant, Text
from agentcall.models.resolve import describe_model
from agentcall.serving.conversation import get_prompt
from agentcall.sessions import SessionSummary, StoredRun
from agentcall.sessions.export import EXPORTERS, format_time, load_session

_MAX_LISTED_SESSIONS = 15


class ChatExit(Exception):
    """The user leaves the chat."""


@dataclass(frozen=True, slots=True)
class ChatCommand:
    """A command: its argument, a line of help, and its function."""

    usage: str
    help: str
    run: Callable[[TerminalChat, str], None]


def execute_command(chat: TerminalChat, line: str) -> bool:
    """Execute the line if it is a command, and return whether it is one.

    A path such as `/etc/hosts` is not a command. Raises ChatExit, UsageError, and the errors of
    the command.
    """
    name, _, rest = line.partition(" ")
    if not name[1:].isalpha() or not name.startswith("/"):
        return False
    command = COMMANDS.get(name)
    if command is None:
        near = get_close_matches(name, COMMANDS, 1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise UsageError(f"there is no command {name}{hint} /help lists them")
    command.run(chat, rest.strip())
    return True


def _show_help(chat: TerminalChat, _: str) -> None:
    width = max(len(f"{name} {command.usage}") for name, command in COMMANDS.items())
    lines = [
        f"{f'{name} {command.usage}':{width}}  {command.help}" for name, command in COMMANDS.items()
    ]
    keys = (
        'Enter sends; Alt-Enter starts a new line, and so does Enter between """ and """.',
        "Ctrl-C stops an answer; pressed again it leaves. A space before / makes it a question.",
    )
    chat.ui.show("\n".join([*lines, "", *keys]))


def _show_tools(chat: TerminalChat, _: str) -> None:
    tools = list(chat.conversation.agent.registry)
    lines = [
        f"{tool.name}{' (asks first)' if tool.options.requires_approval else ''}: "
        f"{to_single_line(tool.description, 100)}"
        for tool in tools
    ]
    chat.ui.show("\n".join(lines) or "there are no tools; -t NAME adds some")


def _choose_model(chat: TerminalChat, name: str) -> None:
    if name:
        chat.conversation.agent = replace(chat.conversation.agent, model=name)
        chat.meter = UsageMeter()
    model = chat.conversation.agent.model
    default = "AGENTCALL_MODEL, else a local LMDeploy, else embedded"
    chat.ui.show(f"the model is {default if model is None else describe_model(model)}")


def _set_instructions(chat: TerminalChat, text: str) -> None:
    if text:
        instructions = "" if text == "-" else text
        chat.conversation.agent = replace(chat.conversation.agent, instructions=instructions)
    current = chat.conversation.agent.instructions
    chat.ui.show(f"the instructions are: {current}" if current else "there are no instructions")


def _add_image(chat: TerminalChat, file: str) -> None:
    if file == "-":
        chat.images.clear()
    elif file:
        chat.images.append(load_image(file))
    count = format_count(len(chat.images), "image")
    hint = "; /image - removes them" if chat.images else ""
    chat.ui.show(f"{count} will be sent with the next question{hint}")


def _save_session(chat: TerminalChat, name: str) -> None:
    if name:
        if not chat.conversation.history:
            raise UsageError("there is nothing to save: no question has been asked yet")
        chat.wait_for(chat.conversation.rename(name))
    chat.ui.show(f"this conversation is saved as {chat.conversation.session.id}")


def _load_session(chat: TerminalChat, name: str) -> None:
    sessions = chat.conversation.session.list_sessions()
    if not name:
        lines = (_format_session(session) for session in sessions[:_MAX_LISTED_SESSIONS])
        chat.ui.show("\n".join(lines) or "there is no session yet")
        return
    ids = [session.id for session in sessions]
    matches = [name] if name in ids else [each for each in ids if each.startswith(name)]
    if not matches:
        raise UsageError(f"there is no session {name!r}; /load lists them")
    if matches[1:]:
        raise UsageError(f"{name!r} may be {', '.join(matches[:5])}; type more of the id")
    chat.conversation.open(matches[0])
    chat.meter = UsageMeter()
    show_history(chat)


def _format_session(session: SessionSummary) -> str:
    title = to_single_line(session.title, 60)
    count = format_count(session.messages, "message")
    return f"{session.id}  {format_time(session.changed)}  {count}  {title}"


def show_history(chat: TerminalChat) -> None:
    """Show the last question and answer of the conversation."""
    history = chat.conversation.history
    if history:
        earlier = f", after {format_count(len(history) - 1, 'exchange')}" if history[1:] else ""
        question = _format_question(history[-1])
        chat.ui.show(f"{chat.conversation.session.id}{earlier}:\n\n> {question}")
        answers = (m.text for m in reversed(history[-1].messages) if isinstance(m, Assistant))
        chat.ui.replay(next(answers, ""))
    chat.print_pending_calls()


def _format_question(run: StoredRun) -> str:
    prompt = get_prompt(run)
    parts = [Text(prompt)] if isinstance(prompt, str) else prompt
    text = "\n".join(p.text if isinstance(p, Text) else f"[{p.description}]" for p in parts)
    return strip_control_characters(text)


def _export_session(chat: TerminalChat, name: str) -> None:
    session = chat.conversation.session
    path = Path(name or f"{session.id}.md").expanduser()
    export = EXPORTERS.get(path.suffix.removeprefix("."), EXPORTERS["md"])
    write_file(path, export(load_session(session)))
    chat.ui.show(f"written: {path}")


def _retry_question(chat: TerminalChat, text: str) -> None:
    chat.ask_again(text or None)


def _undo_question(chat: TerminalChat, _: str) -> None:
    removed = chat.wait_for(chat.conversation.undo())
    has_calls = any(isinstance(m, Assistant) and m.calls for run in removed for m in run.messages)
    hint = "; the effects of its tool calls remain" if has_calls else ""
    chat.ui.show(f"removed: {to_single_line(_format_question(removed[0]), 80)}{hint}")


def _clear_session(chat: TerminalChat, _: str) -> None:
    before = chat.conversation.session.id
    hint = f"; /load {before} returns to the old one" if chat.conversation.history else ""
    chat.conversation.start_new()
    chat.meter = UsageMeter()
    chat.ui.show(f"new conversation{hint}")


def _compact_session(chat: TerminalChat, _: str) -> None:
    print_warning("the model summarizes the earlier messages")
    counts = chat.wait_for(chat.conversation.compact())
    if counts.before == counts.after:
        chat.ui.show(f"{format_count(counts.before, 'message')}: too few to summarize")
    else:
        chat.ui.show(f"{counts.before} messages -> {counts.after}; /export still has all of them")


def _approve_calls(chat: TerminalChat, answer: str) -> None:
    if chat.conversation.pending:
        chat.decide(parse_decision(answer.removeprefix("no ")) if answer else None)
        return
    lines = ["no call waits for approval"]
    for rule in chat.conversation.session.snapshot.approval_rules:
        arguments = "" if rule.arguments is None else f" {escape_invisible(rule.arguments)}"
        lines.append(f"always approved: {to_single_line(rule.tool)}{arguments}")
    chat.ui.show("\n".join(dict.fromkeys(lines)))


def _show_usage(chat: TerminalChat, _: str) -> None:
    usage = chat.conversation.usage
    requests = format_count(usage.requests, "request")
    calls = format_count(usage.tool_calls, "tool call")
    chat.ui.show(f"{requests}, {calls} · {chat.meter.format(usage)}")


def _exit_chat(chat: TerminalChat, _: str) -> None:
    raise ChatExit


COMMANDS = {
    "/help": ChatCommand("", "show this list", _show_help),
    "/tools": ChatCommand("", "list the tools", _show_tools),
    "/model": ChatCommand("[NAME]", "show the model, or use another one", _choose_model),
    "/system": ChatCommand("[TEXT]", "show or set the instructions; - for none", _set_instructions),
    "/image": ChatCommand("[FILE]", "add an image to the next question; - for none", _add_image),
    "/save": ChatCommand("[NAME]", "save the conversation under this name", _save_session),
    "/load": ChatCommand("[ID]", "continue another conversation, or list them", _load_session),
    "/export": ChatCommand("[FILE]", "write it as .md, .html or .json", _export_session),
    "/retry": ChatCommand("[TEXT]", "ask the last question again, or this one", _retry_question),
    "/undo": ChatCommand("", "remove the last question and its answer", _undo_question),
    "/clear": ChatCommand("", "start a new conversation; this one is saved", _clear_session),
    "/compact": ChatCommand("", "let the model summarize the earlier messages", _compact_session),
    "/approve": ChatCommand(
        "[yes|tool|call|no WHY]",
        "decide about pending calls, or list what is always approved",
        _approve_calls,
    ),
    "/usage": ChatCommand("", "show the usage of the conversation", _show_usage),
    "/exit": ChatCommand("", "leave", _exit_chat),
    "/quit": ChatCommand("", "leave", _exit_chat),
}

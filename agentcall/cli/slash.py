"""The commands of a chat: `/help`, `/undo` and the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from agentcall.cli.approving import parse_decision
from agentcall.cli.asking import load_image
from agentcall.cli.chatter import TerminalChat
from agentcall.cli.faults import print_warning
from agentcall.cli.gauge import UsageMeter
from agentcall.cli.keptsessions import export_session
from agentcall.cli.sessions import SessionExportOptions
from agentcall.cli.tally import format_count
from agentcall.display import escape_invisible, strip_control_characters, to_single_line
from agentcall.errors import UsageError
from agentcall.messages import Assistant
from agentcall.models.resolve import describe_model
from agentcall.serving.conversation import get_prompt
from agentcall.sessions import SessionSummary, StoredRun
from agentcall.sessions.export import format_time

_MAX_LISTED_SESSIONS = 15


class ChatExit(Exception):
    """The person leaves the chat."""


@dataclass(frozen=True, slots=True)
class ChatCommand:
    """A command: what may stand behind it, what it does in words, and the doing."""

    usage: str
    help: str
    run: Callable[[TerminalChat, str], None]


def execute_command(chat: TerminalChat, line: str) -> bool:
    """Whether that was a command; it is carried out then.

    A path, as in `/etc/hosts`, is none. Raises Leave, UsageError, and what the command raises.
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
        'Enter asks; Alt-Enter begins a new line, and so does Enter after """, until the next """.',
        "Ctrl-C stops an answer, and leaves the second time. A blank before / makes it a question.",
    )
    chat.ui.show("\n".join([*lines, "", *keys]))


def _show_tools(chat: TerminalChat, _: str) -> None:
    tools = list(chat.conversation.agent.registry)
    lines = [
        f"{tool.name}{' (asks first)' if tool.options.requires_approval else ''}: "
        f"{to_single_line(tool.description, 100)}"
        for tool in tools
    ]
    chat.ui.show("\n".join(lines) or "there are no tools; -t NAME gives some")


def _choose_model(chat: TerminalChat, word: str) -> None:
    if word:
        chat.conversation.agent = replace(chat.conversation.agent, model=word)
        chat.meter = UsageMeter()
    model = chat.conversation.agent.model
    shown = "AGENTCALL_MODEL, else a local LMDeploy, else embedded" if model is None else model
    chat.ui.show(f"the model is {shown if model is None else describe_model(shown)}")


def _set_instructions(chat: TerminalChat, text: str) -> None:
    if text:
        words = "" if text == "-" else text
        chat.conversation.agent = replace(chat.conversation.agent, instructions=words)
    told = chat.conversation.agent.instructions
    chat.ui.show(f"the model is told first: {told}" if told else "the model is told nothing first")


def _add_image(chat: TerminalChat, word: str) -> None:
    if word == "-":
        chat.images.clear()
    elif word:
        chat.images.append(load_image(word))
    count = format_count(len(chat.images), "image")
    ends = "; /image - leaves them out" if chat.images else ""
    chat.ui.show(f"{count} will go with the next question{ends}")


def _save_session(chat: TerminalChat, name: str) -> None:
    if name:
        if not chat.conversation.history:
            raise UsageError("there is nothing to save: nothing has been asked yet")
        chat.wait_for(chat.conversation.rename(name))
    chat.ui.show(f"this conversation is kept as {chat.conversation.session.id}")


def _load_session(chat: TerminalChat, name: str) -> None:
    listed = chat.conversation.session.list_sessions()
    if not name:
        lines = (_format_session(each) for each in listed[:_MAX_LISTED_SESSIONS])
        chat.ui.show("\n".join(lines) or "there is no session yet")
        return
    found = [each.id for each in listed if each.id == name]
    found = found or [each.id for each in listed if each.id.startswith(name)]
    if len(found) != 1:
        known = ", ".join(found[:5])
        raise UsageError(
            f"{name!r} may be {known}; say more of it" if found
            else f"there is no session {name!r}; /load lists them"
        )  # fmt: skip
    chat.conversation.open(found[0])
    chat.meter = UsageMeter()
    show_history(chat)


def _format_session(session: SessionSummary) -> str:
    title = to_single_line(session.title, 60)
    count = format_count(session.messages, "message")
    return f"{session.id}  {format_time(session.changed)}  {count}  {title}"


def show_history(chat: TerminalChat) -> None:
    """Shows how the conversation stands that is gone on with."""
    history = chat.conversation.history
    if history:
        before = (
            f", {format_count(len(history) - 1, 'exchange')} before this:" if history[1:] else ":"
        )
        chat.ui.show(f"{chat.conversation.session.id}{before}\n\n> {_format_question(history[-1])}")
        answers = (m.text for m in reversed(history[-1].messages) if isinstance(m, Assistant))
        chat.ui.replay(next(answers, ""))
    chat.print_pending_calls()


def _format_question(run: StoredRun) -> str:
    said = get_prompt(run)
    text = (
        said
        if isinstance(said, str)
        else "\n".join(getattr(part, "text", "[image]") for part in said)
    )
    return strip_control_characters(text)


def _export_session(chat: TerminalChat, word: str) -> None:
    file = Path(word or f"{chat.conversation.session.id}.md").expanduser()
    options = SessionExportOptions(chat.conversation.session.id, None, str(file))
    export_session(options, chat.conversation.session)
    chat.ui.show(f"written: {file}")


def _retry_question(chat: TerminalChat, text: str) -> None:
    chat.ask_again(text or None)


def _undo_question(chat: TerminalChat, _: str) -> None:
    gone = chat.wait_for(chat.conversation.undo())
    done = any(isinstance(m, Assistant) and m.calls for run in gone for m in run.messages)
    ends = "; what tools did stays done" if done else ""
    chat.ui.show(f"taken back: {to_single_line(_format_question(gone[0]), 80)}{ends}")


def _clear_session(chat: TerminalChat, _: str) -> None:
    before = chat.conversation.session.id
    had = bool(chat.conversation.history)
    chat.conversation.start_new()
    chat.meter = UsageMeter()
    chat.ui.show(f"begun anew; /load {before} goes back" if had else "begun anew")


def _compact_session(chat: TerminalChat, _: str) -> None:
    print_warning("the model sums up what was said")
    done = chat.wait_for(chat.conversation.compact())
    if done.before == done.after:
        chat.ui.show(f"{format_count(done.before, 'message')}: too few to sum up")
    else:
        chat.ui.show(f"{done.before} messages -> {done.after}; /export still has all")


def _approve_calls(chat: TerminalChat, words: str) -> None:
    if chat.conversation.pending:
        why = words.removeprefix("no ")
        chat.decide(parse_decision(why) if words else None)
        return
    lines = "\n".join(dict.fromkeys(_format_grants(chat)))
    chat.ui.show(f"no call waits{f'; approved always:{chr(10)}{lines}' if lines else ''}")


def _format_grants(chat: TerminalChat) -> Iterator[str]:
    for grant in chat.conversation.session.snapshot.approval_rules:
        call = "" if grant.arguments is None else f" {escape_invisible(grant.arguments)}"
        yield f"  {to_single_line(grant.tool)}{call}"


def _show_usage(chat: TerminalChat, _: str) -> None:
    used = chat.conversation.usage
    made = f"{format_count(used.requests, 'request')}, {format_count(used.tool_calls, 'tool call')}"
    chat.ui.show(f"{made} · {chat.meter.format(used)}")


def _exit_chat(chat: TerminalChat, _: str) -> None:
    raise ChatExit


COMMANDS = {
    "/help": ChatCommand("", "this list", _show_help),
    "/tools": ChatCommand("", "the tools", _show_tools),
    "/model": ChatCommand("[NAME]", "the model; another one from now on", _choose_model),
    "/system": ChatCommand(
        "[TEXT]", "what the model is told first; - for nothing", _set_instructions
    ),
    "/image": ChatCommand("[FILE]", "an image for the next question; - for none", _add_image),
    "/save": ChatCommand("[NAME]", "keep the conversation under this name", _save_session),
    "/load": ChatCommand("[ID]", "go on with another conversation; list them", _load_session),
    "/export": ChatCommand("[FILE]", "write it as .md, .html or .json", _export_session),
    "/retry": ChatCommand(
        "[TEXT]", "ask the last question again, or another instead", _retry_question
    ),
    "/undo": ChatCommand("", "take the last question and its answer back", _undo_question),
    "/clear": ChatCommand("", "begin anew; this conversation is kept", _clear_session),
    "/compact": ChatCommand("", "have the model sum up what was before", _compact_session),
    "/approve": ChatCommand(
        "[yes|tool|call|no WHY]",
        "decide about the calls that wait; what is approved always",
        _approve_calls,
    ),
    "/usage": ChatCommand("", "what the conversation has used", _show_usage),
    "/exit": ChatCommand("", "leave", _exit_chat),
    "/quit": ChatCommand("", "leave", _exit_chat),
}

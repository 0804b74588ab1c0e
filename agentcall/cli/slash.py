"""The commands of a chat: `/help`, `/undo` and the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from agentcall.cli.approving import decision_in
from agentcall.cli.asking import image_of
from agentcall.cli.chatter import Chat
from agentcall.cli.faults import warn
from agentcall.cli.gauge import Gauge
from agentcall.cli.keptsessions import export
from agentcall.cli.sessions import ExportOptions
from agentcall.cli.tally import counted
from agentcall.errors import UsageError
from agentcall.messages import Assistant
from agentcall.models.shorthand import place_of
from agentcall.plaintext import harmless, line_of, visible
from agentcall.session import KeptRun, Listed, SQLiteSession
from agentcall.session.export import when
from agentcall.talk import asked

_LISTED = 15


class Leave(Exception):
    """The person leaves the chat."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what may stand behind it, what it does in words, and the doing."""

    words: str
    help: str
    run: Callable[[Chat, str], None]


def carried_out(chat: Chat, said: str) -> bool:
    """Whether that was a command; it is carried out then.

    A path, as in `/etc/hosts`, is none. Raises Leave, UsageError, and what the command raises.
    """
    name, _, rest = said.partition(" ")
    if not name[1:].isalpha() or not name.startswith("/"):
        return False
    command = COMMANDS.get(name)
    if command is None:
        near = get_close_matches(name, COMMANDS, 1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise UsageError(f"there is no command {name}{hint} /help lists them")
    command.run(chat, rest.strip())
    return True


def _help(chat: Chat, _: str) -> None:
    width = max(len(f"{name} {command.words}") for name, command in COMMANDS.items())
    lines = [
        f"{f'{name} {command.words}':{width}}  {command.help}" for name, command in COMMANDS.items()
    ]
    keys = (
        'Enter asks; Alt-Enter begins a new line, and so does Enter after """, until the next """.',
        "Ctrl-C stops an answer, and leaves the second time. A blank before / makes it a question.",
    )
    chat.face.show("\n".join([*lines, "", *keys]))


def _tools(chat: Chat, _: str) -> None:
    tools = list(chat.talk.agent.registry)
    lines = [
        f"{tool.name}{' (asks first)' if tool.marks.requires_approval else ''}: "
        f"{line_of(tool.description, 100)}"
        for tool in tools
    ]
    chat.face.show("\n".join(lines) or "there are no tools; -t NAME gives some")


def _model(chat: Chat, word: str) -> None:
    if word:
        chat.talk.agent = replace(chat.talk.agent, model=word)
        chat.gauge = Gauge()
    model = chat.talk.agent.model
    shown = "AGENTCALL_MODEL, else a local LMDeploy, else embedded" if model is None else model
    chat.face.show(f"the model is {shown if model is None else place_of(shown)}")


def _system(chat: Chat, text: str) -> None:
    if text:
        words = "" if text == "-" else text
        chat.talk.agent = replace(chat.talk.agent, instructions=words)
    told = chat.talk.agent.instructions
    chat.face.show(
        f"the model is told first: {told}" if told else "the model is told nothing first"
    )


def _image(chat: Chat, word: str) -> None:
    if word == "-":
        chat.images.clear()
    elif word:
        chat.images.append(image_of(word))
    count = counted(len(chat.images), "image")
    ends = "; /image - leaves them out" if chat.images else ""
    chat.face.show(f"{count} will go with the next question{ends}")


def _save(chat: Chat, name: str) -> None:
    if name:
        if not chat.talk.history:
            raise UsageError("there is nothing to save: nothing has been asked yet")
        chat.wait_for(chat.talk.rename(name))
    chat.face.show(f"this conversation is kept as {chat.talk.session.id}")


def _load(chat: Chat, name: str) -> None:
    store = chat.talk.session.store
    listed = store.list()
    if not name:
        lines = (_listed(each) for each in listed[:_LISTED])
        chat.face.show("\n".join(lines) or f"there is no session in {store.path}")
        return
    found = [each.id for each in listed if each.id == name]
    found = found or [each.id for each in listed if each.id.startswith(name)]
    if len(found) != 1:
        known = ", ".join(found[:5])
        raise UsageError(
            f"{name!r} may be {known}; say more of it" if found
            else f"there is no session {name!r}; /load lists them"
        )  # fmt: skip
    chat.talk.session = SQLiteSession(found[0], store.path, wait=0)
    chat.gauge = Gauge()
    show_past(chat)


def _listed(session: Listed) -> str:
    title = line_of(session.title, 60)
    count = counted(session.messages, "message")
    return f"{session.id}  {when(session.changed)}  {count}  {title}"


def show_past(chat: Chat) -> None:
    """Shows how the conversation stands that is gone on with."""
    history = chat.talk.history
    if history:
        before = f", {counted(len(history) - 1, 'exchange')} before this:" if history[1:] else ":"
        chat.face.show(f"{chat.talk.session.id}{before}\n\n> {_question(history[-1])}")
        answers = (m.text for m in reversed(history[-1].messages) if isinstance(m, Assistant))
        chat.face.replay(next(answers, ""))
    chat.tell_waiting()


def _question(run: KeptRun) -> str:
    said = asked(run)
    text = (
        said
        if isinstance(said, str)
        else "\n".join(getattr(part, "text", "[image]") for part in said)
    )
    return harmless(text)


def _export(chat: Chat, word: str) -> None:
    file = Path(word or f"{chat.talk.session.id}.md").expanduser()
    export(ExportOptions(chat.talk.session.id, None, str(file)))
    chat.face.show(f"written: {file}")


def _retry(chat: Chat, text: str) -> None:
    chat.ask_again(text or None)


def _undo(chat: Chat, _: str) -> None:
    gone = chat.wait_for(chat.talk.undo())
    done = any(isinstance(m, Assistant) and m.calls for run in gone for m in run.messages)
    ends = "; what tools did stays done" if done else ""
    chat.face.show(f"taken back: {line_of(_question(gone[0]), 80)}{ends}")


def _clear(chat: Chat, _: str) -> None:
    before = chat.talk.session.id
    had = bool(chat.talk.history)
    chat.talk.clear()
    chat.gauge = Gauge()
    chat.face.show(f"begun anew; /load {before} goes back" if had else "begun anew")


def _compact(chat: Chat, _: str) -> None:
    warn("the model sums up what was said")
    done = chat.wait_for(chat.talk.compact())
    if done.before == done.after:
        chat.face.show(f"{counted(done.before, 'message')}: too few to sum up")
    else:
        chat.face.show(f"{done.before} messages -> {done.after}; /export still has all")


def _approve(chat: Chat, words: str) -> None:
    if chat.talk.pending:
        why = words.removeprefix("no ")
        chat.decide(decision_in(why) if words else None)
        return
    lines = "\n".join(dict.fromkeys(_grants(chat)))
    chat.face.show(f"no call waits{f'; approved always:{chr(10)}{lines}' if lines else ''}")


def _grants(chat: Chat) -> Iterator[str]:
    for grant in chat.talk.session.memory.grants:
        call = "" if grant.arguments is None else f" {visible(grant.arguments)}"
        yield f"  {line_of(grant.tool)}{call}"


def _usage(chat: Chat, _: str) -> None:
    used = chat.talk.usage
    made = f"{counted(used.requests, 'request')}, {counted(used.tool_calls, 'tool call')}"
    chat.face.show(f"{made} · {chat.gauge.line(used)}")


def _exit(chat: Chat, _: str) -> None:
    raise Leave


COMMANDS = {
    "/help": Command("", "this list", _help),
    "/tools": Command("", "the tools", _tools),
    "/model": Command("[NAME]", "the model; another one from now on", _model),
    "/system": Command("[TEXT]", "what the model is told first; - for nothing", _system),
    "/image": Command("[FILE]", "an image for the next question; - for none", _image),
    "/save": Command("[NAME]", "keep the conversation under this name", _save),
    "/load": Command("[ID]", "go on with another conversation; list them", _load),
    "/export": Command("[FILE]", "write it as .md, .html or .json", _export),
    "/retry": Command("[TEXT]", "ask the last question again, or another instead", _retry),
    "/undo": Command("", "take the last question and its answer back", _undo),
    "/clear": Command("", "begin anew; this conversation is kept", _clear),
    "/compact": Command("", "have the model sum up what was before", _compact),
    "/approve": Command(
        "[yes|tool|call|no WHY]",
        "decide about the calls that wait; what is approved always",
        _approve,
    ),
    "/usage": Command("", "what the conversation has used", _usage),
    "/exit": Command("", "leave", _exit),
    "/quit": Command("", "leave", _exit),
}

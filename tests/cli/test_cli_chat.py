from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from command_line import TOOLS, Terminal, agentcall, asked, model_of
from dict_session import DictSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rows import each_row

from agentcall import Agent, tool
from agentcall.cli.approvals import TerminalPrompter
from agentcall.cli.chat import _open_terminal_ui
from agentcall.cli.chat.commands import COMMANDS, ChatExit, execute_command
from agentcall.cli.chat.loop import TerminalChat
from agentcall.cli.chat.prompt import CommandCompleter, PromptToolkitPrompter
from agentcall.cli.chat.ui import strip_fence
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.output import ActivityDisplay, AnswerWriter, FinalAnswerWriter
from agentcall.cli.render import LineDisplay
from agentcall.errors import MissingExtra, UsageError
from agentcall.events import ModelAnswered
from agentcall.messages import Image, Message, Usage, User
from agentcall.serving.conversation import Conversation
from agentcall.sessions import SQLiteSession
from agentcall.testing import FakeServer, ScriptedCall, ScriptedModel, call, calls, say, status

PIXEL = bytes.fromhex("89504e470d0a1a0a")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(TOOLS)
    return tmp_path


# At a terminal, as a person.


def prompted(shown: Terminal, words: str) -> None:
    """Waits for these words, and for the prompt behind them."""
    shown.wait_for(words)
    behind = shown.text.rindex(words)
    shown.wait_for("\n>", times=shown.text.count("\n>", 0, behind) + 1)


def test_a_conversation_with_tools_approvals_undo_export_and_resume(
    folder: Path, opened: list[Terminal]
) -> None:
    two = calls(ScriptedCall("Add", '{"a": 3, "b": 5}'), ScriptedCall("lines", {"count": 30}))
    slow = say("first words, and then " + "for a long while others " * 20).replace(delay=0.1)
    script = [
        two, say("It is **8**, [so](http://x.example) \x1b[31mthere."),
        call("delete", path="/etc"), say("It stays."),
        call("delete", path="/tmp/x"), say("It is gone."),
        slow, say("Back again."),
    ]  # fmt: skip
    with model_of(*script) as server:
        words = ("-t", "mine.py", "-m", server.url)
        shown = Terminal("chat", *words, cwd=folder)
        opened.append(shown)
        prompted(shown, "Ctrl-D leaves")
        shown.type("What is 3+5?\r")
        prompted(shown, "tool calls · ")
        shown.type("Delete it.\r")
        shown.wait_for("or the reason why not:")
        shown.type("not the folder\r")
        prompted(shown, "It stays.")
        assert "not the folder" in asked(server)[-1].messages[-1]["content"]
        shown.type("Then the other.\r")
        shown.wait_for("or the reason why not:", times=2)
        shown.type("y\r")
        prompted(shown, "It is gone.")
        shown.type("/undo\r")
        prompted(shown, "removed: Then the other.; the effects of its tool calls remain")
        shown.type("/export talk.md\r")
        prompted(shown, "written: talk.md")
        shown.type("/exit\r")
        assert shown.end() == 0
        text = shown.text
        assert text.index("▸ add(a=3, b=5)  ok ") < text.index("repaired name-case")
        assert text.index("… 26 more lines") < text.index("It is 8, so (http://x.example) there.")
        assert text.index('approve delete(path="/etc")') < text.index("It stays.")
        assert b"\x1b[31mred" not in shown.raw
        exported = (folder / "talk.md").read_text()
        assert "It stays." in exported
        assert "It is gone." not in exported

        (name,) = re.findall(r"saved: agentcall chat --session (\S+)", text)
        again = Terminal("chat", "-c", *words, cwd=folder)
        opened.append(again)
        prompted(again, "It stays.")
        assert f"{name}, after 1 exchange:" in again.text
        again.type("Tell me more.\r")
        again.wait_for("first words")
        again.type("\x03")
        prompted(again, "stopped; press Ctrl-C again to leave")
        again.type("And now?\r")
        prompted(again, "Back again.")
        said = [m["content"] for m in asked(server)[-1].messages if m["role"] == "user"]
        assert said == ["What is 3+5?", "Delete it.", "Tell me more.", "And now?"]
    again.type("Are you there?\r")
    prompted(again, "error: ")
    again.type("/usage\r")
    prompted(again, "5 requests, 2 tool calls")
    again.type("\x03")
    prompted(again, "\npress Ctrl-C again to leave")
    again.type("\x03")
    assert again.end() == 130
    assert again.text.endswith(f"saved: agentcall chat --session {name}\ninterrupted\n")
    assert "Traceback" not in again.text


# Piped: each line is a question.


def test_what_is_piped_in_is_asked_line_by_line_and_answered_in_plain_text(folder: Path) -> None:
    script = [call("add", a=3, b=5), say("It is **8**."), status(400), say("Two\nlines."), say("x")]
    lines = 'What is 3+5?\n\nBreak.\n/nonsense\n"""One\nquestion."""\nSay """x"""\n/usage\n'
    with model_of(*script) as server:
        done = agentcall("chat", "-t", "mine.py", "-m", server.url, cwd=folder, stdin=lines)
        said = [each.messages[-1]["content"] for each in asked(server)]
    assert said == ["What is 3+5?", "8", "Break.", "One\nquestion.", 'Say """x"""']
    assert done.stdout.startswith("It is **8**.\nTwo\nlines.\nx\n4 requests, 1 tool call · ")
    assert done.returncode == 0, done.stderr
    assert "tool: add(a=3, b=5) -> 8" in done.stderr
    assert "there is no command /nonsense; /help lists them" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_a_call_that_waits_is_decided_about_in_the_pipe_or_later(folder: Path) -> None:
    script = [call("delete", path="/etc"), say("Done.")]
    with model_of(*script) as server:
        words = ("chat", "-t", "mine.py", "-m", server.url)
        done = agentcall(*words, "--session", "x", cwd=folder, stdin="Delete it.\n")
        assert (done.returncode, done.stdout) == (4, "")
        assert 'delete(path="/etc")' in done.stderr
        assert "/approve yes" in done.stderr
        done = agentcall(*words, "-c", cwd=folder, stdin="/approve yes\n")
        assert (done.returncode, done.stdout) == (0, "Done.\n"), done.stderr
        assert asked(server)[-1].messages[-1]["content"] == "deleted /etc"


# The commands, without a terminal.


@tool(requires_approval=True)
def send(to: str) -> str:
    """Send."""
    return f"sent to {to}"


class RecordingUI:
    """A face that keeps what is shown."""

    def __init__(self) -> None:
        self.prompter = TerminalPrompter()
        self.texts: list[str] = []

    def read(self, status: str) -> str | None:
        return None

    def open_writers(self) -> tuple[AnswerWriter, ActivityDisplay]:
        return FinalAnswerWriter(), LineDisplay()

    def show(self, text: str) -> None:
        self.texts.append(text)

    def replay(self, text: str) -> None:
        self.texts.append(text)

    def mute_echo(self) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.fixture
def loop() -> Iterator[InterruptibleLoop]:
    with InterruptibleLoop() as made:
        yield made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENTCALL_SESSIONS", str(tmp_path / "s.db"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def chat(loop: InterruptibleLoop, *script: object) -> TerminalChat:
    agent = Agent(ScriptedModel(script), tools=[send])  # type: ignore[arg-type]
    return TerminalChat(Conversation(agent, SQLiteSession("trip", wait=0)), loop, RecordingUI())


def told(one: TerminalChat, *lines: str) -> str:
    """What is shown for the last of these lines."""
    assert isinstance(one.ui, RecordingUI)
    for line in lines:
        one.ui.texts.clear()
        if not execute_command(one, line):
            one.ask(line)
    return "\n".join(one.ui.texts)


def remembered(one: TerminalChat) -> list[Message]:
    return [message for run in one.conversation.history for message in run.messages]


def asked_by(one: TerminalChat) -> list[str]:
    messages = one.conversation.agent.model.requests[-1].messages  # type: ignore[union-attr]
    return [m["content"] for m in messages]


def test_the_help_names_every_command(here: Path, loop: InterruptibleLoop) -> None:
    shown = told(chat(loop), "/help")
    assert all(f"{name} " in shown for name in COMMANDS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/udno", r"no command /udno; did you mean /undo\?"),
        ("/undo", "nothing to undo"),
        ("/save x", "nothing to save"),
        ("/load x", "no session 'x'"),
        ("/image none.png", "no image file none.png"),
        ("/export", "no session 'trip'"),
        ("/model nonsense", "is not the name of a model"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(
    here: Path, loop: InterruptibleLoop, line: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        told(chat(loop, say("x")), line)


def test_a_path_and_what_follows_a_blank_are_questions(here: Path, loop: InterruptibleLoop) -> None:
    one = chat(loop, say("a"), say("b"))
    assert not execute_command(one, "/etc/hosts is what?")
    assert not execute_command(one, " /help me")


def test_the_tools_and_what_the_model_is_told(here: Path, loop: InterruptibleLoop) -> None:
    one = chat(loop, say("x"))
    assert told(one, "/tools") == "send (asks first): Send."
    assert told(one, "/system") == "there are no instructions"
    assert told(one, "/system Be brief.") == "the instructions are: Be brief."
    one.ask("Hi.")
    assert asked_by(one) == ["Be brief.", "Hi."]
    assert told(one, "/system -") == "there are no instructions"


def test_another_model_goes_on(here: Path, loop: InterruptibleLoop) -> None:
    one = chat(loop, say("one"))
    with FakeServer([say("two")]) as server:
        assert told(one, "1", f"/model {server.url}") == f"the model is '{server.url}'"
        told(one, "2")
    assert [m.text for m in remembered(one)] == ["1", "one", "2", "two"]


def test_images_go_with_the_next_question(here: Path, loop: InterruptibleLoop) -> None:
    (here / "a.png").write_bytes(PIXEL)
    one = chat(loop, say("A pixel."), say("x"))
    shown = told(one, "/image a.png")
    assert shown == "1 image will be sent with the next question; /image - removes them"
    told(one, "What is it?", "And now?")
    first, _, second, _ = remembered(one)
    assert isinstance(first, User)
    assert isinstance(first.content[0], Image)
    assert second == User("And now?")


def test_conversations_are_named_listed_left_and_loaded(
    here: Path, loop: InterruptibleLoop
) -> None:
    one = chat(loop, say("Cold."), say("Warm."))
    assert told(one, "How is Oslo?", "/save oslo") == "this conversation is saved as oslo"
    assert told(one, "/clear") == "new conversation; /load oslo returns to the old one"
    told(one, "How is Rome?", "/save rome")
    assert re.search(r"^rome .*2 messages  How is Rome\?\noslo ", told(one, "/load"))
    assert told(one, "/load os") == "oslo:\n\n> How is Oslo?\nCold."
    assert one.conversation.session.id == "oslo"


def test_a_chat_works_with_a_session_of_ones_own(here: Path, loop: InterruptibleLoop) -> None:
    one = chat(loop, call("send", to="ann"), say("Sent."), say("b"))
    one.conversation.session = DictSession({}, "oslo")
    one.ask("Mail Ann.")
    told(one, "/approve no not now")
    assert "not now" in one.conversation.history[0].messages[2].text
    assert told(one, "/clear") == "new conversation; /load oslo returns to the old one"
    one.ask("Again.")
    assert re.search(r"(?s)2 messages  Again\..*oslo .*Mail Ann\.", told(one, "/load"))
    assert told(one, "/load os").startswith("oslo:")
    told(one, "/export oslo.json", "/undo")
    assert "Mail Ann." in (here / "oslo.json").read_text()
    assert one.conversation.history == ()
    for line in ("/compact", "/save rome"):
        with pytest.raises(UsageError, match=r"DictSession cannot|nothing to save"):
            told(one, line)


def test_a_question_is_asked_again_and_the_talk_summed_up(
    here: Path, loop: InterruptibleLoop
) -> None:
    one = chat(loop, say("a"), say("b"), say("c"), say("d"), say("e"),
               say("f"), say("They spoke."))  # fmt: skip
    told(one, "1", "/retry", "/retry 2")
    assert [m.text for m in remembered(one)] == ["2", "c"]
    assert told(one, "/compact") == "2 messages: too few to summarize"
    told(one, "3", "4", "5")
    assert told(one, "/compact") == "8 messages -> 6; /export still has all of them"


def test_calls_are_decided_about_in_words(
    here: Path, loop: InterruptibleLoop, capfd: pytest.CaptureFixture[str]
) -> None:
    one = chat(loop, call("send", to="ann"), say("No?"), call("send", to="bob"), say("Sent."),
               call("send", to="eve"), say("Sent."))  # fmt: skip
    told(one, "Send.")
    assert 'send(to="ann")' in capfd.readouterr().err
    assert one.exit_code == 4
    told(one, "/approve no not to her")
    assert "refused this call: not to her. " in remembered(one)[2].text
    told(one, "Send.", "/approve tool")
    assert one.exit_code == 0
    told(one, "Send.")
    assert remembered(one)[-2].text == "sent to eve"
    assert told(one, "/approve") == "no call waits for approval\nalways approved: send"


def test_the_gauge_shows_the_speed_and_how_full_the_window_is(
    here: Path, loop: InterruptibleLoop
) -> None:
    card = {"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 16384}
    with FakeServer([say("Hello.")], pages={"/v1/models": {"data": [card]}}) as server:
        one = chat(loop)
        told(one, f"/model {server.url}", "Hello?")
        one.meter.record(ModelAnswered(Usage(1, 4000, 96, writing=0.5), 2.0, 0.5))
        shown = told(one, "/usage")
    assert " · context 4,096 of 16,384 (25%) · 192.0 tokens/s · " in shown


def test_leaving_leaves(here: Path, loop: InterruptibleLoop) -> None:
    with pytest.raises(ChatExit):
        told(chat(loop), "/exit")


def test_without_prompt_toolkit_a_terminal_is_told_what_to_install(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    monkeypatch.delitem(sys.modules, "agentcall.cli.chat.prompt")
    with pytest.raises(MissingExtra, match="Install the extra 'chat': pip install"):
        _open_terminal_ui(SQLiteSession("trip"), verbose=False)


# What is typed.


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("hello\r", "hello"),
        ('"""one\rtwo"""\r', "one\ntwo"),
        ("one\x1b\rtwo\r", "one\ntwo"),
        ("wrong\x03right\r", "right"),
        ("\x04", None),
    ],
)
def test_what_is_typed_is_read(here: Path, monkeypatch: pytest.MonkeyPatch, keys: str,
                               said: str | None) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_STATE_HOME", str(here))
    with create_pipe_input() as piped, create_app_session(input=piped, output=DummyOutput()):
        piped.send_text(keys)
        assert PromptToolkitPrompter({"/undo": list}).read("status") == said
    history = here / "agentcall" / "chat_history"
    assert history.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("begun", "whole"),
    [("/lo", ["/load"]), ("/load tr", ["trip"]), ("/image a", ["a.png"]), ("hello /lo", [])],
)
def test_commands_and_what_stands_behind_them_are_completed(
    here: Path, monkeypatch: pytest.MonkeyPatch, begun: str, whole: list[str]
) -> None:
    (here / "a.png").write_bytes(PIXEL)
    completer = CommandCompleter({"/load": lambda: ["trip", "rome"], "/image": list})
    found = completer.get_completions(Document(begun), CompleteEvent())
    word = begun.split()[-1]
    assert [word[: len(word) + each.start_position] + each.text for each in found] == whole


def test_ctrl_c_on_an_empty_line_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(here))
    with create_pipe_input() as piped, create_app_session(input=piped, output=DummyOutput()):
        piped.send_text("\x03")
        with pytest.raises(KeyboardInterrupt):
            PromptToolkitPrompter({}).read("status")


@each_row(
    ("text", "bare"),
    [
        ('"""a"""', "a"),
        ('  """\na\n\nb\n"""\n', "a\n\nb"),
        ('""', '""'),
        ('say """x"""', 'say """x"""'),
        ("a\udcffb", "a?b"),
    ],
)
def test_the_fence_around_several_lines_is_taken_off(text: str, bare: str) -> None:
    assert strip_fence(text) == bare

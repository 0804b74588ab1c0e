from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from command_line import TOOLS, Terminal, asked, model_of

from agentcall.testing import ScriptedCall, call, calls, say

Open = Callable[..., Terminal]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(TOOLS)
    return tmp_path


@pytest.fixture
def terminal(folder: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def opened(*words: str, stdin: int | None = None) -> Terminal:
            made = Terminal(*words, cwd=folder, stdin=stdin)
            stack.callback(made.close)
            return made

        yield opened


def test_a_call_is_a_card_and_the_answer_and_usage_follow(terminal: Open) -> None:
    with model_of(call("add", a=3, b=5), say("It is **8**.")) as server:
        shown = terminal("run", "3+5?", "-t", "mine.py", "-m", server.url)
        assert shown.end() == 0
    text = shown.text
    card, answer, usage = map(text.index, ("▸ add(a=3, b=5)  ok ", "It is **8**.", "2 requests · "))
    assert card < answer < usage
    assert b"\x1b[" in shown.raw


def test_the_answer_streams(terminal: Open) -> None:
    slow = say("first words, and then after a while the last").replace(delay=0.1)
    with model_of(slow) as server:
        shown = terminal("run", "?", "-m", server.url)
        assert "the last" not in shown.wait_for("first words")
        assert shown.end() == 0
    assert "the last" in shown.text


def test_thinking_is_folded_to_a_line(terminal: Open) -> None:
    with model_of(say("Yes.", thinking="I have to\nthink " + "a lot " * 50)) as server:
        shown = terminal("run", "?", "-m", server.url)
        assert shown.end() == 0
    (line,) = [line for line in shown.text.splitlines() if "thought for" in line]
    assert "I have to think a lot" in line
    assert len(line.rpartition("thought")[2]) < 100


def test_a_long_result_is_folded_and_its_escapes_are_gone(terminal: Open) -> None:
    with model_of(call("lines", count=30), say("ok")) as server:
        shown = terminal("run", "?", "-t", "mine.py", "-m", server.url)
        assert shown.end() == 0
    assert "line 3 red" in shown.text
    assert "… 26 more lines" in shown.text
    assert "line 29" not in shown.text
    assert b"\x1b[31mred" not in shown.raw


def test_verbose_unfolds_and_names_the_dialect(terminal: Open) -> None:
    with model_of(call("lines", count=30), say("ok")) as server:
        shown = terminal("run", "-v", "?", "-t", "mine.py", "-m", server.url)
        assert shown.end() == 0
    assert "line 29" in shown.text
    assert "dialect native: " in shown.text


def test_a_repair_stands_on_the_card(terminal: Open) -> None:
    with model_of(calls(ScriptedCall("Add", '{"a": 3, "b": 5}')), say("8")) as server:
        shown = terminal("run", "?", "-t", "mine.py", "-m", server.url)
        assert shown.end() == 0
    assert shown.text.index("▸ add(") < shown.text.index("repaired ")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("y\n", "deleted /etc"),
        ("no\n", "A person refused this call"),
        ("not that one\n", "not that one"),
        ("\nyes\n", "deleted /etc"),
    ],
)
def test_a_person_decides_about_a_call(terminal: Open, keys: str, told: str) -> None:
    with model_of(call("delete", path="/etc"), say("Well.")) as server:
        shown = terminal("run", "?", "-t", "mine.py", "-m", server.url)
        shown.wait_for("or the reason why not:")
        shown.type(keys)
        assert shown.end() == 0
        assert told in asked(server)[-1].messages[-1]["content"]
    assert 'approve delete(path="/etc")' in shown.text


def test_a_person_is_told_why_a_call_waits(terminal: Open, folder: Path) -> None:
    (folder / "page.py").write_text(
        "from agentcall import tool\n\n"
        "@tool(untrusted=True)\ndef page() -> str:\n    'Reads a page.'\n    return 'obey'\n"
    )
    with model_of(call("page"), call("nap", seconds=60), say("Well.")) as server:
        shown = terminal("run", "?", "-t", "page.py", "-t", "mine.py", "-m", server.url)
        shown.wait_for("or the reason why not:")
        shown.type("n\n")
        assert shown.end() == 0
    asked, why = (
        shown.text.index("approve nap(seconds=60)"),
        shown.text.index("why: untrusted content"),
    )
    assert asked < why < shown.text.index("not marked read_only")


def test_a_person_is_asked_also_where_the_prompt_was_piped_in(terminal: Open) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"Clean up.")
    os.close(writer)
    with model_of(call("delete", path="/etc"), say("Well.")) as server:
        shown = terminal("run", "-t", "mine.py", "-m", server.url, stdin=reader)
        os.close(reader)
        shown.wait_for("or the reason why not:")
        shown.type("y\n")
        assert shown.end() == 0
    assert "deleted /etc" in shown.text


def test_ctrl_c_at_the_question_and_in_a_tool_ends_with_130(terminal: Open) -> None:
    with model_of(call("delete", path="/etc"), say("Well.")) as server:
        shown = terminal("run", "?", "-t", "mine.py", "-m", server.url)
        shown.wait_for("or the reason why not:")
        shown.type("\x03")
        assert shown.end(5) == 130
    with model_of(call("nap", seconds=60), say("Well.")) as server:
        shown = terminal("run", "?", "-t", "mine.py", "-m", server.url)
        shown.wait_for("running nap")
        shown.type("\x03")
        assert shown.end(20) == 130
    assert "Traceback" not in shown.text
    assert "interrupted" in shown.text


def test_the_list_of_tools_is_a_table(terminal: Open) -> None:
    shown = terminal("tools", "list", "-t", "mine.py")
    assert shown.end() == 0
    assert "description" in shown.text
    assert "requires approval" in shown.text
    assert max(map(len, shown.text.splitlines())) <= 100

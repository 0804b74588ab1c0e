from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from command_line import TOOLS, Terminal, agentcall
from rows import each_row

from agentcall.cli.load import load_agent, load_tools
from agentcall.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(TOOLS)
    (tmp_path / "plain.py").write_text(
        "from mine import word\nfrom os.path import join\n\n"
        'def greet(name: str = "you") -> str:\n    return f"{word}: {name}"\n\n'
        "def _hidden() -> None: ...\n"
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "deep.py").write_text(
        "class Shop:\n    def buy(self, n: int) -> int:\n        return n\n\nshop = Shop()\n"
    )
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n")
    (tmp_path / "garbled.py").write_text("def f(:\n")
    return tmp_path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder as the current one; what is imported from it is forgotten."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield folder
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) is None or str(folder) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


ESCAPES = "\x1b[31mred\x1b[0m\x07\x9b2J\x1b]0;title\x07\r"


def test_what_tools_give_moves_no_cursor(tmp_path: Path) -> None:
    (tmp_path / f"a{ESCAPES}.txt").write_text("milk\n")
    (tmp_path / "b.txt").write_text(f"milk {ESCAPES}\n")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE names (name TEXT)")
        connection.execute("INSERT INTO names VALUES (?)", (f"Ann {ESCAPES}",))
        connection.commit()
    (tmp_path / "odd.py").write_text(
        "from agentcall import tool\n"
        "from typing import Literal\n"
        f"@tool\ndef odd(how: Literal['a', {ESCAPES!r}] = 'a') -> str:\n"
        f"    'Odd {{words}}'\n    raise ValueError({ESCAPES!r})\n"
    )
    calls = [
        ("call", "list_files", "{}", "-t", "files=."),
        ("call", "search_files", '{"text": "milk"}', "-t", "files=."),
        ("call", "read_file", '{"path": "b.txt"}', "-t", "files=."),
        ("call", "read_file", '{"path": "c"}', "-t", "files=."),
        ("call", "query_database", '{"query": "SELECT * FROM names"}', "-t", "sql=shop.db"),
        ("call", "odd", "{}", "-t", "odd.py"),
        ("list", "-t", "odd.py"),
        ("list", "--json", "-t", "odd.py"),
        ("schema", "odd", "-t", "odd.py"),
    ]
    for words in calls:
        done = agentcall("tools", *words, cwd=tmp_path)
        for control in ("\x1b", "\x07", "\x9b", "\r"):
            assert control not in done.stdout + done.stderr, (words, control)
    for words in calls[1], calls[4], calls[6]:
        shown = Terminal("tools", *words, cwd=tmp_path)
        try:
            shown.end()
            assert b"red" in shown.raw
            for control in (b"\x1b[31mred", b"\x07", b"\xc2\x9b", b"\x1b]0;"):
                assert control not in shown.raw, (words, control)
        finally:
            shown.close()


def test_the_ready_tools_are_listed_with_what_they_take(folder: Path) -> None:
    listed = json.loads(agentcall("tools", "list", "--json", cwd=folder).stdout)
    (calculator,) = [tool for tool in listed if tool["name"] == "calculator"]
    assert calculator["arguments"] == "expression: string"
    assert calculator["from"] == "agentcall_tools.calculator"
    assert "idempotent" in calculator["marks"]


def test_the_list_says_what_makes_the_tools_that_need_a_word(folder: Path) -> None:
    listed = json.loads(agentcall("tools", "list", "--json", cwd=folder).stdout)
    needs = {tool["name"]: tool["needs"] for tool in listed}
    assert needs["calculator"] == ""
    assert needs["read_file"] == "-t files=ROOT"
    assert needs["query_database"] == "-t sql=URL"
    assert needs["web_search"] == "-t search=URL"
    assert needs["run_command"] == "-t shell=ALLOW"
    assert needs["run_python"] == "-t python"
    assert len(needs) == len(listed)
    listed = json.loads(agentcall("tools", "list", "--json", "-t", "files=.", cwd=folder).stdout)
    assert {tool["name"]: tool["needs"] for tool in listed}["read_file"] == ""


def test_tools_are_made_with_a_word(folder: Path) -> None:
    (folder / "note.txt").write_text("buy milk")
    call = ("tools", "call", "read_file", '{"path": "note.txt"}')
    assert agentcall(*call, "-t", "files=.", cwd=folder).stdout == "buy milk\n"
    connection = sqlite3.connect(folder / "a.db")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    call = ("tools", "call", "list_tables")
    assert agentcall(*call, "-t", "sql=sqlite:///a.db", cwd=folder).stdout == "CREATE TABLE t (x)\n"
    call = ("tools", "call", "run_command", '{"command": "echo hi"}')
    assert agentcall(*call, "-t", "shell=ls,echo", cwd=folder).stdout == "hi\n[exit code 0]\n"


def test_a_piped_list_is_one_tool_a_line(folder: Path) -> None:
    done = agentcall("tools", "list", "-t", "mine.py", cwd=folder)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    (row,) = [row for row in rows if row[0] == "delete"]
    assert row[1:4] == ["path: string", "Deletes a file.", "requires approval"]
    assert row[4].startswith("mine.py:")


def test_marks_that_are_no_plain_yes_are_listed_with_their_values(tmp_path: Path) -> None:
    (tmp_path / "marked.py").write_text(
        "from agentcall import tool\n\n"
        "@tool(after_crash='ask', egress=['url', 'q'], isolated=True, "
        "variables=['A'], memory=None)\n"
        "def look(url: str, q: str) -> str:\n    'Look.'\n    return ''\n"
    )
    done = agentcall("tools", "list", "-t", "marked.py", cwd=tmp_path)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    (row,) = [row for row in rows if row[0] == "look"]
    assert row[3] == "egress url q, isolated, memory none, variables A, after crash ask"


def test_the_schema_is_the_tool_object_of_openai(folder: Path) -> None:
    done = agentcall("tools", "schema", "add", "-t", "mine.py", cwd=folder)
    definition = json.loads(done.stdout)
    assert definition["type"] == "function"
    assert definition["function"]["name"] == "add"
    assert definition["function"]["parameters"]["required"] == ["a", "b"]


@each_row(
    ("place", "found"),
    [
        ("mine.py", ["add", "mul", "lines", "delete", "fail", "nap"]),
        ("mine.py:mul", ["mul"]),
        ("mine.py:registry", ["add", "mul"]),
        ("mine:registry", ["add", "mul"]),
        ("mine", ["add", "mul", "lines", "delete", "fail", "nap"]),
        ("plain.py", ["greet"]),
        ("./plain.py:greet", ["greet"]),
        ("package.deep:shop.buy", ["buy"]),
        ("calculator", ["calculator"]),
        ("files=.", ["list_files", "read_file", "search_files", "write_file"]),
        ("python", ["run_python"]),
        ("fetch=127.0.0.1,wiki.corp", ["fetch"]),
        ("agentcall_tools.units", ["convert_units"]),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_place_names_tools(place: str, found: list[str]) -> None:
    assert load_tools([place]).names == tuple(found)


def test_several_places_add_up(folder: Path) -> None:
    places = ["-t", "mine.py:mul", "-t", "calculator", "-t", "mine:add"]
    tools = json.loads(agentcall("tools", "schema", *places, cwd=folder).stdout)
    assert [tool["function"]["name"] for tool in tools] == ["mul", "calculator", "add"]


def test_a_package_of_ready_tools_is_all_of_them() -> None:
    assert {"calculator", "weather"} <= set(load_tools(["agentcall_tools"]).names)


@pytest.mark.usefixtures("here")
def test_an_agent_has_a_place_too() -> None:
    assert load_agent("mine.py:agent").instructions == "Mind the sums."
    with pytest.raises(UsageError, match=r"mine\.py names no agent; .*it has: agent"):
        load_agent("mine.py")
    with pytest.raises(UsageError, match=r"mine\.py:word is a str, not an Agent"):
        load_agent("mine.py:word")


def test_a_wrong_place_is_one_line_and_ends_with_2(folder: Path) -> None:
    done = agentcall("tools", "schema", "-t", "broken.py", cwd=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@each_row(
    ("place", "words"),
    [
        ("calculater", "did you mean calculator?"),
        ("nonsense", "Ready tools: calculator, "),
        ("nonsense", "Toolkits: files=ROOT, sql=URL"),
        ("files", "write it as files=ROOT"),
        ("files=/no/such/folder", "there is no folder /no/such/folder"),
        ("python=5", "write it as python"),
        ("search=searx", "not an http:// or https:// address"),
        ("filez=/tmp", "there is no ready tool and no module 'filez=/tmp'"),
        (
            "mine.py:ad",
            "has no 'ad'; it has: add, mul, lines, delete, fail, nap, registry, agent",
        ),
        ("min.py", "it has: broken.py, garbled.py, mine.py"),
        ("nowhere:f", "there is no module 'nowhere'"),
        ("broken.py", "ZeroDivisionError: division by zero"),
        ("broken", "broken.py:2"),
        ("garbled.py", "garbled.py:1"),
        ("mine.py:word", "'no tool' is a text, not a tool"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_place_with_no_tool_is_an_error_that_says_what_there_is(place: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_tools([place])
    assert words in str(caught.value)


def test_debugging_shows_the_traceback(folder: Path) -> None:
    done = agentcall("tools", "schema", "-t", "broken.py", cwd=folder, env={"AGENTCALL_DEBUG": "1"})
    assert "Traceback" in done.stderr


def test_a_call_by_hand_prints_the_result_alone(folder: Path) -> None:
    done = agentcall("tools", "call", "add", '{"a": 3, "b": 5}', "-t", "mine.py", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")


def test_a_call_by_hand_may_be_piped_in(folder: Path) -> None:
    stdin = '{"expression": "(3+5)*2"}'
    done = agentcall("tools", "call", "calculator", "-", cwd=folder, stdin=stdin)
    assert done.stdout == "16\n"


def test_a_call_by_hand_says_what_it_repaired(folder: Path) -> None:
    done = agentcall("tools", "call", "add", '{"a": 3, "b": 5', "-t", "mine.py", cwd=folder)
    assert done.stdout == "8\n"
    assert done.stderr.startswith("repaired ")


def test_arguments_that_do_not_fit_end_with_1_and_say_why(folder: Path) -> None:
    done = agentcall("tools", "call", "add", '{"a": "x"}', "-t", "mine.py", cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert '"x"' in done.stderr


def test_a_tool_that_fails_ends_with_1(folder: Path) -> None:
    done = agentcall("tools", "call", "fail", "-t", "mine.py", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "ValueError: no disk\n")


def test_a_tool_that_is_not_there_ends_with_2(folder: Path) -> None:
    done = agentcall("tools", "call", "nothing", "-t", "mine.py", cwd=folder)
    assert done.returncode == 2


def test_a_name_that_holds_several_tools_is_refused(folder: Path) -> None:
    done = agentcall("tools", "call", "mine.py", cwd=folder)
    assert done.returncode == 2
    assert "holds 6 tools" in done.stderr

"""Every code block of the README and the docs runs, and so does every example in a docstring.

The Python blocks of a page run from top to bottom in one namespace, against a fake server whose
model answers by a few rules. In shell blocks, the lines that begin with `agentcall` run.
"""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import pytest
from command_line import agentcall as agentcall_of
from fake_lmdeploy import written
from rows import each_row
from supervised import state_in

import agentcall
import agentcall_server
import agentcall_tools
from agentcall.result import StopReason
from agentcall.testing import FakeServer, Reply, call, say

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
WEATHER = '''"""The weather of a city."""


def weather(city: str) -> str:
    """Get the current weather of a city."""
    return f"{city}: 21 C, sunny"
'''

TASKS = """"Do I need a coat in Oslo?"
{"id": "rome", "prompt": "Do I need a coat in Rome?"}
"""

CALLS: dict[str, Reply] = {
    "coat in Oslo": call("weather", city="Oslo"),
    "note on Paris": call("read_note", name="Paris"),
    "Tell Ann": call("send", to="Ann", text="The meeting is at ten."),
    "(3+5)*2": call("add", a=3, b=5),
    "apples are there": call("stock", item="apple"),
    "any pears": call("stock", item="pear"),
}


def answer_by_rules(
    messages: Sequence[Mapping[str, object]], tools: Sequence[Mapping[str, object]]
) -> Reply:
    last = messages[-1]
    text = str(last.get("content"))
    if last.get("role") == "tool":
        return say(f"The tool says: {text}")
    if tools:
        for phrase, reply in CALLS.items():
            if phrase in text:
                return reply
    if "JSON Schema" in str(messages[0].get("content")):
        return say('{"city": "Paris", "country": "France"}')
    return say("I do not know.")


def find_blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    text = page.read_text()
    for match in BLOCK.finditer(text):
        if match.group(1) == language:
            yield text.count("\n", 0, match.start()) + 2, match.group(2)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    with FakeServer(brain=answer_by_rules) as server:
        monkeypatch.setenv("AGENTCALL_MODEL", server.url)
        yield server


@pytest.fixture(autouse=True)
def lmdeploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put a program `lmdeploy` on the PATH for the servers that the pages launch."""
    program = written(tmp_path / "bin", serve=True)
    ours = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{ours}:{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with state_in(tmp_path / "state"):
        yield


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.mcp] * (page.name == "mcp.md")) for page in PAGES],
    ids=lambda page: page.name,
)
def test_the_python_of_a_page_runs(
    page: Path, model: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "docs"}
    for line, source in find_blocks(page, "python"):
        exec(compile("\n" * (line - 1) + source, str(page), "exec"), namespace)


@pytest.mark.processes
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(
    page: Path, model: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCALL_CACHE", str(tmp_path / ".cache"))
    (tmp_path / "weather.py").write_text(WEATHER)
    (tmp_path / "tasks.jsonl").write_text(TASKS)
    ours = {name: value for name, value in os.environ.items() if name.startswith("AGENTCALL")}
    for line, source in find_blocks(page, "sh"):
        for command in source.splitlines():
            if not command.startswith("agentcall "):
                continue
            if command.startswith("agentcall doctor"):
                command = f"agentcall doctor {model.url}"
            _, *words = shlex.split(command, comments=True)
            done = agentcall_of(*words, cwd=tmp_path, env=ours)
            assert done.returncode == 0, f"{page.name}:{line}: {command}\n{done.stderr}"


def list_modules() -> Iterator[str]:
    for package in (agentcall, agentcall_tools, agentcall_server):
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith(".plugin"):  # needs a pytest session
                yield found.name


@each_row("name", list(list_modules()))
def test_the_examples_in_docstrings_are_right(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ImportError as missing:
        pytest.skip(str(missing))
    assert doctest.testmod(module).failed == 0


def test_the_stopping_page_explains_every_stop_reason() -> None:
    page = (ROOT / "docs" / "stopping.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ", page, re.MULTILINE)
    assert sorted(rows) == sorted(get_args(StopReason))

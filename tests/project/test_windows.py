"""What works on Windows, played by taking away what only POSIX has (`support/windows_play.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

SUPPORT = Path(__file__).parents[1] / "support"


def run_on_windows(code: str, folder: Path, stdin: str = "") -> str:
    """Run a program and return its standard output; it has to succeed."""
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "windows_play.py"), code],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "PYTHONPATH": str(SUPPORT)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORTS = """
import importlib, pkgutil
import agentcall, agentcall_server, agentcall_tools
for package in (agentcall, agentcall_server, agentcall_tools):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(found.name)
        except ImportError as error:
            missing = getattr(error, "name", None) or str(error)
            assert any(name in missing for name in ("gradio", "not installed", "xllamacpp")), found
print("imported")
"""


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    assert "imported" in run_on_windows(IMPORTS, tmp_path)


AGENT = """
from agentcall import Agent, SQLiteSession, tool
from agentcall.testing import FakeServer, ScriptedModel, call, say

@tool
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

@tool
async def add_later(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

SCRIPT = [call("add", a=2, b=3), call("add_later", a=5, b=3), say("It is 8.")]
"""


def test_an_agent_runs(tmp_path: Path) -> None:
    code = f"""{AGENT}
with FakeServer(SCRIPT) as server:
    result = Agent(server.url, tools=[add, add_later]).run_sync("2+3+3?")
print(result.output, [r.text for _, r in result.tool_calls])
"""
    assert run_on_windows(code, tmp_path) == "It is 8. ['5', '8']\n"


def test_a_session_is_kept_in_a_file(tmp_path: Path) -> None:
    code = f"""{AGENT}
agent = Agent(ScriptedModel([say("one"), say("two")]))
agent.run_sync("a", session=SQLiteSession("trip", "sessions.db"))
agent.run_sync("b", session=SQLiteSession("trip", "sessions.db"))
print([m.text for m in SQLiteSession("trip", "sessions.db").messages if hasattr(m, "calls")])
import os
print(sorted(os.listdir()))
"""
    lines = run_on_windows(code, tmp_path).splitlines()
    assert lines[0] == "['one', 'two']"
    assert not [name for name in eval(lines[1]) if "lock" in name or "new" in name]


def test_a_durable_run_continues_from_its_journal(tmp_path: Path) -> None:
    code = f"""{AGENT}
from agentcall.durable import durable
from agentcall.errors import ModelError
agent = Agent(ScriptedModel([call("add", a=2, b=3)]), tools=[add])
try:
    with durable(agent, "sqlite:///runs.db") as runs:
        runs.run_sync("2+3?", run_id="r1")
except Exception as error:
    print(type(error).__name__)
with durable(Agent(ScriptedModel([say("It is 5.")]), tools=[add]), "sqlite:///runs.db") as runs:
    result = runs.run_sync(run_id="r1")
print(result.output, [r.text for _, r in result.tool_calls])
import os
print([name for name in os.listdir() if "runner" in name])
"""
    assert run_on_windows(code, tmp_path).splitlines()[1:] == ["It is 5. ['5']", "[]"]


CLI = """
import sys
from agentcall.testing import FakeServer, say
from agentcall.cli import main
with FakeServer(brain=lambda messages, tools: say("Hello.")) as server:
    sys.argv = ["agentcall", *{words!r}, "-m", server.url]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
"""


@pytest.mark.parametrize(
    ("words", "stdin", "answers"),
    [
        (["run", "hi"], "", 1),
        (["run", "hi", "--session", "trip"], "", 1),
        (["run", "hi", "--durable", "--trace", "trace.jsonl"], "", 1),
        (["chat"], "hi\nhi again\n", 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line_works(words: list[str], stdin: str, answers: int, tmp_path: Path) -> None:
    printed = run_on_windows(CLI.format(words=words), tmp_path, stdin)
    assert printed.count("Hello.") == answers


def test_an_agent_is_served_until_ctrl_c(tmp_path: Path) -> None:
    code = f"""{AGENT}
import json, signal, socket, sys, threading, urllib.request
from agentcall.cli import main
(free := socket.socket()).bind(("127.0.0.1", 0))
port = free.getsockname()[1]
free.close()
open("mine.py", "w").write('''
from agentcall import Agent
from agentcall.testing import ScriptedModel, say
agent = Agent(ScriptedModel([say("served")]))
''')

def ask():
    body = json.dumps(dict(model="agent", messages=[dict(role="user", content="hi")])).encode()
    headers = {{"Content-Type": "application/json"}}
    url = f"http://127.0.0.1:{{port}}/v1/chat/completions"
    for attempt in range(100):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
                print(json.load(answer)["choices"][0]["message"]["content"], flush=True)
            break
        except OSError as error:
            print(error, getattr(error, "fp", None) and error.read(), file=sys.stderr)
            threading.Event().wait(0.2)
    signal.raise_signal(signal.SIGINT)

threading.Thread(target=ask, daemon=True).start()
sys.argv = ["agentcall", "serve", "-a", "mine.py:agent", "--port", str(port)]
try:
    main()
except SystemExit:
    pass
print("stopped")
"""
    assert run_on_windows(code, tmp_path) == "served\nstopped\n"


def test_what_needs_posix_says_so(tmp_path: Path) -> None:
    code = """
from agentcall import Agent
from agentcall.testing import ScriptedModel, say
import isolated_tools
for start in (
    lambda: Agent(ScriptedModel([say("ok")]), tools=[isolated_tools.add]),
    lambda: __import__("agentcall_tools").ShellTool("git"),
    lambda: __import__("agentcall_tools").Files("."),
    lambda: launch(),
):
    try:
        start()
    except Exception as error:
        print(error)
def launch():
    pass
from agentcall_server.launcher import launch_server
from agentcall_server.launch import Launch
from agentcall_server.progress import make_progress
try:
    launch_server(Launch("internlm2_5-7b-chat"), make_progress())
except Exception as error:
    print(error)
"""
    printed = run_on_windows(code, tmp_path)
    assert "cannot be isolated: that needs Linux or macOS; on Windows, run the program in WSL" in (
        printed
    )
    assert "servers are launched on Linux and macOS; on Windows, use WSL" in printed
    assert printed.count("Windows") >= 2

"""The ten programs of examples/comparison, in agentcall and in two other frameworks.

Those of the others run where `PEERS_PYTHON` names a Python that has `pydantic-ai-slim[openai,mcp]`
and `openai-agents`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agentcall.testing import FakeServer, call, say

pytest_plugins = ["agentcall.testing.plugin"]
Serve = Callable[..., FakeServer]

FOLDER = Path(__file__).parents[2] / "examples" / "comparison"
FRAMEWORKS = ("agentcall", "pydantic_ai", "openai_agents")
PROGRAMS = sorted(path.name for path in FOLDER.iterdir() if (path / "with_agentcall.py").exists())
FIVE = '{"city": "Oslo", "nights": 5}'
TWO = '{"city": "Oslo", "nights": 2}'
PLACE = '{"city": "Paris", "country": "France"}'

SCRIPTS: dict[str, tuple[list[Any], str]] = {
    "agent_as_tool": (
        [call("forecaster", task="Oslo?"), say("It is sunny."), say("You need no coat.")],
        "You need no coat.",
    ),
    "approval": ([call("send", to="Ann", text="At ten."), say("I told Ann.")], "I told Ann."),
    "dependencies": ([call("weather"), say("Ann, you need no coat.")], "Ann, you need no coat."),
    "hello_tool": ([call("weather", city="Oslo"), say("You need no coat.")], "You need no coat."),
    "mcp_tools": ([call("weather", city="Oslo"), say("You need no coat.")], "You need no coat."),
    "model_settings": ([say("Hello!")], "Hello!"),
    "session": ([say("Hello Ann!"), say("You are Ann.")], "You are Ann."),
    "streaming": ([say("Once upon a time")], "Once upon a time"),
    "typed_output": ([say(PLACE)], "Paris"),
    "validation": ([say(FIVE), say(TWO)], "city='Oslo' nights=2"),
}
"""What the model answers, and how the output ends."""

OTHER_SCRIPTS = {
    ("agent_as_tool", "pydantic_ai"): [call("ask_forecaster", task="Oslo?")],
    ("agent_as_tool", "openai_agents"): [call("forecaster", input="Oslo?")],
    ("typed_output", "pydantic_ai"): [call("final_result", city="Paris", country="France")],
    ("validation", "pydantic_ai"): [
        call("final_result", city="Oslo", nights=5),
        call("final_result", city="Oslo", nights=2),
    ],
}
"""The first answers where a framework has other names for its tools."""


def count_lines(program: str, framework: str) -> int:
    text = (FOLDER / program / f"with_{framework}.py").read_text("utf-8")
    return sum(1 for line in text.splitlines() if line.strip())


def test_our_programs_are_the_shortest_by_a_tenth_and_none_is_much_longer() -> None:
    totals = {name: sum(count_lines(p, name) for p in PROGRAMS) for name in FRAMEWORKS}
    assert totals["agentcall"] <= 0.9 * min(totals["pydantic_ai"], totals["openai_agents"])
    for program in PROGRAMS:
        ours, *others = (count_lines(program, name) for name in FRAMEWORKS)
        assert ours <= min(others) + 1, program


@pytest.mark.processes
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_program_prints_the_answer(
    program: str, framework: str, fake_server: Serve, tmp_path: Path
) -> None:
    python = sys.executable if framework == "agentcall" else os.environ.get("PEERS_PYTHON", "")
    if not python:
        pytest.skip("PEERS_PYTHON is not set: the other frameworks are not installed")
    script, answer = SCRIPTS[program]
    first = OTHER_SCRIPTS.get((program, framework), script)
    server = fake_server([*first, *script[len(first) :]])
    output = run(python, program, framework, server.url, tmp_path)
    assert output.endswith(f"{answer}\n" if program != "streaming" else answer)
    assert len(server.requests) == len(script)
    check_requests(program, framework, server)


def check_requests(program: str, framework: str, server: FakeServer) -> None:
    first, last = server.requests[0], server.requests[-1]
    if program == "dependencies":
        assert "Ann" in str(first.messages[0])
    if program == "model_settings":
        assert (first.body["temperature"], first.headers["x-tenant"]) == (0.2, "a")
    if program == "session":
        assert "My name is Ann." in str(last.messages)
    if program in ("validation", "approval"):
        wanted = "At most 3 nights are free." if program == "validation" else "sent to Ann"
        assert wanted in str(last.messages)


def run(python: str, program: str, framework: str, url: str, folder: Path) -> str:
    shutil.copy(FOLDER / "weather_server.py", folder)
    path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
    variables: Mapping[str, str] = {
        **os.environ,
        "PATH": path,
        "AGENTCALL_MODEL": url,
        "OPENAI_BASE_URL": url,
        "OPENAI_API_KEY": "none",
    }
    done = subprocess.run(
        [python, FOLDER / program / f"with_{framework}.py"],
        cwd=folder,
        env=variables,
        input="y\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

"""A model on this machine is loaded when a command starts, not by the first question."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import pytest
from command_line import SCRIPT, agentcall, environment

AGENT = """
import asyncio, threading
from agentcall import Agent
from agentcall.dialects.answer_parts import TextPart
from agentcall.messages import Usage
from agentcall.models.model import ResponseEnd

is_prepared = threading.Event()

class Model:
    def prepare(self, prompt):
        is_prepared.set()

    async def ask(self, request):
        done = await asyncio.to_thread(is_prepared.wait, 20)
        yield TextPart("it was loaded" if done else "it was not loaded")
        yield ResponseEnd("stop", Usage(1))

agent = Agent(Model())
"""


def test_the_chat_loads_the_model_at_its_start(tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text(AGENT)
    done = agentcall("chat", "-a", "agents.py:agent", cwd=tmp_path, stdin="Hi!\n")
    assert "it was loaded" in done.stdout


@pytest.mark.processes
def test_the_endpoint_loads_the_model_at_its_start(tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text(AGENT)
    process = subprocess.Popen(
        [SCRIPT, "serve", "-a", "agents.py:agent", "--port", "0"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = re.findall(r"http://\S+", process.stderr.readline())[0]
        body = {"messages": [{"role": "user", "content": "Hi!"}]}
        answer = httpx.post(f"{url}/chat/completions", json=body, timeout=30)
    finally:
        process.terminate()
        process.communicate(timeout=10)
    assert answer.json()["choices"][0]["message"]["content"] == "it was loaded"

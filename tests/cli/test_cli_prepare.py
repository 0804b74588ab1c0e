"""A model on this machine is loaded when a command starts, not by the first question."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from command_line import agentcall, served

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
    with served("-a", "agents.py:agent", cwd=tmp_path) as url:
        body = {"messages": [{"role": "user", "content": "Hi!"}]}
        answer = httpx.post(f"{url}/chat/completions", json=body, timeout=30)
    assert answer.json()["choices"][0]["message"]["content"] == "it was loaded"

"""Drives agno: `Agent.run` with `OpenAILike`, telemetry off."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.robustness.peers.worker import INSTRUCTIONS, KEY, MODEL, Task, serve

agno_agent: Any = import_module("agno.agent")  # Any: in this peer's environment alone
agno_models: Any = import_module("agno.models.openai.like")  # Any: as above


def drive(task: Task) -> object:
    """The content of a run."""
    agent = agno_agent.Agent(
        model=agno_models.OpenAILike(id=MODEL, base_url=task.url, api_key=KEY),
        tools=list(task.tools),
        instructions=INSTRUCTIONS,
        telemetry=False,
    )
    if not task.stream:
        return agent.run(task.question).content
    events = agent.run(task.question, stream=True, stream_events=True)
    ends = [event.content for event in events if event.event == "RunCompleted"]
    return ends[-1] if ends else None


if __name__ == "__main__":
    serve(drive, ("agno", "openai"))

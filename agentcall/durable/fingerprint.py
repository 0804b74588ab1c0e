"""What a run is made of, as digests, so that a later process can say what has changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from agentcall.agent import Agent
from agentcall.durable.journal import RecordBody, compute_digest
from agentcall.messages import JSON


@dataclass(frozen=True, slots=True)
class AgentFingerprint:
    """Digests of instructions, answer type and tools by name; the parts that the model is told."""

    instructions: str = ""
    answer: str = ""
    tools: dict[str, str] = field(default_factory=dict[str, str])

    def json(self) -> dict[str, JSON]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_agent(
        cls, agent: Agent[Any, Any]
    ) -> AgentFingerprint:  # Any: its types do not matter here
        """The code of an agent."""
        offer = agent.spec.prompt
        return cls(
            compute_digest(offer.instructions),
            compute_digest(_dump_sorted(offer.answer_schema)),
            {tool.name: compute_digest(_dump_sorted(tool.definition)) for tool in offer.tools},
        )

    @classmethod
    def from_json(cls, wire: RecordBody) -> AgentFingerprint:
        """The code that a JSON form says."""
        return cls(wire["instructions"], wire["answer"], dict(wire["tools"]))

    def describe_changes(self, now: AgentFingerprint) -> tuple[str, ...]:
        """What is otherwise now, in words."""
        return tuple(self._iter_changes(now))

    def _iter_changes(self, now: AgentFingerprint) -> Iterator[str]:
        if self.instructions != now.instructions:
            yield "the instructions have changed"
        if self.answer != now.answer:
            yield "the type of the answer has changed"
        for name in self.tools.keys() - now.tools.keys():
            yield f"the tool {name} is gone"
        for name in now.tools.keys() - self.tools.keys():
            yield f"the tool {name} is new"
        for name in self.tools.keys() & now.tools.keys():
            if self.tools[name] != now.tools[name]:
                yield f"the tool {name} has changed"


def _dump_sorted(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()

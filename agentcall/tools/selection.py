"""Selects the tools that a model is offered in a conversation: of a large registry, and of skills.

Rules:
1. It begins with the `INITIAL_COUNT` tools that match the user's words best. Each further user
   message adds up to `FURTHER_COUNT`, up to the maximum.
2. The model finds others with `find_tools`, and is offered the tools that it calls from then on,
   and those of a skill that it loads (`skill.py`).
3. The list depends on the messages alone, so that it is the same after a resume or in another
   process. It only grows, at its end, so that the server's prefix cache hits between two searches.
4. A call of a tool that was not offered is a call of a real tool: it is validated, checked by the
   policy and executed like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import orjson

from agentcall.messages import Assistant, Message, ToolCall, Transcript, User
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.search import FIND_TOOLS
from agentcall.tools.skill import LOAD_SKILL, SkillSet
from agentcall.tools.tool import RunContext, Tool, is_offered, tool

INITIAL_COUNT, FURTHER_COUNT = 10, 5


class ToolFinder:
    """Searches a registry; `max_tools` tools are offered without a search by the model.

    max_tools: None offers all tools from the beginning, and only those of skills are selected.
    pinned: tools that are offered from the beginning, beside `find_tools`.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        max_tools: int | None,
        pinned: Sequence[Tool] = (),
        skills: SkillSet | None = None,
    ) -> None:
        self.tools = tuple(registry)
        self.max_tools = max_tools
        self.skills = skills
        self._searchable = registry
        loaders = () if skills is None else skills.loaders
        self.registry = registry if skills is None else registry.merge(skills.tools, loaders)
        if max_tools is None:
            self.pinned: Sequence[Tool] = (*registry, *loaders)
        else:
            find_tools = self._make_find_tool()
            self.pinned = (find_tools, *pinned, *loaders)
            self.registry = self.registry.merge(find_tools)

    def search(self, query: str, count: int) -> list[Tool]:
        """Return the tools that match best."""
        return self._searchable.search(query, count)

    def _make_find_tool(self) -> Tool:
        @tool(name=FIND_TOOLS, idempotent=True, read_only=True)
        def find_tools(context: RunContext, query: str) -> str:
            """Find more tools. Not all are shown: search before you say that there is none.

            Args:
                query: What the tool does, in a few words, such as "convert currency".
            """
            tools = [
                found for found in self.search(query, FURTHER_COUNT) if is_offered(found, context)
            ]
            if not tools:
                return "No tool has any of these words. Say in other words what the tool does."
            lines = [f"{found.name}: {found.description.partition(chr(10))[0]}" for found in tools]
            return "\n".join(["These tools can be called now:", *lines])

        return find_tools


class ToolSelection:
    """The tools that a conversation has selected so far.

    wanted: the name of a tool that is offered from the beginning, if there is such a tool.
    """

    def __init__(self, finder: ToolFinder, wanted: str | None = None) -> None:
        self._finder = finder
        first = [*finder.pinned]
        if wanted is not None and wanted in finder.registry:
            first.append(finder.registry[wanted])
        self._tools = {pinned.name: pinned for pinned in first}
        self._initial_size = len(self._tools)
        self._read_count = 0

    def update(self, messages: Transcript) -> tuple[Tool, ...]:
        """Read the new messages and return the tools."""
        while self._read_count < len(messages):
            for found in self._find_tools(messages[self._read_count]):
                self._tools.setdefault(found.name, found)
            self._read_count += 1
        return tuple(self._tools.values())

    def _find_tools(self, message: Message) -> Iterable[Tool]:
        match message:
            case User():
                return self._search_text(message.trusted_text)
            case Assistant():
                return self._find_tools_in_calls(message.calls)
            case _:
                return ()

    def _search_text(self, text: str) -> Sequence[Tool]:
        if self._finder.max_tools is None:
            return ()
        count = INITIAL_COUNT if len(self._tools) == self._initial_size else FURTHER_COUNT
        room = max(0, self._finder.max_tools - len(self._tools))
        found = self._finder.search(text, count)
        return [candidate for candidate in found if candidate.name not in self._tools][:room]

    def _find_tools_in_calls(self, calls: Iterable[ToolCall]) -> Iterator[Tool]:
        for call in calls:
            if call.name == FIND_TOOLS:
                yield from self._finder.search(_parse_query(call), FURTHER_COUNT)
            elif call.name in self._finder.registry:
                yield self._finder.registry[call.name]
                if call.name == LOAD_SKILL and self._finder.skills is not None:
                    yield from self._finder.skills.find_loaded_tools(call)


def _parse_query(call: ToolCall) -> str:
    try:
        arguments: object = orjson.loads(call.arguments)
    except ValueError:
        return ""
    match arguments:
        case {"query": str(query)}:
            return query
        case _:
            return ""

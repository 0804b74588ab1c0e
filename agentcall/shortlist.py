"""The tools of a large registry that a model is offered: those that a conversation comes upon.

Rules:
1. It begins with the `FIRST` tools that fit the user's words best. Each further message of the
   user adds up to `MORE`, until there are as many as may be.
2. The model finds others with `find_tools`; and what it calls it is offered from then on.
3. The list follows from the messages alone, so it is the same after a resume or in another
   process; it only grows, and at its end, so that the server's prefix cache hits between two finds.
4. A call of a tool that was not offered is the call of a real tool: it is checked, judged by the
   policy and carried out as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import orjson

from agentcall.messages import Assistant, Message, ToolCall, User
from agentcall.registry import ToolRegistry
from agentcall.tool import Tool, tool
from agentcall.tool_index import FINDER
from agentcall.transcript import Transcript

FIRST, MORE = 10, 5


class Finder:
    """Searches a registry; `most` tools are offered without the model having asked for them.

    `always` are those that are offered from the beginning, beside `find_tools`.
    """

    def __init__(self, registry: ToolRegistry, most: int, always: Sequence[Tool] = ()) -> None:
        self.tools = tuple(registry)
        self.most = most
        self.always = always
        self._found = registry
        self.registry = registry.merge(self._tool())

    def search(self, query: str, count: int) -> list[Tool]:
        """The tools that fit best."""
        return self._found.search(query, count)

    def _tool(self) -> Tool:
        @tool(name=FINDER, idempotent=True, read_only=True)
        def find_tools(query: str) -> str:
            """Find more tools. Not all are shown: search before you say that there is none.

            Args:
                query: What the tool does, in a few words, such as "convert currency".
            """
            found = self.search(query, MORE)
            if not found:
                return "No tool has any of these words. Say in other words what the tool does."
            return "These tools can be called now:\n" + "\n".join(map(_line, found))

        return find_tools


def _line(found: Tool) -> str:
    return f"{found.name}: {found.description.partition(chr(10))[0]}"


class Shortlist:
    """The tools that a conversation has come upon so far."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        first = (finder.registry[FINDER], *finder.always)
        self._tools = {one.name: one for one in first}
        self._begins = len(first)
        self._read = 0

    def follow(self, messages: Transcript) -> tuple[Tool, ...]:
        """The tools, once the messages that are new have been read."""
        while self._read < len(messages):
            for found in self._found(messages[self._read]):
                self._tools.setdefault(found.name, found)
            self._read += 1
        return tuple(self._tools.values())

    def _found(self, message: Message) -> Iterable[Tool]:
        match message:
            case User():
                return self._fitting(message.own_text)
            case Assistant():
                return self._called(message.calls)
            case _:
                return ()

    def _fitting(self, words: str) -> Sequence[Tool]:
        count = FIRST if len(self._tools) == self._begins else MORE
        room = max(0, self._finder.most - len(self._tools))
        found = self._finder.search(words, count)
        return [one for one in found if one.name not in self._tools][:room]

    def _called(self, calls: Iterable[ToolCall]) -> Iterator[Tool]:
        for call in calls:
            if call.name == FINDER:
                yield from self._finder.search(_query(call), MORE)
            elif call.name in self._finder.registry:
                yield self._finder.registry[call.name]


def _query(call: ToolCall) -> str:
    try:
        arguments: object = orjson.loads(call.arguments)
    except ValueError:
        return ""
    match arguments:
        case {"query": str(query)}:
            return query
        case _:
            return ""

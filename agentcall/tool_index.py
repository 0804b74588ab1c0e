"""Tools that can be found by what they do: words of their names, descriptions and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from agentcall.messages import JSON
from agentcall.search import Field, Index
from agentcall.tool import Tool

FINDER = "find_tools"
"""The tool with which a model searches a registry that is not shown to it as a whole."""

_NAME, _DESCRIPTION, _PARAMETER, _DOCS = 2.0, 1.0, 1.0, 0.5
"""How much a word counts where; chosen on other questions than those of docs/tool_search.md."""


class ToolIndex:
    """Tools, searched without a model; ones that fit equally well come in their own order."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = tuple(tools)
        self._index = Index(map(_document, self._tools))

    def search(self, query: str, count: int) -> list[Tool]:
        """The tools that fit best, the best first; none that has no word of the query."""
        return [self._tools[place] for place in self._index.search(query, count)]


def _document(tool: Tool) -> Sequence[Field]:
    parameters = list(_parameters(tool.parameters))
    return (
        Field(tool.name, _NAME),
        Field(tool.description, _DESCRIPTION),
        Field("\n".join(name for name, _ in parameters), _PARAMETER),
        Field("\n".join(docs for _, docs in parameters), _DOCS),
    )


def _parameters(schema: JSON) -> Iterator[tuple[str, str]]:
    """Name and description of each parameter, and of what is inside of it."""
    if isinstance(schema, Mapping):
        for key, part in schema.items():
            if key == "properties" and isinstance(part, Mapping):
                yield from ((name, _described(inner)) for name, inner in part.items())
                yield from (found for inner in part.values() for found in _parameters(inner))
            else:
                yield from _parameters(part)
    elif isinstance(schema, Sequence) and not isinstance(schema, str):
        yield from (found for part in schema for found in _parameters(part))


def _described(schema: JSON) -> str:
    docs = schema.get("description") if isinstance(schema, Mapping) else None
    return docs if isinstance(docs, str) else ""

"""Tools that can be found by what they do: words of their names, descriptions and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from agentcall.messages import JSON
from agentcall.search import SearchField, SearchIndex
from agentcall.tool import Tool

FIND_TOOLS = "find_tools"
"""The tool with which a model searches a registry that is not shown to it as a whole."""

_NAME_WEIGHT, _DESCRIPTION_WEIGHT, _PARAMETER_WEIGHT, _DOCS_WEIGHT = 2.0, 1.0, 1.0, 0.5
"""How much a word counts where; chosen on other questions than those of docs/tool_search.md."""


class ToolIndex:
    """Tools, searched without a model; ones that fit equally well come in their own order."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = tuple(tools)
        self._index = SearchIndex(map(_build_document, self._tools))

    def search(self, query: str, count: int) -> list[Tool]:
        """The tools that fit best, the best first; none that has no word of the query."""
        return [self._tools[place] for place in self._index.search(query, count)]


def _build_document(tool: Tool) -> Sequence[SearchField]:
    parameters = list(_iter_parameters(tool.parameters))
    return (
        SearchField(tool.name, _NAME_WEIGHT),
        SearchField(tool.description, _DESCRIPTION_WEIGHT),
        SearchField("\n".join(name for name, _ in parameters), _PARAMETER_WEIGHT),
        SearchField("\n".join(docs for _, docs in parameters), _DOCS_WEIGHT),
    )


def _iter_parameters(schema: JSON) -> Iterator[tuple[str, str]]:
    """Name and description of each parameter, and of what is inside of it."""
    if isinstance(schema, Mapping):
        for key, part in schema.items():
            if key == "properties" and isinstance(part, Mapping):
                yield from ((name, _get_description(inner)) for name, inner in part.items())
                yield from (found for inner in part.values() for found in _iter_parameters(inner))
            else:
                yield from _iter_parameters(part)
    elif isinstance(schema, Sequence) and not isinstance(schema, str):
        yield from (found for part in schema for found in _iter_parameters(part))


def _get_description(schema: JSON) -> str:
    docs = schema.get("description") if isinstance(schema, Mapping) else None
    return docs if isinstance(docs, str) else ""

"""The offered tools as a reader knows them: by name, exact or nearly so, and by schema."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Protocol, TypeAlias

from agentcall.messages import JSON


class ToolSpec(Protocol):
    """What a reader has to know of a tool."""

    @property
    def name(self) -> str:
        """The name the model calls it by."""
        ...

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The JSON Schema of its arguments."""
        ...


ToolSpecs: TypeAlias = "Iterable[ToolSpec | str]"
ToolSchema: TypeAlias = "Mapping[str, JSON]"

_NAME_PREFIXES = ("functions.", "function.", "default_api.", "tools.", "tool.")


def normalize_name(name: str) -> str:
    """A tool's name without what models vary: case, separators, a known prefix."""
    short = name.strip()
    for prefix in _NAME_PREFIXES:
        short = short.removeprefix(prefix)
    return re.sub(r"[-_.\s]", "", short).casefold()


class ToolSet:
    """The offered tools by name, exact or nearly so."""

    def __init__(self, tools: ToolSpecs) -> None:
        self._schemas: dict[str, ToolSchema] = {}
        for offer in tools:
            if isinstance(offer, str):
                self._schemas[offer] = {}
            else:
                self._schemas[offer.name] = offer.parameters

    @cached_property
    def _names_by_normal_form(self) -> dict[str, str]:
        """The names by their plain forms; the first of two that are alike."""
        return {normalize_name(name): name for name in reversed(self._schemas)}

    def __contains__(self, name: str) -> bool:
        return self.find_name(name) is not None

    def find_name(self, name: str) -> str | None:
        """The offered name that this one means: the same, or another spelling of it."""
        return (
            name if name in self._schemas else self._names_by_normal_form.get(normalize_name(name))
        )

    def get_schema(self, name: str) -> ToolSchema:
        """The schema of the tool that this name means, empty if it is not known."""
        found = self.find_name(name)
        return self._schemas[found] if found is not None else {}

    def can_take_more(self, name: str, given: Collection[str]) -> bool:
        """Whether the tool may take arguments besides those that are given."""
        properties = self.get_schema(name).get("properties")
        return isinstance(properties, Mapping) and not set(properties) <= set(given)

    def __iter__(self) -> Iterator[str]:
        return iter(self._schemas)

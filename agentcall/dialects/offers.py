"""The offered tools as a reader knows them: by name, exact or nearly so, and by schema."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Protocol, TypeAlias

from agentcall.messages import JSON


class Offered(Protocol):
    """What a reader has to know of a tool."""

    @property
    def name(self) -> str:
        """The name the model calls it by."""
        ...

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The JSON Schema of its arguments."""
        ...


Offers: TypeAlias = "Iterable[Offered | str]"
Schema: TypeAlias = "Mapping[str, JSON]"

_PREFIXES = ("functions.", "function.", "default_api.", "tools.", "tool.")


def plain_name(name: str) -> str:
    """A tool's name without what models vary: case, separators, a known prefix."""
    short = name.strip()
    for prefix in _PREFIXES:
        short = short.removeprefix(prefix)
    return re.sub(r"[-_.\s]", "", short).casefold()


class Tools:
    """The offered tools by name, exact or nearly so."""

    def __init__(self, offers: Offers) -> None:
        self._schemas: dict[str, Schema] = {}
        for offer in offers:
            if isinstance(offer, str):
                self._schemas[offer] = {}
            else:
                self._schemas[offer.name] = offer.parameters

    @cached_property
    def _plain(self) -> dict[str, str]:
        """The names by their plain forms; the first of two that are alike."""
        return {plain_name(name): name for name in reversed(self._schemas)}

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None

    def find(self, name: str) -> str | None:
        """The offered name that this one means: the same, or another spelling of it."""
        return name if name in self._schemas else self._plain.get(plain_name(name))

    def schema(self, name: str) -> Schema:
        """The schema of the tool that this name means, empty if it is not known."""
        found = self.find(name)
        return self._schemas[found] if found is not None else {}

    def may_take_more(self, name: str, given: Collection[str]) -> bool:
        """Whether the tool may take arguments besides those that are given."""
        properties = self.schema(name).get("properties")
        return isinstance(properties, Mapping) and not set(properties) <= set(given)

    def __iter__(self) -> Iterator[str]:
        return iter(self._schemas)

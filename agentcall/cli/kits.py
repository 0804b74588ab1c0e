"""Tools that a package makes with a word of the user's: `-t files=/srv/notes`.

A package that offers tools may hold `KITS` beside its `TOOLS`: a dict of names to
`module:attribute`, of callables that take one text and give an object with tools.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol, cast

from agentcall.errors import UsageError
from agentcall.tools.registry import ENTRY_POINT_GROUP
from agentcall.tools.tool import Tool


class ToolFactory(Protocol):
    """Makes an object with tools of the user's word, or of none."""

    def __call__(self, *words: str) -> object: ...


@dataclass(frozen=True, slots=True)
class Toolkit:
    """What makes tools, by the name that stands before the = on the command line."""

    name: str
    factory: ToolFactory
    module: str

    @property
    def usage(self) -> str:
        """How it is written: `files=ROOT`, or the name alone where it needs no word."""
        first = next(iter(inspect.signature(self.factory).parameters.values()), None)
        if first is None or first.kind is not first.POSITIONAL_OR_KEYWORD:
            return self.name
        return f"{self.name}={first.name.upper()}"

    @property
    def tools(self) -> Sequence[Tool]:
        """The tools that it gives, as far as they are known before it is made."""
        values = cast("Mapping[str, object]", vars(self.factory)).values()
        return [cast("Tool", value) for value in values if isinstance(value, Tool)]

    def make_tools(self, *words: str) -> object:
        """The object with the tools. Raises UsageError."""
        try:
            inspect.signature(self.factory).bind(*words)
        except TypeError:
            raise UsageError(f"write it as {self.usage}, with a word of yours") from None
        try:
            return self.factory(*words)
        except (ValueError, OSError) as error:
            raise UsageError(f"{'='.join((self.name, *words))}: {error}") from error


def load_toolkits() -> Mapping[str, Toolkit]:
    """The kits of installed packages, by name. Raises UsageError for one that cannot be loaded."""
    found: dict[str, Toolkit] = {}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            listed: object = getattr(point.load(), "KITS", {})
            for name, path in cast("Mapping[str, str]", listed).items():
                module, _, attribute = path.partition(":")
                maker = cast("ToolFactory", getattr(import_module(module), attribute))
                found[name] = Toolkit(name, maker, module)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"the kits of {point.value} cannot be loaded: {error}") from error
    return found


def make_toolkit_tools(word: str) -> object | None:
    """What a kit makes of `name=word` or of its bare name; None if the word names no kit."""
    name, sign, rest = word.partition("=")
    if not name.isidentifier():
        return None
    kit = load_toolkits().get(name)
    return None if kit is None else kit.make_tools(*([rest] if sign else []))

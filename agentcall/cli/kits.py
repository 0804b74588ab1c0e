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
from agentcall.registry import GROUP
from agentcall.tool import Tool


class Maker(Protocol):
    """Makes an object with tools of the user's word, or of none."""

    def __call__(self, *words: str) -> object: ...


@dataclass(frozen=True, slots=True)
class Kit:
    """What makes tools, by the name that stands before the = on the command line."""

    name: str
    maker: Maker
    place: str

    @property
    def word(self) -> str:
        """How it is written: `files=ROOT`, or the name alone where it needs no word."""
        first = next(iter(inspect.signature(self.maker).parameters.values()), None)
        if first is None or first.kind is not first.POSITIONAL_OR_KEYWORD:
            return self.name
        return f"{self.name}={first.name.upper()}"

    @property
    def tools(self) -> Sequence[Tool]:
        """The tools that it gives, as far as they are known before it is made."""
        values = cast("Mapping[str, object]", vars(self.maker)).values()
        return [cast("Tool", value) for value in values if isinstance(value, Tool)]

    def made(self, *words: str) -> object:
        """The object with the tools. Raises UsageError."""
        try:
            inspect.signature(self.maker).bind(*words)
        except TypeError:
            raise UsageError(f"write it as {self.word}, with a word of yours") from None
        try:
            return self.maker(*words)
        except (ValueError, OSError) as error:
            raise UsageError(f"{'='.join((self.name, *words))}: {error}") from error


def all_kits() -> Mapping[str, Kit]:
    """The kits of installed packages, by name. Raises UsageError for one that cannot be loaded."""
    found: dict[str, Kit] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            listed: object = getattr(point.load(), "KITS", {})
            for name, path in cast("Mapping[str, str]", listed).items():
                module, _, attribute = path.partition(":")
                maker = cast("Maker", getattr(import_module(module), attribute))
                found[name] = Kit(name, maker, module)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"the kits of {point.value} cannot be loaded: {error}") from error
    return found


def made_by(word: str) -> object | None:
    """What a kit makes of `name=word` or of its bare name; None if the word names no kit."""
    name, sign, rest = word.partition("=")
    if not name.isidentifier():
        return None
    kit = all_kits().get(name)
    return None if kit is None else kit.made(*([rest] if sign else []))

"""The search for the valid call that a model meant, where what it wrote is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from agentcall.dialects.parts import Called
from agentcall.errors import ArgumentsError
from agentcall.jsontext import WrittenFloat, WrittenInt
from agentcall.messages import JSON
from agentcall.repair.fit import Fit, TooMuch
from agentcall.repair.fix import Fixes, Refused, Repaired, fix, summed, written
from agentcall.repair.mend import Mender
from agentcall.repair.names import find
from agentcall.repair.reading import Reading, is_guessed, read
from agentcall.repair.shape import bare_text, peeled, placed
from agentcall.repair.words import unknown_tool, unreadable, wrong
from agentcall.tool import Tool


def searched(called: Called, tools: Mapping[str, Tool]) -> Repaired | Refused:
    """The valid call that a model meant, or what to tell the model; never raises."""
    found = find(called.name, tools)
    if found is None:
        return Refused(unknown_tool(called.name, list(tools)))
    tool, arguments, fixes = tools[found.name], called.arguments, found.fixes
    if arguments.strip() in ("", "null"):
        fixes = (*fixes, fix("empty", arguments, "{}"))
        arguments = "{}"
    try:
        return Repaired(tool, arguments, tool.parse(arguments), fixes)
    except ArgumentsError as error:
        return _mended(tool, arguments, fixes, error)


def _mended(
    tool: Tool, arguments: str, fixes: Fixes, complaint: ArgumentsError
) -> Repaired | Refused:
    reading = read(arguments) or bare_text(arguments, tool)
    if reading is None:
        return Refused(unreadable(tool, arguments, complaint))
    attempt = _Attempt(tool, Fit(tool.parameters), complaint)
    try:
        done = attempt.first_valid(reading)
    except (TooMuch, RecursionError):
        done = None
    if done is None:
        return Refused(wrong(tool, attempt.complaint))
    return Repaired(tool, done.arguments, done.values, (*fixes, *done.fixes))


@dataclass(slots=True)
class _Attempt:
    """The search for arguments that the tool takes; `complaint` is the last word on why not."""

    tool: Tool
    fit: Fit
    complaint: ArgumentsError

    def first_valid(self, reading: Reading) -> Repaired | None:
        """The first candidate that the tool takes. Raises TooMuch, RecursionError."""
        layers = list(peeled(reading, self.tool))
        for candidate in self._candidates(layers):
            done = self._parsed(candidate)
            if done:
                return done
        return None

    def _candidates(self, layers: Sequence[Reading]) -> Iterator[Reading]:
        """What the layers may mean, the cheapest first, and what loses something last."""
        for layer in layers:
            if layer.fixes:  # without any it is what was written, which the tool did not take
                yield layer
            yield from self._mended(layer, drop_unknown=False)
        for lone in placed(layers[-1], self.tool):
            yield lone
            if lone.fixes[-1].rule == "lone-value":
                yield from self._mended(lone, drop_unknown=False)
        for layer in reversed(layers):
            if is_guessed(layer):
                return
            yield from self._mended(layer, drop_unknown=True)

    def _mended(self, layer: Reading, *, drop_unknown: bool) -> Iterator[Reading]:
        if isinstance(layer.value, dict):
            mender = Mender(self.fit, drop_unknown)
            value = mender.mend(layer.value, self.tool.parameters)
            if mender.fixes:
                yield Reading(value, (*layer.fixes, *summed(mender.fixes)))

    def _parsed(self, candidate: Reading) -> Repaired | None:
        if not isinstance(candidate.value, dict):
            return None
        try:
            arguments = written(candidate.value)
            values = self.tool.parse(arguments)
        except ArgumentsError as error:
            self.complaint = error
            return None
        if _is_respelled(candidate.value, values):
            return None
        return Repaired(self.tool, arguments, values, candidate.fixes)


def _is_respelled(wire: JSON, value: object) -> bool:
    """Whether a number became a text with other digits than those that were written."""
    match wire:
        case WrittenInt() | WrittenFloat():
            return isinstance(value, str) and value != wire.text
        case dict():
            inner = cast("Mapping[str, object]", value) if isinstance(value, Mapping) else None
            return any(
                _is_respelled(
                    item, inner.get(key) if inner is not None else getattr(value, key, None)
                )
                for key, item in wire.items()
            )
        case list() if isinstance(value, (list, tuple)):
            items = cast("Sequence[object]", value)
            return len(items) == len(wire) and any(map(_is_respelled, wire, items))
        case _:
            return False

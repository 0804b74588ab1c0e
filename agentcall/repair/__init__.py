"""Repairs a tool call: what a model wrote becomes a valid call of a real tool, or words for it.

Rules:
1. What is valid as written stays as it is, to the letter; that costs one parse and nothing else.
2. The tool's own schema leads and its validator judges: the cheapest step is tried first, and a
   step that did not lead to valid arguments leaves no trace.
3. Every step that changed something is a `Fix`.
4. No value is made up, no cut text is finished (`reading` says which brackets may be closed), no
   call becomes one of another real tool (`names`). What is not plain goes back to the model.
5. It never raises, and its time is bounded: what is too big or too deep to mend is refused.
The steps: the name (`names`), the text (`reading`), what is wrapped around the arguments (`shape`),
and the values themselves (`mend`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agentcall.dialects.parts import Called
from agentcall.errors import ArgumentsError
from agentcall.repair.fit import Fit, TooMuch
from agentcall.repair.fix import Fix, Fixes, Refused, Repaired, fix, summed, written
from agentcall.repair.mend import Mender
from agentcall.repair.names import find
from agentcall.repair.reading import Reading, is_guessed, read
from agentcall.repair.shape import bare_text, peeled, placed
from agentcall.repair.words import unknown_tool, unreadable, wrong
from agentcall.tool import Tool

__all__ = ["Fix", "Refused", "Repaired", "repair"]


def repair(called: Called, tools: Mapping[str, Tool]) -> Repaired | Refused:
    """The valid call that a model meant, or what to tell the model; never raises.

    tools: the offered tools by name, in the order in which they are told to the model.
    """
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
        return Repaired(self.tool, arguments, values, candidate.fixes)

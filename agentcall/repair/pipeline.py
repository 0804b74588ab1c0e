"""The search for the valid call that a model meant, where what it wrote is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from agentcall.dialects.base import ToolCallPart
from agentcall.errors import ArgumentsError
from agentcall.lenient_json import WrittenFloat, WrittenInt
from agentcall.messages import JSON
from agentcall.repair.arguments import (
    ArgumentCoercer,
    RepairTooComplex,
    SchemaMatcher,
    read_bare_text,
    unwrap_layers,
    wrap_in_object,
)
from agentcall.repair.arguments_json import ParsedArguments, is_guess, parse_arguments
from agentcall.repair.error_messages import (
    format_unknown_tool,
    format_unreadable_arguments,
    format_wrong_arguments,
)
from agentcall.repair.tool_name import find_tool_name
from agentcall.repair.types import (
    Fixes,
    RefusedCall,
    RepairedCall,
    dump_json,
    make_fix,
    summarize_fixes,
)
from agentcall.tools.tool import Tool


def find_valid_call(called: ToolCallPart, tools: Mapping[str, Tool]) -> RepairedCall | RefusedCall:
    """The valid call that a model meant, or what to tell the model; never raises."""
    found = find_tool_name(called.name, tools)
    if found is None:
        return RefusedCall(format_unknown_tool(called.name, list(tools)))
    tool, arguments, fixes = tools[found.name], called.arguments, found.fixes
    if arguments.strip() in ("", "null"):
        fixes = (*fixes, make_fix("empty", arguments, "{}"))
        arguments = "{}"
    try:
        return RepairedCall(tool, arguments, tool.parse(arguments), fixes)
    except ArgumentsError as error:
        return _repair_arguments(tool, arguments, fixes, error)


def _repair_arguments(
    tool: Tool, arguments: str, fixes: Fixes, error: ArgumentsError
) -> RepairedCall | RefusedCall:
    reading = parse_arguments(arguments) or read_bare_text(arguments, tool)
    if reading is None:
        return RefusedCall(format_unreadable_arguments(tool, arguments, error))
    attempt = _RepairSearch(tool, SchemaMatcher(tool.parameters), error)
    try:
        done = attempt.find_first_valid(reading)
    except (RepairTooComplex, RecursionError):
        done = None
    if done is None:
        return RefusedCall(format_wrong_arguments(tool, attempt.last_error))
    return RepairedCall(tool, done.arguments, done.values, (*fixes, *done.fixes))


@dataclass(slots=True)
class _RepairSearch:
    """The search for arguments that the tool takes; `complaint` is the last word on why not."""

    tool: Tool
    matcher: SchemaMatcher
    last_error: ArgumentsError

    def find_first_valid(self, reading: ParsedArguments) -> RepairedCall | None:
        """The first candidate that the tool takes. Raises TooMuch, RecursionError."""
        layers = list(unwrap_layers(reading, self.tool))
        for candidate in self._iter_candidates(layers):
            done = self._try_candidate(candidate)
            if done:
                return done
        return None

    def _iter_candidates(self, layers: Sequence[ParsedArguments]) -> Iterator[ParsedArguments]:
        """What the layers may mean, the cheapest first, and what loses something last."""
        for layer in layers:
            if layer.fixes:  # without any it is what was written, which the tool did not take
                yield layer
            yield from self._coerce_layer(layer, drop_unknown=False)
        for lone in wrap_in_object(layers[-1], self.tool):
            yield lone
            if lone.fixes[-1].rule == "lone-value":
                yield from self._coerce_layer(lone, drop_unknown=False)
        for layer in reversed(layers):
            if is_guess(layer):
                return
            yield from self._coerce_layer(layer, drop_unknown=True)

    def _coerce_layer(
        self, layer: ParsedArguments, *, drop_unknown: bool
    ) -> Iterator[ParsedArguments]:
        if isinstance(layer.value, dict):
            mender = ArgumentCoercer(self.matcher, drop_unknown)
            value = mender.coerce(layer.value, self.tool.parameters)
            if mender.fixes:
                yield ParsedArguments(value, (*layer.fixes, *summarize_fixes(mender.fixes)))

    def _try_candidate(self, candidate: ParsedArguments) -> RepairedCall | None:
        if not isinstance(candidate.value, dict):
            return None
        try:
            arguments = dump_json(candidate.value)
            values = self.tool.parse(arguments)
        except ArgumentsError as error:
            self.last_error = error
            return None
        if _has_changed_digits(candidate.value, values):
            return None
        return RepairedCall(self.tool, arguments, values, candidate.fixes)


def _has_changed_digits(arguments: JSON, value: object) -> bool:
    """Whether a number became a text with other digits than those that were written."""
    match arguments:
        case WrittenInt() | WrittenFloat():
            return isinstance(value, str) and value != arguments.text
        case dict():
            return any(
                _has_changed_digits(item, _get_member(value, key))
                for key, item in arguments.items()
            )
        case list() if isinstance(value, (list, tuple)):
            items = cast("Sequence[object]", value)
            return len(items) == len(arguments) and any(map(_has_changed_digits, arguments, items))
        case _:
            return False


def _get_member(value: object, key: str) -> object:
    """What a validated object has under a key; None where that cannot be told."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).get(key)
    return getattr(value, key, None)

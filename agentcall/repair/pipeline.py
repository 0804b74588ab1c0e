"""Searches for the valid call that a model meant when its call is invalid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from agentcall.dialects.answer_parts import ToolCallPart
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
from agentcall.repair.fixes import (
    Fixes,
    RefusedCall,
    RepairedCall,
    dump_json,
    make_fix,
    summarize_fixes,
)
from agentcall.repair.tool_name import find_tool_name
from agentcall.repair.windows_path import restore_paths, restore_written_paths
from agentcall.tools.tool import Tool


def find_valid_call(call: ToolCallPart, tools: Mapping[str, Tool]) -> RepairedCall | RefusedCall:
    """Return the valid call that a model meant, or an error message for it; never raises."""
    match = find_tool_name(call.name, tools)
    if match is None:
        return RefusedCall(format_unknown_tool(call.name, list(tools)))
    tool, arguments, fixes = tools[match.name], call.arguments, match.fixes
    if arguments.strip() in ("", "null"):
        fixes = (*fixes, make_fix("empty", arguments, "{}"))
        arguments = "{}"
    try:
        restored = restore_written_paths(arguments)
        if restored is not None:
            arguments, path_fixes = restored
            fixes = (*fixes, *path_fixes)
        return RepairedCall(tool, arguments, tool.parse(arguments), fixes)
    except ArgumentsError as error:
        return _repair_arguments(tool, arguments, fixes, error)


def _repair_arguments(
    tool: Tool, arguments: str, fixes: Fixes, error: ArgumentsError
) -> RepairedCall | RefusedCall:
    reading = parse_arguments(arguments) or read_bare_text(arguments, tool)
    if reading is None:
        return RefusedCall(format_unreadable_arguments(tool, arguments, error))
    search = _RepairSearch(tool, SchemaMatcher(tool.parameters), error)
    try:
        repaired = search.find_first_valid(reading)
    except (RepairTooComplex, RecursionError):
        repaired = None
    if repaired is None:
        return RefusedCall(format_wrong_arguments(tool, search.last_error))
    return RepairedCall(tool, repaired.arguments, repaired.values, (*fixes, *repaired.fixes))


@dataclass(slots=True)
class _RepairSearch:
    """Searches for arguments that the tool accepts; `last_error` explains the last rejection."""

    tool: Tool
    matcher: SchemaMatcher
    last_error: ArgumentsError

    def find_first_valid(self, reading: ParsedArguments) -> RepairedCall | None:
        """Return the first candidate that the tool accepts.

        Raises RepairTooComplex or RecursionError.
        """
        layers = list(unwrap_layers(reading, self.tool))
        for candidate in self._iter_candidates(layers):
            repaired = self._try_candidate(candidate)
            if repaired:
                return repaired
        return None

    def _iter_candidates(self, layers: Sequence[ParsedArguments]) -> Iterator[ParsedArguments]:
        """Yield what the layers may mean: the cheapest first, lossy ones last."""
        for layer in layers:
            if layer.fixes:  # without fixes it is the original, which the tool rejected
                yield layer
            yield from self._coerce_layer(layer, drop_unknown=False)
        for wrapped in wrap_in_object(layers[-1], self.tool):
            yield wrapped
            if wrapped.fixes[-1].rule == "lone-value":
                yield from self._coerce_layer(wrapped, drop_unknown=False)
        for layer in reversed(layers):
            if is_guess(layer):
                return
            yield from self._coerce_layer(layer, drop_unknown=True)

    def _coerce_layer(
        self, layer: ParsedArguments, *, drop_unknown: bool
    ) -> Iterator[ParsedArguments]:
        if isinstance(layer.value, dict):
            coercer = ArgumentCoercer(self.matcher, drop_unknown)
            value = coercer.coerce(layer.value, self.tool.parameters)
            if coercer.fixes:
                yield ParsedArguments(value, (*layer.fixes, *summarize_fixes(coercer.fixes)))

    def _try_candidate(self, candidate: ParsedArguments) -> RepairedCall | None:
        if not isinstance(candidate.value, dict):
            return None
        value, path_fixes = restore_paths(candidate.value)
        try:
            arguments = dump_json(value)
            values = self.tool.parse(arguments)
        except ArgumentsError as error:
            self.last_error = error
            return None
        if _has_changed_digits(candidate.value, values):
            return None
        return RepairedCall(self.tool, arguments, values, (*candidate.fixes, *path_fixes))


def _has_changed_digits(arguments: JSON, value: object) -> bool:
    """Whether a number became a text with other digits than those written."""
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
    """Return the value of a validated object for a key; None if it has no such member."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).get(key)
    return getattr(value, key, None)

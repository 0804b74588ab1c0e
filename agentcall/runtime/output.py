"""Parses the final answer of a run as a value of the agent's output type."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentcall.errors import ArgumentsError
from agentcall.lenient_json import ParsedJSON, parse_lenient_json
from agentcall.messages import JSON
from agentcall.runtime.prompts import format_invalid_output
from agentcall.tools.schema import TypeSchema, type_schema

_FENCE = re.compile(r"```(?:\w*)[ \t]*\n?(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[\[{]")
_MAX_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class InvalidOutput:
    """An answer that is not of the output type; `message` tells the model why."""

    message: str


class OutputParser:
    """Parses answers of one type; plain text if the type is `str`."""

    def __init__(self, output_type: object) -> None:
        self._type: TypeSchema | None = None if output_type is str else type_schema(output_type)

    @property
    def schema(self) -> dict[str, JSON] | None:
        """The JSON Schema of the type; None for plain text."""
        return self._type.schema if self._type else None

    def parse(self, text: str) -> object | InvalidOutput:
        """Return the value that an answer contains: the whole answer, or the JSON in it."""
        if self._type is None:
            return text
        best_error: ArgumentsError | None = None
        for candidate in _iter_candidates(text):
            try:
                return self._type.parse(candidate)
            except ArgumentsError as error:
                # The error of a JSON value is more helpful than "this text is not JSON".
                if best_error is None or candidate in _find_json_values(candidate):
                    best_error = error
        return InvalidOutput(format_invalid_output(best_error))


def _iter_candidates(text: str) -> Iterator[str]:
    """Yield what may be the JSON of an answer, the likeliest first; at last the bare text."""
    whole = text.strip()
    fenced = [block.strip() for block in reversed(_FENCE.findall(text))]
    yield from (whole, *fenced)
    found = sorted(_find_json_values(text), key=len, reverse=True)
    yield from found
    for text_with_errors in (*fenced, whole):
        yield from _repair_json(text_with_errors)
    if not found:
        yield json.dumps(whole.strip("\"'`*. \n"))


def _repair_json(text: str) -> Iterator[str]:
    """Yield a complete object or list whose JSON has errors of syntax, as valid JSON."""
    parsed = parse_lenient_json(text)
    if isinstance(parsed, ParsedJSON) and parsed.rule and isinstance(parsed.value, (dict, list)):
        yield json.dumps(parsed.value, ensure_ascii=False)


def _find_json_values(text: str) -> Iterator[str]:
    """Yield the JSON objects and lists in a text."""
    decoder = json.JSONDecoder()
    position = 0
    for _ in range(_MAX_ATTEMPTS):
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        start = opening.start()
        try:
            _, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
        else:
            yield text[start:position]

"""A run's output: the model's last words as a value of the type that was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentcall.errors import ArgumentsError
from agentcall.lenient_json import ParsedJSON, parse_lenient_json
from agentcall.messages import JSON
from agentcall.tools.schema import TypeSchema, type_schema

_FENCE = re.compile(r"```(?:\w*)[ \t]*\n?(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[\[{]")
_MAX_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class InvalidOutput:
    """An answer that is not of the type, and what to tell the model."""

    message: str


class OutputParser:
    """Reads answers of one type; plain text where the type is `str`."""

    def __init__(self, output_type: object) -> None:
        self._type: TypeSchema | None = None if output_type is str else type_schema(output_type)

    @property
    def schema(self) -> dict[str, JSON] | None:
        """The JSON Schema of the type; None for plain text."""
        return self._type.schema if self._type else None

    def parse(self, text: str) -> object | InvalidOutput:
        """The value that an answer holds: all of it, or the JSON in it."""
        if self._type is None:
            return text
        best_error: ArgumentsError | None = None
        for candidate in _iter_candidates(text):
            try:
                return self._type.parse(candidate)
            except ArgumentsError as error:
                # What is wrong with a JSON value says more than that some text is no JSON.
                best_error = (
                    error
                    if best_error is None or candidate in _find_json_values(candidate)
                    else best_error
                )
        return InvalidOutput(
            f"Your answer does not fit. {best_error}\n"
            "Answer again with one JSON value of that form, and nothing else."
        )


def _iter_candidates(text: str) -> Iterator[str]:
    """What may be the JSON of an answer, the plainest first; at last the answer as a bare word."""
    whole = text.strip()
    fenced = [inside.strip() for inside in reversed(_FENCE.findall(text))]
    yield from (whole, *fenced)
    found = sorted(_find_json_values(text), key=len, reverse=True)
    yield from found
    for almost in (*fenced, whole):
        yield from _repair_json(almost)
    if not found:
        yield json.dumps(whole.strip("\"'`*. \n"))


def _repair_json(text: str) -> Iterator[str]:
    """An object or list that is misspelt, but whole."""
    read = parse_lenient_json(text)
    if isinstance(read, ParsedJSON) and read.rule and isinstance(read.value, (dict, list)):
        yield json.dumps(read.value, ensure_ascii=False)


def _find_json_values(text: str) -> Iterator[str]:
    """The JSON objects and lists that stand in a text."""
    decoder = json.JSONDecoder()
    place = 0
    for _ in range(_MAX_ATTEMPTS):
        opening = _OPENING.search(text, place)
        if opening is None:
            return
        start = opening.start()
        try:
            _, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            place = start + 1
        else:
            yield text[start:place]

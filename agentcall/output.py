"""A run's output: the model's last words as a value of the type that was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentcall.errors import ArgumentsError
from agentcall.messages import JSON
from agentcall.schema import TypeSchema, type_schema

_FENCE = re.compile(r"```(?:json)?\s*\n?(.*?)```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unfit:
    """An answer that is not of the type, and what to tell the model."""

    words: str


class OutputReader:
    """Reads answers of one type; plain text where the type is `str`."""

    def __init__(self, output_type: object) -> None:
        self._type: TypeSchema | None = None if output_type is str else type_schema(output_type)

    @property
    def schema(self) -> dict[str, JSON] | None:
        """The JSON Schema of the type; None for plain text."""
        return self._type.schema if self._type else None

    def read(self, text: str) -> object | Unfit:
        """The value that an answer holds: all of it, or the JSON in it."""
        if self._type is None:
            return text
        first: ArgumentsError | None = None
        for candidate in _candidates(text):
            try:
                return self._type.parse(candidate)
            except ArgumentsError as error:
                first = first or error
        return Unfit(
            f"Your answer does not fit. {first}\n"
            "Answer again with one JSON value of that form, and nothing else."
        )


def _candidates(text: str) -> Iterator[str]:
    """What may be the JSON in an answer: fenced, the whole, or from the first bracket on."""
    fenced = _FENCE.findall(text)
    if fenced:
        yield fenced[-1].strip()
    yield text.strip()
    starts = [start for start in (text.find("{"), text.find("[")) if start > 0]
    if starts:
        start = min(starts)
        end = max(text.rfind("}"), text.rfind("]"))
        yield text[start : end + 1]

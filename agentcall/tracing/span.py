"""What a span is, and what takes spans; OpenTelemetry and a file are two that do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

AttributeValue: TypeAlias = str | int | float | bool | Sequence[str]
Attributes: TypeAlias = Mapping[str, AttributeValue]
OperationKind: TypeAlias = Literal["client", "internal"]


@dataclass(frozen=True, slots=True)
class SpanStart:
    """How a span begins: its name, whether it asks another server, and what is known of it."""

    name: str
    kind: OperationKind
    attributes: Attributes


class Span(Protocol):
    """A span that has begun; it ends with the `with` that it began in, also where that raises."""

    def rename(self, name: str) -> None:
        """Gives it another name."""
        ...

    def set_attributes(self, attributes: Attributes) -> None:
        """Adds to what is known of it."""
        ...

    def record_error(self, kind: str, message: str) -> None:
        """Says that it went wrong: the kind of error, and its words."""
        ...


class Tracer(Protocol):
    """Takes spans."""

    def start_span(self, start: SpanStart) -> AbstractContextManager[Span]:
        """A span, inside of the one that is open in this task."""
        ...

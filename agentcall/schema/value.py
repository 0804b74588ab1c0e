"""A type as JSON: plain ones by themselves, all others by pydantic."""

from __future__ import annotations

from typing import Protocol

from agentcall.messages import JSON
from agentcall.schema.definitions import Schema
from agentcall.schema.plain import PlainValue, is_of, plain_schema


class Value(Protocol):
    """A type as JSON."""

    @property
    def schema(self) -> Schema:
        """Its JSON Schema; a `$ref` in it names one of `definitions`."""
        ...

    @property
    def definitions(self) -> dict[str, Schema]:
        """What is recursive in it, and only that."""
        ...

    @property
    def alias(self) -> str | None:
        """The name by which JSON has it, where the type gives one."""
        ...

    @property
    def has_default(self) -> bool:
        """Whether the type itself brings a default (`Field(default=...)`)."""
        ...

    def read(self, wire: JSON, path: str, schema: Schema) -> object:
        """The Python value of a JSON value at a path. Raises Misfit, in words of the schema."""
        ...

    def default(self) -> object:
        """The default that the type itself brings, made anew."""
        ...


def read_type(annotation: object) -> Value:
    """A type's schema and check. Raises whatever says that pydantic cannot."""
    schema = plain_schema(annotation)
    if schema is not None:
        return PlainValue(annotation, schema)
    from agentcall.schema.checked import checked_value  # imports pydantic

    return checked_value(annotation)


def default_json(default: object) -> tuple[JSON] | None:
    """A default as JSON, in a tuple since None is one; None where JSON cannot hold it."""
    if default is None or isinstance(default, bool):
        return (default,)
    if isinstance(default, (int, float)) and is_of(default, type(default)):
        return (default,)
    if type(default) is str and default.isascii():
        return (default,)
    from agentcall.schema import checked  # imports pydantic

    return checked.default_json(default)


def unfit(annotation: object, error: Exception) -> str:
    """Why a type cannot be offered to a model, and what to use."""
    name = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
    lines = str(error).strip().split("\n")
    first = lines[-1].strip() if lines[0].endswith(":") else lines[0]  # of pydantic's core
    reason = first.split(". ")[0].split(" Set `arbitrary")[0]
    return (
        f"{name or str(annotation)} cannot be written as JSON ({reason}); use a type that can: "
        "str, int, float, bool, list, dict, an Enum, a TypedDict, a dataclass or a BaseModel"
    )

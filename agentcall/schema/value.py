"""A type as JSON: plain ones by themselves, all others by pydantic."""

from __future__ import annotations

from typing import Protocol

from agentcall.messages import JSON
from agentcall.schema.definitions import Schema
from agentcall.schema.plain import BuiltinAdapter, get_builtin_schema, is_value_of


class ValueAdapter(Protocol):
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

    def read(self, value: JSON, path: str, schema: Schema) -> object:
        """The Python value of a JSON value at a path. Raises Misfit, in words of the schema."""
        ...

    def make_default(self) -> object:
        """The default that the type itself brings, made anew."""
        ...


def build_adapter(annotation: object) -> ValueAdapter:
    """A type's schema and check. Raises whatever says that pydantic cannot."""
    schema = get_builtin_schema(annotation)
    if schema is not None:
        return BuiltinAdapter(annotation, schema)
    from agentcall.schema.checked import build_pydantic_adapter  # imports pydantic

    return build_pydantic_adapter(annotation)


def encode_default(default: object) -> tuple[JSON] | None:
    """A default as JSON, in a tuple since None is one; None where JSON cannot hold it."""
    if default is None or isinstance(default, bool):
        return (default,)
    if isinstance(default, (int, float)) and is_value_of(default, type(default)):
        return (default,)
    if type(default) is str and default.isascii():
        return (default,)
    from agentcall.schema import checked  # imports pydantic

    return checked.encode_default_by_pydantic(default)


def explain_unsupported_type(annotation: object, error: Exception) -> str:
    """Why a type cannot be offered to a model, and what to use."""
    name = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
    lines = str(error).strip().split("\n")
    first = lines[-1].strip() if lines[0].endswith(":") else lines[0]  # of pydantic's core
    reason = first.split(". ")[0].split(" Set `arbitrary")[0]
    return (
        f"{name or str(annotation)} cannot be written as JSON ({reason}); use a type that can: "
        "str, int, float, bool, list, dict, an Enum, a TypedDict, a dataclass or a BaseModel"
    )

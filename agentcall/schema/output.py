"""Any type as JSON Schema, and JSON text read as a value of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentcall.errors import SchemaError
from agentcall.messages import JSON
from agentcall.schema.definitions import Schema
from agentcall.schema.problems import TypeMismatch, make_fields_error, parse_json
from agentcall.schema.value import ValueAdapter, build_adapter, explain_unsupported_type


@dataclass(frozen=True, slots=True)
class TypeSchema:
    """A type as a model sees it; `schema` is its JSON Schema, of an object or of any value."""

    name: str
    schema: dict[str, JSON]
    _adapter: ValueAdapter = field(repr=False)

    def parse(self, text: str | bytes) -> object:
        """Read JSON text as a value of the type. Raises ArgumentsError."""
        wire = parse_json(text, self.name, self.schema)
        try:
            return self._adapter.read(wire, "", self.schema)
        except TypeMismatch as misfit:
            raise make_fields_error(self.name, misfit.problems, self.schema) from misfit


def type_schema(annotation: object) -> TypeSchema:
    """The schema of any type: a class, a Union, a list of something. Raises SchemaError."""
    try:
        value = build_adapter(annotation)
    except Exception as error:  # a type's own hooks may raise anything
        raise SchemaError(explain_unsupported_type(annotation, error)) from error
    schema: Schema = value.schema
    if "$ref" in schema:  # recursive: the first level in full, so that its type is plain to see
        named = value.definitions[schema["$ref"].rsplit("/", 1)[-1]]
        schema = {**named, **{key: schema[key] for key in schema if key != "$ref"}}
    if value.definitions:
        schema = dict(schema, **{"$defs": value.definitions})
    name = annotation.__name__ if isinstance(annotation, type) else "value"
    return TypeSchema(name, schema, value)

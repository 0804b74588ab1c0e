"""A function of one value as a tool whose arguments are the value's fields."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agentcall.errors import SchemaError
from agentcall.schema.function import FunctionSchema
from agentcall.schema.output import TypeSchema, type_schema
from agentcall.schema.signature import read_signature


@dataclass(frozen=True, slots=True)
class InputSchema(FunctionSchema):
    """A function whose one parameter is a value that the model gives field by field."""

    _type: TypeSchema = field(repr=False)

    def parse(self, arguments: str | bytes) -> dict[str, object]:
        """The value under the parameter's name. Raises ArgumentsError."""
        (parameter,) = self._signature.parameters
        return {parameter.name: self._type.parse(arguments)}


def input_schema(
    function: object, input_type: object, *, name: str, description: str, context_type: type
) -> InputSchema:
    """The schema of a function of a context and one value, whose type has fields.

    Raises SchemaError for a type without: use a pydantic model, a dataclass or a TypedDict.
    """
    kind = type_schema(input_type)
    if kind.schema.get("type") != "object" or "properties" not in kind.schema:
        raise SchemaError(
            f"{name}: input_type={input_type!r} has no fields; "
            "use a pydantic model, a dataclass or a TypedDict, or leave it out for a text"
        )
    signature = read_signature(function, context_type=context_type, method=False)
    (parameter,) = (p for p in signature.parameters if p.name != signature.context_name)
    return InputSchema(
        name=name,
        description=description,
        parameters=kind.schema,
        context_parameter=signature.context_name,
        _signature=replace(signature, parameters=(parameter,)),
        _arguments=(),
        _has_required_arguments=True,
        _is_keyword_only=True,
        _type=kind,
    )

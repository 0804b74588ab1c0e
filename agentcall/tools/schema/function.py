"""The schema of a function as a tool, and the parsing and binding of its arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from inspect import Parameter
from typing import Annotated, cast, get_args, get_origin

from agentcall.errors import ArgumentProblem, SchemaError
from agentcall.messages import JSON
from agentcall.tools.schema._definitions import Schema, merge_definitions
from agentcall.tools.schema.docstring import read_docstring
from agentcall.tools.schema.errors import (
    ABSENT,
    TypeMismatch,
    describe_schema,
    describe_unknown_argument,
    make_fields_error,
    make_not_object_error,
    parse_json,
)
from agentcall.tools.schema.field_info import get_description
from agentcall.tools.schema.signature import TOOL_NAME, CallableSignature, read_signature
from agentcall.tools.schema.types import (
    TypeSchema,
    ValueAdapter,
    build_adapter,
    encode_default,
    explain_unsupported_type,
    type_schema,
)

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL)
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class _Argument:
    """A parameter that the model fills; `json_name` is its name in JSON.

    A value whose type is `exact_type` is used unchanged.
    """

    json_name: str
    parameter: Parameter
    adapter: ValueAdapter
    schema: Schema
    required: bool
    exact_type: type[str | int] | None

    def read(self, value: JSON, problems: list[ArgumentProblem]) -> object:
        """Return the Python value; problems are appended."""
        if self.parameter.kind is not Parameter.VAR_POSITIONAL:
            return self.read_one(value, self.json_name, problems)
        if not isinstance(value, list):
            problems.append(ArgumentProblem(self.json_name, value, "a list"))
            return ()
        items = enumerate(value)
        return tuple(self.read_one(item, f"{self.json_name}[{i}]", problems) for i, item in items)

    def read_one(self, value: JSON, path: str, problems: list[ArgumentProblem]) -> object:
        """Return one value of the parameter's type."""
        if type(value) is self.exact_type:
            return value
        try:
            return self.adapter.read(value, path, self.adapter.schema)
        except TypeMismatch as mismatch:
            problems += mismatch.problems
            return None


@dataclass(frozen=True, slots=True)
class FunctionSchema:
    """A function as a model sees it: a name, a description, and its parameters as JSON Schema.

    `context_parameter` takes the run's context and is not part of the schema.
    """

    name: str
    description: str
    parameters: dict[str, JSON]
    context_parameter: str | None
    _signature: CallableSignature = field(repr=False)
    _arguments: tuple[_Argument, ...] = field(repr=False)
    _has_required_arguments: bool = field(repr=False)
    _is_keyword_only: bool = field(repr=False)

    def parse(self, arguments: str | bytes) -> dict[str, object]:
        """Parse JSON arguments into Python values by parameter name.

        `*args` become a tuple under their own name, the keys of `**kwargs` are beside the others.
        Defaults are left to the function, except those of a `Field`. Empty text and null mean no
        arguments if none is required. Raises ArgumentsError.
        """
        remaining = self._parse_object(arguments)
        problems: list[ArgumentProblem] = []
        values: dict[str, object] = {}
        for argument in self._arguments:
            name = argument.parameter.name
            if argument.parameter.kind is Parameter.VAR_KEYWORD:
                for key in [key for key in remaining if key not in self._reserved_names]:
                    values[key] = argument.read_one(remaining.pop(key), key, problems)
            elif argument.json_name in remaining:
                value = remaining.pop(argument.json_name)
                if argument.exact_type is str and type(value) in (int, float):
                    value = _restore_number_text(value, argument.json_name, arguments, problems)
                values[name] = argument.read(value, problems)
            elif argument.required:
                problems.append(
                    ArgumentProblem(argument.json_name, ABSENT, describe_schema(argument.schema))
                )
            elif argument.adapter.has_default:
                values[name] = argument.adapter.make_default()
        if remaining:
            problems += self._describe_unknown_arguments(remaining)
        if problems:
            raise make_fields_error(self.name, problems, self.parameters)
        return values

    @property
    def context_type(self) -> object:
        """The type of the parameter that takes the run's context; None without one."""
        annotated = (p for p in self._signature.parameters if p.name == self.context_parameter)
        return next((p.annotation for p in annotated), None)

    @property
    def model_parameters(self) -> Mapping[str, object]:
        """The types of the parameters that the model fills, by name."""
        return {
            parameter.name: parameter.annotation
            for parameter in self._signature.parameters
            if parameter.name != self.context_parameter
        }

    @property
    def _reserved_names(self) -> frozenset[str]:
        """Names that `**kwargs` may not contain, since the call has them already."""
        names = {argument.parameter.name for argument in self._arguments}
        return self._signature.hidden_names | names | {self.context_parameter or ""}

    def bind(
        self, values: Mapping[str, object], context: object | None = None
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return the positional and keyword arguments to call the function with.

        Keywords are used wherever Python allows them, and a default only before a value that has to
        be positional.
        """
        remaining = dict(values)
        if self.context_parameter is not None:
            remaining[self.context_parameter] = context
        if self._is_keyword_only:
            return (), remaining
        positional = self._list_positional(remaining)
        while positional and positional[-1].name not in remaining:
            positional.pop()
        args: list[object] = []
        for parameter in positional:
            value = remaining.pop(parameter.name, parameter.default)
            if value is Parameter.empty:
                raise TypeError(f"{self.name}: no value for {parameter.name!r}")
            if parameter.kind is Parameter.VAR_POSITIONAL:
                args += cast("tuple[object, ...]", value)
            else:
                args.append(value)
        return tuple(args), remaining

    def _list_positional(self, values: Mapping[str, object]) -> list[Parameter]:
        """Return the parameters that have to be given by position."""
        parameters = self._signature.parameters
        has_varargs = any(
            p.kind is Parameter.VAR_POSITIONAL and values.get(p.name) for p in parameters
        )
        also = (Parameter.POSITIONAL_OR_KEYWORD,) if has_varargs else ()
        kinds = (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL, *also)
        return [parameter for parameter in parameters if parameter.kind in kinds]

    def _parse_object(self, arguments: str | bytes) -> dict[str, JSON]:
        if not self._has_required_arguments and arguments.strip() in ("", b"", "null", b"null"):
            return {}
        value = parse_json(arguments, self.name, self.parameters)
        if not isinstance(value, dict):
            raise make_not_object_error(self.name, value, self.parameters)
        return value

    def _describe_unknown_arguments(self, unknown: Mapping[str, JSON]) -> list[ArgumentProblem]:
        known = [
            a.json_name for a in self._arguments if a.parameter.kind is not Parameter.VAR_KEYWORD
        ]
        expected = describe_unknown_argument(known)
        return [ArgumentProblem(name, value, expected) for name, value in unknown.items()]


def function_schema(
    function: object,
    *,
    name: str | None = None,
    description: str | None = None,
    context_type: type | None = None,
    method: bool = False,
) -> FunctionSchema:
    """Create the schema of any callable, from its signature and docstring.

    context_type: the class of the parameter that takes the run's context, with or without `[...]`.
    method: leave out the first parameter, as for a function in a class body.
    Raises SchemaError, with the location and the reason, if it cannot be offered to a model.
    """
    signature = read_signature(function, context_type=context_type, method=method)
    tool_name = signature.name if name is None else name
    if not TOOL_NAME.fullmatch(tool_name):
        reason = f"{tool_name!r} is not a valid tool name: 1 to 64 letters, digits, _ or -"
        raise signature.make_error(None, f"{reason}; pass name=")
    documentation = read_docstring(signature.docstring)
    definitions: dict[str, Schema] = {}
    arguments = tuple(
        _build_argument(parameter, signature, documentation.parameters, definitions)
        for parameter in signature.parameters
        if parameter.name != signature.context_name
    )
    return FunctionSchema(
        name=tool_name,
        description=documentation.description if description is None else description,
        parameters=_make_object_schema(arguments, definitions),
        context_parameter=signature.context_name,
        _signature=signature,
        _arguments=arguments,
        _has_required_arguments=any(argument.required for argument in arguments),
        _is_keyword_only=not any(p.kind in _POSITIONAL for p in signature.parameters),
    )


def _build_argument(
    parameter: Parameter,
    signature: CallableSignature,
    descriptions: Mapping[str, str],
    definitions: dict[str, Schema],
) -> _Argument:
    try:
        adapter = build_adapter(parameter.annotation)
    except Exception as error:  # a type's own hooks may raise anything
        raise signature.make_error(
            parameter.name, explain_unsupported_type(parameter.annotation, error)
        ) from error
    schema = {**merge_definitions(definitions, adapter.schema, adapter.definitions)}
    description = _get_annotation_description(parameter.annotation) or descriptions.get(
        parameter.name
    )
    if description:
        schema["description"] = description
    default = None if parameter.default is Parameter.empty else encode_default(parameter.default)
    if default is not None and parameter.kind not in _VARIADIC:
        schema["default"] = default[0]
    if parameter.kind is Parameter.VAR_POSITIONAL:
        schema = _make_array_schema(schema)
    required = not (
        parameter.kind in _VARIADIC
        or parameter.default is not Parameter.empty
        or adapter.has_default
    )
    exact_type = parameter.annotation if parameter.annotation in (str, int, bool) else None
    return _Argument(
        adapter.alias or parameter.name, parameter, adapter, schema, required, exact_type
    )


def _restore_number_text(
    value: JSON, key: str, text: str | bytes, problems: list[ArgumentProblem]
) -> str:
    """Return a number as it was written for a text: 1.10 is 1.1 to Python, another version."""
    written = text if isinstance(text, str) else bytes(text).decode(errors="replace")
    digits = re.escape(repr(value))
    if not re.search(rf'"{re.escape(key)}"\s*:\s*{digits}(?![\w.])', written):
        problems.append(ArgumentProblem(key, value, "a string in double quotes"))
    return repr(value)


def _make_array_schema(item: Schema) -> Schema:
    described_item = {**item}
    text = described_item.pop("description", None)
    array = {"type": "array", "items": described_item}
    return {**array, "description": text} if text else array


def _get_annotation_description(annotation: object) -> str | None:
    """Return the last description in an annotation."""
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    texts = [text for text in map(get_description, metadata) if text is not None]
    return texts[-1] if texts else None


def _make_object_schema(
    arguments: tuple[_Argument, ...], definitions: dict[str, Schema]
) -> dict[str, JSON]:
    properties: dict[str, JSON] = {}
    additional: JSON = False
    for argument in arguments:
        if argument.parameter.kind is Parameter.VAR_KEYWORD:
            additional = argument.schema or True
        else:
            properties[argument.json_name] = argument.schema
    schema: dict[str, JSON] = {"type": "object", "properties": properties}
    required = [argument.json_name for argument in arguments if argument.required]
    if required:
        schema["required"] = required
    schema["additionalProperties"] = additional
    if definitions:
        schema["$defs"] = definitions
    return schema


@dataclass(frozen=True, slots=True)
class InputSchema(FunctionSchema):
    """A function whose only parameter is a value that the model gives field by field."""

    _type: TypeSchema = field(repr=False)

    def parse(self, arguments: str | bytes) -> dict[str, object]:
        """Return the value under the parameter's name. Raises ArgumentsError."""
        (parameter,) = self._signature.parameters
        return {parameter.name: self._type.parse(arguments)}


def input_schema(
    function: object, input_type: object, *, name: str, description: str, context_type: type
) -> InputSchema:
    """Create the schema of a function of a context and one value, whose type has fields.

    Raises SchemaError for a type without fields.
    """
    value_schema = type_schema(input_type)
    if value_schema.schema.get("type") != "object" or "properties" not in value_schema.schema:
        raise SchemaError(
            f"{name}: input_type={input_type!r} has no fields; "
            "use a pydantic model, a dataclass or a TypedDict, or omit it for text"
        )
    signature = read_signature(function, context_type=context_type, method=False)
    (parameter,) = (p for p in signature.parameters if p.name != signature.context_name)
    return InputSchema(
        name=name,
        description=description,
        parameters=value_schema.schema,
        context_parameter=signature.context_name,
        _signature=replace(signature, parameters=(parameter,)),
        _arguments=(),
        _has_required_arguments=True,
        _is_keyword_only=True,
        _type=value_schema,
    )

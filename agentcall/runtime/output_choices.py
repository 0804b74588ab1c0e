"""What an output may be: the types and functions of `Agent.output_type`, as schemas and as tools.

A type is read from JSON. A function is called with its arguments and returns the output. If there
are several choices and one is a function, the model names one: `{"name": ..., "arguments": {...}}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from inspect import isroutine
from types import UnionType
from typing import Any, TypeAlias, Union, cast, get_args, get_origin

from agentcall.errors import ArgumentsError, SchemaError, UsageError
from agentcall.messages import JSON
from agentcall.runtime.planned_call import OutputCall
from agentcall.tools.schema import (
    FunctionSchema,
    TypeSchema,
    input_schema,
    merge_definitions,
    read_return_type,
    type_schema,
)
from agentcall.tools.tool import RunContext, Tool, make_tool

OUTPUT_TOOL = "final_result"
"""The name of an output tool, or its beginning if there are several."""

_OUTPUT_DESCRIPTION = "The final response which ends this conversation"
_MAX_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class TypeChoice:
    """An output of a type."""

    name: str
    annotation: object
    type: TypeSchema

    @property
    def schema(self) -> dict[str, JSON]:
        """The JSON Schema of the output."""
        return self.type.schema

    @property
    def function(self) -> Tool | None:
        """None: it calls nothing."""
        return None

    @property
    def wrapper_names(self) -> Sequence[str]:
        """Names that a model gives to an object around the value."""
        return (self.type.name,)

    def parse(self, text: str) -> object:
        """Return the output. Raises ArgumentsError."""
        return self.type.parse(text)

    def load(self, text: str) -> object:
        """Return an output that was stored as JSON. Raises ArgumentsError."""
        return self.type.parse(text)

    def create_tool(self, name: str, description: str) -> Tool:
        """Create the output tool of this type: it returns its argument."""

        def respond(response: object) -> object:
            return response

        respond.__annotations__["response"] = self.annotation
        tool = make_tool(respond, name=name, description=description, final=True)
        return _flatten_parameter(tool)


@dataclass(frozen=True, slots=True)
class FunctionChoice:
    """An output that a function of the user's returns.

    returns: the type of its value; None if it does not say, or if the type has no JSON.
    """

    name: str
    function: Tool
    returns: TypeSchema | None

    @property
    def type(self) -> None:
        """None: an answer is not a value of a type, but the arguments of a call."""

    @property
    def schema(self) -> dict[str, JSON]:
        """The JSON Schema of the arguments."""
        if not self.function.description:
            return self.function.parameters
        return {"description": self.function.description, **self.function.parameters}

    @property
    def wrapper_names(self) -> Sequence[str]:
        """Names that a model gives to an object around the arguments."""
        schema = self.function.schema
        names = list(schema.model_parameters) if isinstance(schema, FunctionSchema) else []
        return (self.name, *names) if len(names) == 1 else (self.name,)

    def parse(self, text: str) -> OutputCall:
        """Return the call. Raises ArgumentsError."""
        return OutputCall(self.function, self.function.parse(text), text, self.load_result)

    def load(self, text: str) -> object:
        """Return a returned value that was stored as JSON. Raises ArgumentsError."""
        return json.loads(text) if self.returns is None else self.returns.parse(text)

    def load_result(self, text: str) -> object:
        """Return the returned value, given the text of the call's result."""
        for stored in (text, json.dumps(text)):
            with suppress(ArgumentsError, ValueError):
                return self.load(stored)
        return text

    def create_tool(self, name: str, description: str) -> Tool:
        """Return the function as an output tool."""
        schema = replace(self.function.schema, name=name, description=description)
        return self.function.copy_with(schema, replace(self.function.options, final=True))


OutputChoice: TypeAlias = TypeChoice | FunctionChoice


def list_forms(output_type: object) -> tuple[object, ...]:
    """Return the types and functions of an `Agent.output_type`. Raises UsageError."""
    is_list = isinstance(output_type, (list, tuple))
    forms = tuple(cast("Sequence[object]", output_type if is_list else (output_type,)))
    if not forms:
        raise UsageError("output_type=[]: it needs a type or a function, such as [City, Country]")
    for form in forms:
        if isinstance(form, (str, bytes, dict, list, tuple, int, float)):
            raise UsageError(
                f"output_type={output_type!r:.100}: {form!r:.50} is not a type or a function; use "
                "types such as int, list[str] or a class, or functions that return the output"
            )
    return forms


def is_output_function(form: object) -> bool:
    """Whether a part of an output type is a function of the user's, not a type."""
    if isinstance(form, (Tool, partial)) or isroutine(form):
        return True
    if isinstance(form, type) or not callable(form) or get_origin(form) is not None:
        return False
    # NewType, TypeVar and the like are callable too
    is_special = type(form).__module__ in ("typing", "typing_extensions", "types")
    return not is_special and not hasattr(form, "__supertype__")


def needs_approval(forms: Sequence[object]) -> bool:
    """Whether a person has to approve calls of one of the functions."""
    return any(isinstance(form, Tool) and form.options.requires_approval for form in forms)


def create_choices(forms: Sequence[object]) -> tuple[OutputChoice, ...]:
    """Return what a text may be; types without functions are one choice, their union."""
    if len(forms) > 1 and not any(map(is_output_function, forms)):
        union: Any = Union[tuple(forms)]  # noqa: UP007 - of types that are known at run time only
        return (_create_type_choice(union),)
    return _check_names([_create_choice(form) for form in forms])


def create_alternatives(forms: Sequence[object]) -> tuple[OutputChoice, ...]:
    """Return what an output tool may return: each type, each member of a union, each function."""
    members: list[object] = []
    for form in forms:
        is_union = get_origin(form) in (Union, UnionType)
        members += get_args(form) if is_union else (form,)
    return _check_names([_create_choice(form) for form in members if form is not str])


def create_output_tools(choices: Sequence[OutputChoice]) -> dict[str, OutputChoice]:
    """Return the choices by the names of their output tools."""
    names: dict[str, OutputChoice] = {}
    for choice in choices:
        name = OUTPUT_TOOL
        if len(choices) > 1:
            safe = re.sub(r"[^\w-]+", "_", choice.name, flags=re.ASCII).strip("_")
            name = f"{OUTPUT_TOOL}_{safe}"[:_MAX_NAME_LENGTH].rstrip("_")
        names[name] = choice
    return names


def create_output_tool(name: str, choice: OutputChoice, *, is_only: bool) -> Tool:
    """Create the tool of a choice, whose call ends the run."""
    described = choice.schema.get("description")
    description = described if isinstance(described, str) else _OUTPUT_DESCRIPTION
    return choice.create_tool(name, description if is_only else f"{choice.name}: {description}")


def join_schemas(choices: Sequence[OutputChoice]) -> dict[str, JSON]:
    """Return the JSON Schema of an answer: that of the only choice, or the name of one with it."""
    if len(choices) == 1:
        return choices[0].schema
    definitions: dict[str, dict[str, Any]] = {}
    alternatives: list[JSON] = []
    for choice in choices:
        schema = dict(choice.schema)
        own = cast("dict[str, dict[str, Any]]", schema.pop("$defs", {}))
        properties: dict[str, JSON] = {
            "name": {"type": "string", "const": choice.name},
            "arguments": merge_definitions(definitions, schema, own),
        }
        alternatives.append(
            {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            }
        )
    joined: dict[str, JSON] = {"anyOf": alternatives}
    return {**joined, "$defs": definitions} if definitions else joined


def _create_choice(form: object) -> OutputChoice:
    return _create_function_choice(form) if is_output_function(form) else _create_type_choice(form)


def _create_type_choice(form: object) -> TypeChoice:
    schema = type_schema(form)
    if isinstance(form, type) and get_origin(form) is None:
        name = form.__name__
    else:
        name = re.sub(r"\W+", "_", str(form)).strip("_")
    return TypeChoice(name, form, schema)


def _create_function_choice(form: object) -> FunctionChoice:
    tool = make_tool(cast("Callable[..., Any]", form))  # Any: a function takes and gives anything
    if tool.options.isolated or tool.needs_instance:
        what = "is isolated" if tool.options.isolated else "is a method without an instance"
        raise UsageError(f"output_type: {tool.name} {what}; use a function that can be called here")
    tool = _flatten_parameter(tool)
    returned, returns = read_return_type(tool.function), None
    if returned is not Any:
        with suppress(SchemaError):
            returns = type_schema(returned)
    return FunctionChoice(tool.name, tool, returns)


def _flatten_parameter(tool: Tool) -> Tool:
    """Return the tool with the fields of its only parameter as its own parameters, if it has any.

    As a model's own type is: `def book(order: Order)` takes what an `Order` has.
    """
    schema = tool.schema
    if not isinstance(schema, FunctionSchema) or len(schema.model_parameters) != 1:
        return tool
    ((_, annotation),) = schema.model_parameters.items()
    with suppress(SchemaError):  # a type without fields
        flat = input_schema(
            tool.function,
            annotation,
            name=schema.name,
            description=schema.description,
            context_type=RunContext,
        )
        return tool.copy_with(flat, tool.options)
    return tool


def _check_names(choices: Sequence[OutputChoice]) -> tuple[OutputChoice, ...]:
    """Raise UsageError if two choices have one name, by which a model could not tell them apart."""
    names = [choice.name for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"output_type has two choices named {name!r}; rename one of them")
    return tuple(choices)

"""Reads a callable: its name, its location, and its parameters with resolved types."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections import ChainMap
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, Optional, TypeAlias, Union, get_args, get_origin

from typing_extensions import Unpack, get_type_hints

from agentcall.errors import SchemaError
from agentcall.tools.schema.field_info import as_field

Scope: TypeAlias = tuple[dict[str, Any], Mapping[str, Any]]  # Any: a namespace holds anything
AnyCallable: TypeAlias = Any  # Any: any callable, of which attributes are asked by name
TOOL_NAME = re.compile(r"[\w-]{1,64}")
"""Valid names of a tool."""
_METHOD_WRAPPERS: tuple[type[Any], ...] = (types.MethodType, classmethod, staticmethod)


@dataclass(frozen=True, slots=True)
class CallableSignature:
    """A callable's parameters with resolved annotations, the context included.

    `hidden_names` are parameters that nobody may pass: the first one of a method, and those that a
    `partial` has bound.
    """

    name: str
    location: str
    docstring: str | None
    parameters: tuple[Parameter, ...]
    context_name: str | None
    hidden_names: frozenset[str]

    def make_error(self, parameter: str | None, reason: str) -> SchemaError:
        """Create an error with the function, its location, the parameter and the reason."""
        where = f", parameter {parameter!r}" if parameter else ""
        return SchemaError(f"{self.name} ({self.location}){where}: {reason}")


def read_signature(
    function: AnyCallable, *, context_type: type | None, method: bool
) -> CallableSignature:
    """Read a callable; `method` leaves out the first parameter. Raises SchemaError."""
    plain, bound = _unwrap_callable(function)
    method = isinstance(function, classmethod) or (
        method and not isinstance(function, staticmethod)
    )
    bare = CallableSignature(
        _get_name(function, plain), _get_location(plain), _get_docstring(function), (), None, bound
    )
    parameters = _read_parameters(function, bare)
    if method:
        if not parameters or parameters[0].kind is Parameter.KEYWORD_ONLY:
            raise bare.make_error(
                None, "a method needs a first parameter for its instance or class"
            )
        bound |= {parameters[0].name}
        parameters = parameters[1:]
    scope = _build_scope(plain)
    resolved: list[Parameter] = []
    context: str | None = None
    for parameter in parameters:
        if parameter.name in bound:
            continue
        parameter, is_context = _resolve_parameter(parameter, scope, context_type, bare)
        if is_context and context is not None:
            reason = f"a second context; {context!r} is one already, remove one of them"
            raise bare.make_error(parameter.name, reason)
        context = parameter.name if is_context else context
        resolved += _unpack_keywords(parameter)
    return CallableSignature(
        bare.name, bare.location, bare.docstring, tuple(resolved), context, bound
    )


def _unwrap_callable(function: AnyCallable) -> tuple[AnyCallable, frozenset[str]]:
    """Return the innermost function of a callable, and the keywords that partials have bound."""
    bound: set[str] = set()
    while True:
        if isinstance(function, functools.partial):
            bound |= set(function.keywords)
            function = function.func
        elif isinstance(function, _METHOD_WRAPPERS):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.isroutine(function) or not callable(function):
            return function, frozenset(bound)
        elif isinstance(function, type):
            function = getattr(function, "__init__", None)
        else:
            function = type(function).__call__


def _get_name(function: AnyCallable, plain: AnyCallable) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None) or getattr(plain, "__name__", "")
    return type(function).__name__ if name == "__call__" else str(name)


def _get_location(plain: AnyCallable) -> str:
    code = getattr(plain, "__code__", None)
    if isinstance(code, types.CodeType):
        return f"{code.co_filename}:{code.co_firstlineno}"
    return f"module {getattr(plain, '__module__', None) or 'unknown'}"


def _unwrap_method(function: AnyCallable) -> AnyCallable:
    """Return the function of a classmethod or a staticmethod; anything else unchanged."""
    return function.__func__ if isinstance(function, _METHOD_WRAPPERS[1:]) else function


def _get_docstring(function: AnyCallable) -> str | None:
    while isinstance(function, functools.partial):
        function = function.func
    function = _unwrap_method(function)
    if inspect.isroutine(function) or isinstance(function, type):
        return inspect.getdoc(function)
    called = inspect.getdoc(type(function).__call__) if callable(function) else None
    generic = inspect.getdoc(types.FunctionType.__call__)  # "Call self as a function."
    return called if called and called != generic else inspect.getdoc(function)


def _read_parameters(function: AnyCallable, bare: CallableSignature) -> list[Parameter]:
    target = _unwrap_method(function)
    if not callable(target):
        description = f"{type(function).__name__} {function!r:.80}"
        raise bare.make_error(None, f"not callable: {description}; give a function")
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError) as error:
        reason = f"its parameters cannot be read ({error}); wrap it in a function"
        raise bare.make_error(None, reason) from error


def read_return_type(function: AnyCallable) -> object:
    """Return the resolved type that a callable returns; Any if it does not say."""
    plain, _ = _unwrap_callable(function)
    annotation = getattr(plain, "__annotations__", {}).get("return", Any)
    try:
        return _resolve_type(annotation, _build_scope(plain))
    except Exception:  # a name that cannot be resolved
        return Any


def _build_scope(plain: AnyCallable) -> Scope:
    """Return the names that an annotation in text may use at its place of definition.

    Local types are found in the closure, in the frames of the enclosing functions and class bodies
    that still run, and in the enclosing classes.
    """
    module: dict[str, Any] = getattr(plain, "__globals__", {})
    path = str(getattr(plain, "__qualname__", "")).replace(".<locals>", "").split(".")[:-1]
    spaces: list[Mapping[str, Any]] = [_read_closure(plain), _read_type_parameters(plain)]
    # At decoration time the enclosing functions and class bodies are still on the stack.
    frame = inspect.currentframe() if path else None
    while frame is not None:
        if frame.f_globals is module and frame.f_code.co_name in path:
            spaces.append(frame.f_locals)
        frame = frame.f_back
    owner: object = None
    for name in path:
        owner = vars(owner).get(name) if isinstance(owner, type) else module.get(name)
        if isinstance(owner, type):
            spaces.insert(2, {**vars(owner), **_read_type_parameters(owner)})
    return module, ChainMap(*[dict(space) for space in spaces])


def _read_closure(plain: AnyCallable) -> dict[str, Any]:
    names = getattr(getattr(plain, "__code__", None), "co_freevars", ())
    values: dict[str, Any] = {}
    for name, cell in zip(names, getattr(plain, "__closure__", None) or (), strict=False):
        with suppress(ValueError):  # the cell is still empty
            values[name] = cell.cell_contents
    return values


def _read_type_parameters(owner: object) -> dict[str, Any]:
    return {parameter.__name__: parameter for parameter in getattr(owner, "__type_params__", ())}


def _resolve_parameter(
    parameter: Parameter, scope: Scope, context_type: type | None, bare: CallableSignature
) -> tuple[Parameter, bool]:
    """Return the parameter with its resolved type, and whether it is the run's context."""
    annotation = parameter.annotation
    if annotation is Parameter.empty:
        return parameter.replace(annotation=Any), False
    variadic = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    try:
        resolved = _resolve_type(annotation, scope)
    except Exception as error:
        if context_type and isinstance(annotation, str) and _is_name_of(annotation, context_type):
            return parameter.replace(annotation=context_type), True
        reason = (
            f"the annotation {annotation!r} cannot be resolved ({error}); "
            "import or define its types where the function can see them, outside TYPE_CHECKING"
        )
        raise bare.make_error(parameter.name, reason) from error
    if context_type and not variadic and _is_context(resolved, context_type):
        return parameter.replace(annotation=resolved), True
    return _apply_default(parameter.replace(annotation=resolved)), False


def _resolve_type(annotation: object, scope: Scope) -> object:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    resolved: object = get_type_hints(holder, scope[0], scope[1], include_extras=True)["value"]
    parameters = (typing.ParamSpecArgs, typing.ParamSpecKwargs)
    return Any if isinstance(resolved, parameters) else resolved


def _is_name_of(annotation: str, context_type: type) -> bool:
    return annotation.split("[")[0].strip().split(".")[-1] == context_type.__name__


def _is_context(annotation: object, context_type: type) -> bool:
    origin = get_origin(annotation) or annotation
    if origin in (Annotated, Union, types.UnionType):
        return any(_is_context(arg, context_type) for arg in get_args(annotation))
    return isinstance(origin, type) and issubclass(origin, context_type)


def _apply_default(parameter: Parameter) -> Parameter:
    """Move `= Field(...)` into the type, and make the type optional for `= None`."""
    default: object = parameter.default
    field = as_field(default)
    if field is not None:
        annotation = _make_optional(parameter.annotation, field.default)
        annotation = Annotated[annotation, field]
        return parameter.replace(annotation=annotation, default=Parameter.empty)
    return parameter.replace(annotation=_make_optional(parameter.annotation, default))


def _make_optional(annotation: Any, default: object) -> Any:  # Any: typing names no type for a type
    if default is not None or annotation is Any:
        return annotation
    return Optional[annotation]  # noqa: UP045 - `|` does not support every annotation


def _unpack_keywords(parameter: Parameter) -> list[Parameter]:
    """Return the keywords of `**options: Unpack[SomeTypedDict]`, or the parameter unchanged."""
    if (
        parameter.kind is not Parameter.VAR_KEYWORD
        or get_origin(parameter.annotation) is not Unpack
    ):
        return [parameter]
    from agentcall.tools.schema.annotations import (  # imports pydantic
        is_typed_dict,
        list_typed_dict_items,
    )

    typed_dict = get_args(parameter.annotation)[0]
    if not is_typed_dict(typed_dict):
        return [parameter]
    return [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            annotation=hint,
            default=Parameter.empty if required else ...,
        )
        for name, hint, required in list_typed_dict_items(typed_dict)
    ]

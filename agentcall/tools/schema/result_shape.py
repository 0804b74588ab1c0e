"""The type that a tool returns, on one line for its description.

The shape is that of the JSON that the model reads (`tools/serialize.py`), so it has the fields'
names, and each of them. It is formatted as shapes are in error messages (`format_shape`).
"""

from __future__ import annotations

import types
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Union, cast, get_args, get_origin

import typing_extensions
from typing_extensions import get_type_hints

from agentcall.tools.schema.errors import format_value

MAX_DEPTH = 4
"""How deep the shape of a result is described; below that an object is `{...}`."""

_SCALARS: Mapping[object, str] = {
    str: "string",
    bytes: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    None: "null",
    types.NoneType: "null",
}
_LITERALS = (Literal, typing_extensions.Literal)
_OBJECTS = (dict, Mapping)


def format_result_type(annotation: object) -> str:
    """Return the shape of a structured type; empty for text, numbers, and what is not known.

    annotation: a type, or a list of types one of which it is.

    >>> format_result_type(dict[str, int]), format_result_type(str)
    ('{...: integer}', '')
    """
    try:
        shape = _Formatter().format(annotation)
    except Exception:  # the hooks of a user's class may raise anything
        return ""
    return shape if "{" in shape and shape.strip("[]., ") != "{...}" else ""


class _Formatter:
    """Formats one type; remembers the classes that it is inside, so that recursion ends."""

    def __init__(self) -> None:
        self._classes: list[object] = []

    def format(self, annotation: Any) -> str:  # Any: typing names no type for a type
        """Return the shape of a type."""
        if annotation in (dict, Mapping):
            return "{...}"
        if isinstance(annotation, (list, tuple)):  # the choices of an agent's output
            return self._join(cast("Iterable[object]", annotation))
        if isinstance(annotation, NewType):
            return self.format(annotation.__supertype__)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is None:
            return self._format_class(annotation)
        if origin is Annotated:
            return self.format(arguments[0])
        return self._format_generic(annotation, origin, arguments)

    def _format_generic(self, annotation: object, origin: Any, arguments: Any) -> str:
        if origin in _LITERALS:
            return " | ".join(map(format_value, arguments))
        if origin in (Union, types.UnionType):
            return self._join(arguments)
        if isinstance(origin, type) and issubclass(origin, _OBJECTS):
            return f"{{...: {self.format(arguments[-1])}}}"
        if origin is tuple and Ellipsis not in arguments:
            return f"[{', '.join(map(self.format, arguments))}]"
        if isinstance(origin, type) and issubclass(origin, (Iterable, AsyncIterable)):
            return f"[{self.format(arguments[0])}, ...]"
        return self._format_class(annotation)

    def _join(self, choices: Iterable[object]) -> str:
        return " | ".join(dict.fromkeys(map(self.format, choices)))

    def _format_class(self, cls: Any) -> str:  # Any: as above, with unknown attributes
        if cls in _SCALARS:
            return _SCALARS[cls]
        plain: Any = get_origin(cls) or cls
        if not isinstance(plain, type):
            return "any"
        plain = cast("Any", plain)
        if issubclass(plain, Enum):
            return " | ".join(format_value(member.value) for member in plain)
        items = _list_fields(plain, cls)
        if items is None:
            return _describe_plain_class(plain)
        if plain in self._classes:
            return str(plain.__name__)
        if len(self._classes) == MAX_DEPTH:
            return "{...}"
        self._classes.append(plain)
        shapes = [f"{format_value(name)}{mark}: {self.format(hint)}" for name, hint, mark in items]
        self._classes.pop()
        return f"{{{', '.join(shapes)}}}"


def _list_fields(plain: Any, cls: Any) -> list[tuple[str, object, str]] | None:
    """Return name, type and mark ("?" if it may be missing) of each field; None without fields."""
    if typing_extensions.is_typeddict(plain):
        from agentcall.tools.schema.annotations import list_typed_dict_items  # imports pydantic

        items = list_typed_dict_items(plain)
        return [(name, hint, "" if is_required else "?") for name, hint, is_required in items]
    if hasattr(plain, "model_fields") and hasattr(plain, "model_dump"):
        shown = {n: f.annotation for n, f in cls.model_fields.items() if f.exclude is not True}
        computed = {n: f.return_type for n, f in cls.model_computed_fields.items()}
        return [(name, hint, "") for name, hint in {**shown, **computed}.items()]
    if is_dataclass(plain):
        hints = get_type_hints(plain)
        names = [field.name for field in fields(plain) if not field.name.startswith("_")]
        return [(name, hints[name], "") for name in names]
    if hasattr(plain, "_fields") and hasattr(plain, "_asdict"):
        hints = get_type_hints(plain)
        return [(name, hints.get(name, Any), "") for name in plain._fields]
    return None


def _describe_plain_class(cls: type) -> str:
    """Return the shape of a class without fields: a subclass of a JSON type, or a text."""
    for base, name in _SCALARS.items():
        if isinstance(base, type) and issubclass(cls, base):
            return name
    if issubclass(cls, _OBJECTS):
        return "{...}"
    if issubclass(cls, (list, tuple, set, frozenset)):
        return "[...]"
    is_text = cls.__module__ in ("datetime", "uuid", "decimal", "pathlib")
    return "string" if is_text else "any"

"""Rewrites annotations into a form that pydantic accepts on every version of Python.

Three things are rewritten, at any depth: `typing.TypedDict`, which pydantic rejects before
Python 3.12 (and also after, in the fields of a dataclass or NamedTuple); a text or `Doc` in
`Annotated`, which becomes the description; and `Iterable` and `Collection`, which become lists,
since pydantic validates an Iterable only while the tool reads it.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections import namedtuple
from collections.abc import Collection, Iterable
from typing import Annotated, Any, NewType, Union, cast, get_args, get_origin

import typing_extensions
from pydantic import AfterValidator, Field
from pydantic.fields import FieldInfo
from typing_extensions import NotRequired, ReadOnly, Required, TypedDict, get_type_hints

from agentcall.tools.schema.field_info import get_description

_OLD_TYPED_DICT = sys.version_info < (3, 12)
_UNIONS = (Union, types.UnionType)
_LIST_ORIGINS = (Iterable, Collection)
# On Python 3.11 and 3.12 those of typing and of typing_extensions may differ.
_REQUIRED = (Required, getattr(typing, "Required", Required))
_NOT_REQUIRED = (NotRequired, getattr(typing, "NotRequired", NotRequired))
_QUALIFIERS = (*_REQUIRED, *_NOT_REQUIRED, ReadOnly, getattr(typing, "ReadOnly", ReadOnly))


def rewrite_annotation(annotation: object) -> object:
    """Return the annotation as pydantic accepts it; the same object if nothing had to change."""
    return _AnnotationRewriter().rewrite(annotation)


def is_typed_dict(annotation: object) -> typing.TypeGuard[type]:
    """Whether this is a TypedDict, of `typing` or of `typing_extensions`."""
    return typing_extensions.is_typeddict(annotation)


def list_typed_dict_items(cls: type) -> list[tuple[str, object, bool]]:
    """Return the items of a TypedDict: name, type, and whether it is required."""
    keys: frozenset[str] = getattr(cls, "__required_keys__", frozenset())
    hints = get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    return [(name, *_strip_qualifiers(hint, name in keys)) for name, hint in hints.items()]


class _AnnotationRewriter:
    """Rewrites one annotation; remembers classes, so that recursion ends."""

    def __init__(self) -> None:
        self._classes: dict[type, object] = {}

    def rewrite(self, annotation: object) -> object:
        if annotation is Iterable or annotation is Collection:
            return list
        if isinstance(annotation, list):  # of a Callable
            return cast("object", annotation)
        if isinstance(annotation, type) and get_origin(annotation) is None:
            return self._rewrite_class(annotation) if _OLD_TYPED_DICT else annotation
        if isinstance(annotation, NewType):
            inner = self.rewrite(annotation.__supertype__)
            return annotation if inner is annotation.__supertype__ else inner
        origin = get_origin(annotation)
        if origin is Annotated:
            return self._rewrite_metadata(annotation)
        if origin is None or origin is typing.Literal or origin is typing_extensions.Literal:
            return annotation
        return self._rewrite_generic(annotation, origin)

    def _rewrite_metadata(
        self, annotation: Any
    ) -> object:  # Any: typing names no type for Annotated
        inner = self.rewrite(annotation.__origin__)
        metadata = tuple(map(_to_field, annotation.__metadata__))
        if inner is annotation.__origin__ and metadata == annotation.__metadata__:
            return annotation
        form: Any = Annotated
        items = (inner, *metadata)
        return form[items]

    def _rewrite_generic(self, annotation: object, origin: Any) -> object:  # Any: list, Union, ...
        old = get_args(annotation)
        new = tuple(map(self.rewrite, old))
        if origin in _LIST_ORIGINS:
            return list.__class_getitem__(new) if new else list
        if all(a is b for a, b in zip(old, new, strict=True)):
            return annotation
        return Union[new] if origin in _UNIONS else origin[new]  # noqa: UP007 - built, not written

    def _rewrite_class(self, cls: type) -> object:
        if cls in self._classes:
            return self._classes[cls]
        if is_typed_dict(cls):
            return self._rewrite_typed_dict(cls)
        return self._rewrite_record(cls) if _is_record(cls) else cls

    def _rewrite_typed_dict(self, cls: type) -> object:
        items = list_typed_dict_items(cls)
        names = {name: Any for name, _, _ in items}
        twin: Any = TypedDict(cls.__name__, names)  # type: ignore[misc]  # made at run time
        twin.__doc__, twin.__module__, twin.__qualname__ = cls.__doc__, cls.__module__, cls.__name__
        config = getattr(cls, "__pydantic_config__", None)
        if config is not None:
            setattr(twin, "__pydantic_config__", config)  # noqa: B010 - unknown to type checkers
        self._classes[cls] = twin  # before its items, which may refer to it
        for name, hint, required in items:
            qualifier: Any = Required if required else NotRequired
            twin.__annotations__[name] = qualifier[self.rewrite(hint)]
        return twin

    def _rewrite_record(self, cls: type) -> object:
        """Rewrite a dataclass or NamedTuple: if a field changes, validate a twin and convert it."""
        # First with the class itself in place of recursive references, to see if a field changes.
        seen = {**self._classes, cls: cls}
        self._classes = {**seen}
        hints = _get_hints(cls)
        if all(self.rewrite(hint) is hint for hint in hints.values()):
            return cls
        twin = _make_twin(cls)
        self._classes = {**seen, cls: Annotated[twin, AfterValidator(_make_converter(cls))]}
        for name in hints.keys() & twin.__annotations__.keys():
            twin.__annotations__[name] = self.rewrite(hints[name])
        for field in dataclasses.fields(twin) if dataclasses.is_dataclass(twin) else ():
            field.type = twin.__annotations__[field.name]
        return self._classes[cls]


def _get_hints(cls: type) -> dict[str, Any]:  # Any: typing names no type for a type
    try:
        return get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except NameError:  # local names, which pydantic may resolve
        return {}


def _is_record(cls: Any) -> bool:  # Any: a class with unknown attributes
    if hasattr(cls, "__dataclass_fields__"):
        return "__pydantic_validator__" not in vars(cls)
    return hasattr(cls, "_fields") and hasattr(cls, "_field_defaults")


def _make_twin(cls: Any) -> Any:  # Any: a class, and one created here
    """Create a dataclass or NamedTuple with the fields and defaults of another, without types."""
    if hasattr(cls, "__dataclass_fields__"):
        fields = [
            (f.name, object, _copy_field_default(f)) for f in dataclasses.fields(cls) if f.init
        ]
        return dataclasses.make_dataclass(cls.__name__, fields, kw_only=True)
    defaults = list(cls._field_defaults.values())
    make: Any = namedtuple  # Any: type checkers require literal names
    twin = make(cls.__name__, cls._fields, defaults=defaults)
    twin.__annotations__ = dict.fromkeys(cls._fields, object)
    return twin


def _strip_qualifiers(hint: object, required: bool) -> tuple[object, bool]:
    """Remove qualifiers from a hint; if the class had only text, they decide what is required."""
    origin = get_origin(hint)
    if origin in _QUALIFIERS:
        return _strip_qualifiers(
            get_args(hint)[0], origin in _REQUIRED or (required and origin not in _NOT_REQUIRED)
        )
    return hint, required


def _to_field(metadata: object) -> object:
    text = get_description(metadata)
    return metadata if text is None or isinstance(metadata, FieldInfo) else Field(description=text)


def _copy_field_default(field: dataclasses.Field[Any]) -> Any:  # Any: what a dataclass field holds
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.field(default=field.default)


def _make_converter(cls: type) -> typing.Callable[[object], object]:
    def remake(twin: Any) -> object:  # Any: an instance of a class made here
        if isinstance(twin, tuple):
            return cls(*cast("tuple[object, ...]", twin))
        return cls(**{name: getattr(twin, name) for name in twin.__dataclass_fields__})

    return remake

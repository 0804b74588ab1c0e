"""What a tool gave, as text for the model, taken at once.

Rules: a text stays as it is; everything else becomes valid JSON, with text beyond ASCII as it is.
NaN and infinities are null, as JSON has no word for them. Bytes are text where they are UTF-8,
else base64. Sets are sorted lists, generators lists of what they give, models and dataclasses
objects, arrays lists. What contains itself says `<cycle>`; any other object is its `repr`.
Nothing here raises.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import is_dataclass
from itertools import islice
from typing import cast

import orjson

from agentcall.messages import JSON

MAX_DEPTH = 60
MAX_ITEMS = 10_000
_PLAIN = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def snapshot(value: object) -> str:
    """The value as text, by the rules of this module.

    >>> snapshot({"city": "上海", "degrees": {3, 1, 2}})
    '{"city":"上海","degrees":[1,2,3]}'
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    try:
        return orjson.dumps(value, default=_known, option=_PLAIN).decode()
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(_walked(value, ()), ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


def capped(text: str, limit: int) -> str:
    """The text, or its beginning and end around a note that says how much was cut out."""
    if len(text) <= limit:
        return text
    tail = limit // 5
    head = limit - tail
    cut = len(text) - limit
    note = f"\n[... {cut} of {len(text)} characters cut out here ...]\n"
    return text[:head] + note + text[len(text) - tail :]


def _known(value: object) -> object:
    """A JSON-like value that stands for an object; TypeError where there is none."""
    if isinstance(value, (bytes, bytearray)):
        return _bytes(bytes(value))
    if isinstance(value, (Set, Iterator)):
        return _listed(cast("Iterator[object]", value))
    for name in ("model_dump", "_asdict", "tolist", "isoformat"):
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            return method()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    raise TypeError


def _walked(value: object, above: tuple[int, ...]) -> JSON:
    """A JSON value, whatever the object; slower than orjson, but never fails."""
    if id(value) in above:
        return "<cycle>"
    if len(above) > MAX_DEPTH:
        return "<deeper>"
    inside = (*above, id(value))
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            pairs = cast("Mapping[object, object]", value).items()
            return {_key(key): _walked(item, inside) for key, item in pairs}
        case list() | tuple():
            return [_walked(item, inside) for item in cast("Sequence[object]", value)]
        case _:
            return _other(value, inside)


def _other(value: object, inside: tuple[int, ...]) -> JSON:
    try:
        if is_dataclass(value) and not isinstance(value, type):
            return _walked({name: getattr(value, name) for name in _fields(value)}, inside)
        return _walked(_known(value), inside)
    except Exception:  # an object's own methods may raise anything
        return _repr(value)


def _fields(value: object) -> list[str]:
    return list(getattr(value, "__dataclass_fields__", {}))


def _key(key: object) -> str:
    return key if isinstance(key, str) else str(key)


def _bytes(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"bytes": len(value), "base64": base64.b64encode(value).decode()}


def _listed(values: Iterator[object] | Set[object]) -> list[object]:
    items = list(islice(values, MAX_ITEMS))
    if isinstance(values, Set):
        try:
            return sorted(items)  # type: ignore[type-var]  # unsortable ones are caught
        except TypeError:
            return sorted(items, key=repr)
    return items


def _repr(value: object) -> str:
    try:
        return repr(value)[:1000]
    except Exception:  # as above
        return f"<{type(value).__name__}>"

"""Serializes the output of a tool as text for the model, immediately.

Rules: text is unchanged; everything else becomes valid JSON, with characters beyond ASCII
unescaped. NaN and infinities become null, as JSON cannot represent them. Bytes become text if they
are UTF-8, else base64. Sets become sorted lists, generators lists of their first `MAX_ITEMS` items,
models and dataclasses objects, arrays lists. `Untrusted` is replaced by its value, and a `Result`
inside another value by its text and images: its data never become text. Other objects
become the result of `str` or `repr` if their class defines it, else their public attributes. A
cycle becomes `<cycle>`. Nothing here raises an Exception.

Images (`Image`, the bytes of an image file, an image of Pillow, a `data:` URL) are not text: the
text has a note at their place, such as `[image 1: image/png, 1024 bytes]`. A list of texts and
images becomes their lines.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from dataclasses import is_dataclass
from itertools import islice
from typing import NamedTuple, cast

import orjson

from agentcall.errors import UsageError
from agentcall.messages import (
    JSON,
    Image,
    Text,
    Untrusted,
    extract_images,
    format_image,
    is_image,
    to_image,
)
from agentcall.tools.result import Result

MAX_DEPTH = 60
MAX_ITEMS = 10_000
_MAX_DIGIT_BITS = 10_000
_HIDDEN_DEPTH = 4
_JSON_TYPES = frozenset({int, float, bool, type(None), dict})
_CONTAINERS = (bytes, bytearray, memoryview, Set, Mapping, Sequence, ValuesView)
_ORJSON_OPTIONS = (
    orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS
)


class SerializedOutput(NamedTuple):
    """A tool's output: its text, whether any part is `Untrusted`, its images, and its data."""

    text: str
    is_untrusted: bool = False
    images: tuple[Image, ...] = ()
    data: object = None


def serialize(value: object) -> str:
    """Return the value as text, by the rules of this module.

    >>> serialize({"city": "上海", "degrees": {3, 1, 2}})
    '{"city":"上海","degrees":[1,2,3]}'
    """
    return serialize_output(value).text


def serialize_output(value: object) -> SerializedOutput:
    """Return the value as text, with its images and provenance."""
    if isinstance(value, Untrusted):
        return serialize_output(value.value)._replace(is_untrusted=True)
    if isinstance(value, str):
        text = value if type(value) is str and value.isascii() else _encode_text(value)
        return SerializedOutput(text) if ";base64," not in text else _extract_images(text)
    serializer = _Serializer()
    if type(value) not in _JSON_TYPES:
        if isinstance(value, Result):
            return _serialize_result(value)
        parts = cast("Sequence[object]", value) if _is_content(value) else [value]
        if parts is value or is_image(value):
            text = "\n".join(map(serializer.format_part, parts))
            return SerializedOutput(text, serializer.is_untrusted, tuple(serializer.images))
    try:
        text = orjson.dumps(value, default=serializer.convert, option=_ORJSON_OPTIONS).decode()
    except (TypeError, ValueError, RecursionError):
        serializer.images.clear()
        serializer.data.clear()
        text = json.dumps(serializer.walk(value, ()), ensure_ascii=False, separators=(",", ":"))
        text = text.encode("utf-8", "replace").decode()
    output = SerializedOutput(text, serializer.is_untrusted, tuple(serializer.images))
    if serializer.data:
        output = output._replace(data=serializer.data)
    return output if ";base64," not in text else _extract_images(*output)


def _serialize_result(result: Result) -> SerializedOutput:
    output = serialize_output(result.text)
    if result.images:
        first = len(output.images) + 1
        notes = (format_image(image, number) for number, image in enumerate(result.images, first))
        output = output._replace(
            text="\n".join(filter(None, (output.text, *notes))),
            is_untrusted=output.is_untrusted or any(image.untrusted for image in result.images),
            images=(*output.images, *result.images),
        )
    return output._replace(data=result.data)


def _encode_text(value: str) -> str:
    return str.__str__(value).encode("utf-8", "replace").decode()


def _extract_images(
    text: str, is_untrusted: bool = False, images: tuple[Image, ...] = (), data: object = None
) -> SerializedOutput:
    text, more = extract_images(text, len(images) + 1)
    return SerializedOutput(text, is_untrusted, (*images, *more), data)


def _is_content(value: object) -> bool:
    """Whether a value is a list of texts and images, with at least one image."""
    if not isinstance(value, (list, tuple)):
        return False
    items = cast("Sequence[object]", value)
    has_image = False
    for item in () if hasattr(items, "_asdict") else items:
        if not isinstance(item, (str, Text)):
            if not is_image(item):
                return False
            has_image = True
    return has_image


def to_json_value(value: object) -> JSON:
    """Return the value as a JSON value, by the rules of this module."""
    text = serialize(value)
    if isinstance(value, str):
        return text
    try:
        return cast("JSON", json.loads(text))
    except ValueError:  # images among texts, and a `Result`, are text
        return text


def truncate_text(text: str, limit: int | None) -> str:
    """Return the text, or its beginning and end around a note of how much was cut."""
    if limit is None or len(text) <= limit:
        return text
    tail = limit // 5
    head = limit - tail
    removed = len(text) - limit
    note = f"\n[... {removed} of {len(text)} characters cut out here ...]\n"
    return text[:head] + note + text[len(text) - tail :]


def list_items(values: Iterable[object]) -> list[object]:
    """Return the first `MAX_ITEMS` values of an iterable, with a note if there are more."""
    items = list(islice(values, MAX_ITEMS + 1))
    return items if len(items) <= MAX_ITEMS else [*items[:-1], f"<cut after {MAX_ITEMS} items>"]


class _Serializer:
    """Serializes one value; items of iterators are saved, as they can be read only once."""

    def __init__(self) -> None:
        self.is_untrusted = False
        self.images: list[Image] = []
        self.data: list[object] = []  # of the `Result`s inside the value
        self._iterated: dict[int, tuple[object, list[object]]] = {}

    def convert(self, value: object) -> object:
        """Return a JSON-like value for an object, or raise TypeError."""
        if isinstance(value, Untrusted):
            self.is_untrusted = True
            return value.value
        if isinstance(value, Result):
            if value.data is not None:
                self.data.append(value.data)
            return [value.text, *value.images] if value.images else value.text
        if is_image(value):
            return self.format_part(value)
        if isinstance(value, Iterator):
            return self._drain(cast("Iterator[object]", value))
        converted = _convert(value)
        self.is_untrusted = self.is_untrusted or _has_hidden_untrusted_value(value, converted)
        return converted

    def format_part(self, part: object) -> str:
        """Return a text, or the note for an image, which is collected."""
        if isinstance(part, str):
            text, images = extract_images(_encode_text(part), len(self.images) + 1)
            self.images += images
            return text
        if isinstance(part, Text):
            self.is_untrusted = self.is_untrusted or part.untrusted
            return self.format_part(part.text)
        try:
            image = to_image(part)
        except UsageError as error:
            return f"[image that cannot be sent: {error}]"
        self.images.append(image)
        self.is_untrusted = self.is_untrusted or image.untrusted
        return format_image(image, len(self.images))

    def walk(self, value: object, ancestors: tuple[int, ...]) -> JSON:
        """Return a JSON value for any object; slower than orjson, but never fails."""
        if id(value) in ancestors:
            return "<cycle>"
        if len(ancestors) > MAX_DEPTH:
            return "<deeper>"
        try:
            return self._walk_value(value, (*ancestors, id(value)))
        except Exception:  # an object's own methods may raise anything
            return _safe_repr(value)

    def _walk_value(self, value: object, ancestors: tuple[int, ...]) -> JSON:
        is_named = hasattr(value, "_asdict")
        match value:
            case None | bool() | str():
                return value
            case int():
                return value if value.bit_length() < _MAX_DIGIT_BITS else hex(value)
            case float():
                return value if math.isfinite(value) else None
            case Mapping():
                pairs = cast("Mapping[object, object]", value).items()
                return {self._key(key): self.walk(item, ancestors) for key, item in pairs}
            case list() | tuple() if not is_named:
                return [self.walk(item, ancestors) for item in cast("Sequence[object]", value)]
            case _ if is_dataclass(value) and not isinstance(value, (type, Image)):
                return self.walk(_get_fields(value), ancestors)
            case _:
                return self.walk(self.convert(value), ancestors)

    def _key(self, key: object) -> str:
        if isinstance(key, Untrusted):
            self.is_untrusted = True
            return self._key(key.value)
        if isinstance(key, str):
            return key
        return key.decode() if isinstance(key, bytes) and key.isascii() else _safe_repr(key)

    def _drain(self, values: Iterator[object]) -> list[object]:
        # orjson may fail after it has read an iterator; the slower walk then needs its items.
        if id(values) not in self._iterated:
            items: list[object] = []
            self._iterated[id(values)] = (values, items)
            try:
                items += list_items(values)
            except Exception as error:  # the items before it are lost, the reason is not
                items.append(f"<{type(error).__name__}>")
        return self._iterated[id(values)][1]


def _convert(value: object) -> object:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bytes_to_json(bytes(cast("bytes", value)))
    if isinstance(value, Set):
        return _sort(cast("Set[object]", value))
    if is_dataclass(value) and not isinstance(value, type):
        return _get_fields(value)
    for name in ("model_dump", "_asdict", "tolist", "isoformat"):
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            return method()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    if isinstance(value, (Sequence, ValuesView)):
        return list(cast("Sequence[object]", value))
    if isinstance(value, int):
        raise TypeError  # orjson has rejected it already
    return _describe_object(value)  # pyright: ignore[reportUnknownArgumentType]  # what is left of `object`


def _get_fields(value: object) -> dict[str, object]:
    """Return the public fields of a dataclass."""
    names: list[str] = list(getattr(value, "__dataclass_fields__", {}))
    return {name: getattr(value, name) for name in names if not name.startswith("_")}


def _has_hidden_untrusted_value(value: object, converted: object) -> bool:
    """Whether the text of an object lost the mark of an untrusted value inside it."""
    if not isinstance(converted, str) or isinstance(value, _CONTAINERS):
        return False
    return "Untrusted(" in converted or _contains_untrusted_value(value, _HIDDEN_DEPTH)


def _contains_untrusted_value(value: object, depth: int) -> bool:
    """Whether an attribute of an object is `Untrusted` or contains one, up to a depth."""
    if isinstance(value, Untrusted):
        return True
    if depth == 0 or isinstance(value, (str, bytes)):
        return False
    if isinstance(value, Mapping):
        inner: Iterable[object] = cast("Mapping[object, object]", value).values()
    elif isinstance(value, _CONTAINERS):
        inner = cast("Iterable[object]", value)
    else:
        inner = _iter_attributes(value)
    return any(_contains_untrusted_value(item, depth - 1) for item in islice(inner, MAX_ITEMS))


def _iter_attributes(value: object) -> Iterator[object]:
    yield from cast("dict[str, object]", getattr(value, "__dict__", {})).values()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(value, name, None)


def _bytes_to_json(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"bytes": len(value), "base64": base64.b64encode(value).decode()}


def _sort(values: Set[object]) -> list[object]:
    try:
        return sorted(values)  # type: ignore[type-var]  # sets that cannot be sorted are caught
    except TypeError:
        return sorted(values, key=_safe_repr)


def _describe_object(value: object) -> object:
    """Return the text that an object's class defines, or its public attributes."""
    kind = type(value)
    if kind.__str__ is not object.__str__ and not isinstance(value, BaseException):
        return str(value)
    if kind.__repr__ is not object.__repr__:
        return repr(value)
    attributes = cast("dict[str, object]", getattr(value, "__dict__", {}))
    public = {name: item for name, item in attributes.items() if not name.startswith("_")}
    return public or f"<{kind.__name__}>"


def _safe_repr(value: object) -> str:
    try:
        return repr(value)[:1000]
    except Exception:  # __repr__ may raise anything
        return f"<{type(value).__name__}>"

"""Reads the descriptions of a function and of its parameters from a docstring.

Google, NumPy, Sphinx and epydoc styles are recognized by the text itself. NumPy's is parsed by
docstring-parser (`numpy_docstring.py`). The others are parsed here, line by line, since
docstring-parser rejects a whole docstring at the first entry or field without its colon.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParsedDocstring:
    """A function's description, and a description for each parameter that has one."""

    description: str
    parameters: Mapping[str, str]


_ARGUMENT_TITLES = (
    r"(?:(?:other|keyword|input)\s+)?(?:args?|arguments|parameters?|params)"
    r"(?:\s*\((?:optional|required)\))?|参数|参数说明"
)
_OTHER_TITLES = (
    r"returns?|yields?|raises|throws|exceptions?|except|examples?|notes?|warnings?|warns|"
    r"attributes|references|see\s+also|todo|side\s+effects|返回|返回值|异常|抛出|示例|例子|注意"
)
_PARAMETERS = r"param|parameter|arg|argument|key|keyword|kwarg"
_FIELDS = r"(?:type|returns?|rtype|raises?|except|exception|yields?|ytype|var|ivar)"

_HEADER = re.compile(
    rf"(?P<indent>\s*)(?:\*\*)?(?:(?P<arguments>{_ARGUMENT_TITLES})|(?:{_OTHER_TITLES}))\s*"
    r"(?:\*\*)?[:：](?:\*\*)?\s*$",
    re.IGNORECASE,
)
_INLINE = re.compile(
    r"(?P<indent>\s*)(?:(?P<arguments>Args|Arguments|Parameters)|(?:Returns|Yields|Raises|返回))"
    r"\s*(?::\s|：)\s*(?P<rest>\S.*)$"
)
_ENTRY = re.compile(
    r"\s*(?:[-*+•]\s+)?`{0,2}(?P<name>\\?\*{0,2}\w+)`{0,2}\s*"
    r"(?:\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\])?\s*(?::(?!:|//)|：|\s[-–—]\s)\s*(?P<text>.*)$"
)
_FIELD = re.compile(
    rf"\s*[:@](?:(?P<param>{_PARAMETERS})|{_FIELDS})\b(?P<names>[^:]*)(?::(?P<text>.*))?$"
)
_EMPTY_TEXTS = {"", "none", "none.", "n/a", "nothing"}


def read_docstring(text: str | None) -> ParsedDocstring:
    """Parse a docstring of any style; text of an unknown style is all description."""
    clean = inspect.cleandoc(text or "")
    lines = clean.split("\n")
    if any(map(_FIELD.match, lines)):
        return _read_fields(lines)
    if "---" in clean or "===" in clean:
        from agentcall.tools.schema.numpy_docstring import read_numpy  # late: few have this style

        parsed = read_numpy(clean)
        if parsed is not None:
            parameters: dict[str, str] = {}
            for name, description in parsed.parameters:
                _add_description(parameters, name, description)
            return ParsedDocstring(parsed.description, parameters)
    return _read_sections(lines)


def _read_fields(lines: list[str]) -> ParsedDocstring:
    """Parse `:param x: text` and `@param x: text`; a paragraph after a field is description."""
    outside: list[str] = []
    parameters: dict[str, str] = {}
    name, texts = "", list[str]()
    base, gap = -1, False  # the indent of the current field; whether a blank line followed
    for line in lines:
        field = _FIELD.match(line)
        if field:
            _add_description(parameters, name, " ".join(texts))
            name, texts = _split_field(field)
            base, gap = _measure_indent(line), False
        elif base >= 0 and (not line.strip() or not gap or _measure_indent(line) > base):
            gap = gap or not line.strip()
            texts.append(line)
        else:
            base = -1
            outside.append(line.rstrip())
    _add_description(parameters, name, " ".join(texts))
    return ParsedDocstring(_join_lines(outside), parameters)


def _split_field(field: re.Match[str]) -> tuple[str, list[str]]:
    names = field["names"].split()
    if not field["param"] or not names:
        return "", []
    if field["text"] is None:  # the second colon is missing
        return names[0], names[1:]
    return names[-1], [field["text"]]


def _join_lines(lines: list[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _add_description(parameters: dict[str, str], name: str, text: str) -> None:
    name = name.strip().strip("`").replace("\\", "").lstrip("*")
    plain = " ".join(text.split())
    if name and plain:
        parameters.setdefault(name, plain)


def _read_sections(lines: list[str]) -> ParsedDocstring:
    """Split a text at its section headers; keep the arguments and the text outside sections."""
    outside: list[str] = []
    parameters: dict[str, str] = {}
    position = 0
    while position < len(lines):
        header = _match_header(lines[position])
        if header is None:
            outside.append(lines[position].rstrip())
            position += 1
            continue
        end = _find_section_end(lines, position + 1, len(header["indent"]))
        if header["arguments"]:
            first = [header["rest"]] if header.re is _INLINE else []
            _read_entries(first + lines[position + 1 : end], parameters)
        position = end
    return ParsedDocstring(_join_lines(outside), parameters)


def _match_header(line: str) -> re.Match[str] | None:
    inline = _INLINE.match(line)
    if inline is None:
        return _HEADER.match(line)
    rest: str = inline["rest"]
    is_header = not inline["arguments"] or rest.lower() in _EMPTY_TEXTS or _ENTRY.match(rest)
    return inline if is_header else None


def _find_section_end(lines: list[str], start: int, indent: int) -> int:
    """Return where a section ends: at a header of its depth, or at text after a blank line."""
    for position in range(start, len(lines)):
        line = lines[position]
        if not line.strip() or _measure_indent(line) > indent:
            continue
        after_gap = position > start and not lines[position - 1].strip()
        if _match_header(line) or (
            after_gap and not (position == start + 1 and _ENTRY.match(line))
        ):
            return position
    return len(lines)


def _read_entries(lines: list[str], parameters: dict[str, str]) -> None:
    """Parse `name (type): text` entries; any other line continues the entry before it."""
    base: int | None = None
    name, texts = "", list[str]()
    for line in filter(str.strip, lines):
        entry = _ENTRY.match(line)
        if entry and (base is None or _measure_indent(line) <= base):
            base = _measure_indent(line) if base is None else base
            _add_description(parameters, name, " ".join(texts))
            name, texts = entry["name"], [entry["text"]]
        else:
            texts.append(line)
    _add_description(parameters, name, " ".join(texts))


def _measure_indent(line: str) -> int:
    return len(line) - len(line.lstrip())

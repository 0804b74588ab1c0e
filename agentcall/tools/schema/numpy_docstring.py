"""Reads docstrings of NumPy's style, with docstring-parser."""

from __future__ import annotations

import re
from typing import NamedTuple

from docstring_parser import DocstringStyle, ParseError, parse

_TITLES = (
    r"Parameters|Params|Arguments|Other Parameters|Other Params|Receives|Returns?|Yields?|"
    r"Raises|Warns|Warnings?|Attributes|Methods|Examples?|Notes?|References|See Also"
)
_UNDERLINED = re.compile(
    rf"^[ ]*(?P<title>{_TITLES})[ ]*:?[ ]*\n[ ]*[-=]{{3,}}[ ]*$", re.MULTILINE | re.IGNORECASE
)


class NumpyDocstring(NamedTuple):
    """A function's description, and the names of parameters with their descriptions."""

    description: str
    parameters: list[tuple[str, str]]


def read_numpy(clean: str) -> NumpyDocstring | None:
    """Parse NumPy's style; return None for a text that does not follow it to the end."""
    normal, count = _UNDERLINED.subn(_normalize_underline, clean)
    if not count:
        return None
    try:
        parsed = parse(normal, DocstringStyle.NUMPYDOC)
    except ParseError:
        return None
    parameters = [
        (name, parameter.description or "")
        for parameter in parsed.params
        if parameter.args[0] != "attribute"
        for name in parameter.arg_name.split(",")
    ]
    parts = (parsed.short_description, parsed.long_description)
    gap = "\n\n" if parsed.blank_after_short_description else "\n"
    return NumpyDocstring(gap.join(part for part in parts if part).strip(), parameters)


def _normalize_underline(match: re.Match[str]) -> str:
    title = match["title"].title()  # the parser requires this case and a line of the same length
    return f"{title}\n{'-' * len(title)}"

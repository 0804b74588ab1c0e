"""The texts of the members of an object or list, as written."""

from __future__ import annotations

from typing import TypeAlias

from agentcall.jsontext.balance import CLOSERS, BracketMatcher
from agentcall.jsontext.lenient import LenientParser, MalformedJSON

Members: TypeAlias = "list[tuple[str, str]]"


def split_members(text: str) -> Members | None:
    """Keys and the texts of their values of an object written as JSON or nearly so.

    The texts are as written, so that what has to be mended in them can still be seen. None if the
    text is no object.
    """
    scan = LenientParser(text)
    found: Members = []
    try:
        if not scan.eat("{"):
            return None
        while not scan.eat("}"):
            key = scan.parse_key()
            if not scan.eat(":"):
                return None
            found.append((key, _read_value_text(scan)))
            if not scan.eat(",") and scan.peek() != "}":
                return None
    except MalformedJSON:
        return None
    return found


def split_items(text: str) -> list[str] | None:
    """The texts of the items of a list written as JSON or nearly so; None if it is no list."""
    scan = LenientParser(text)
    found: list[str] = []
    try:
        if not scan.eat("["):
            return None
        while not scan.eat("]"):
            found.append(_read_value_text(scan))
            if not scan.eat(",") and scan.peek() != "]":
                return None
    except MalformedJSON:
        return None
    return found


def _read_value_text(scan: LenientParser) -> str:
    char = scan.peek()
    start = scan.at
    if char in CLOSERS:
        end = BracketMatcher().scan(scan.text, start)
        if end <= start:
            raise scan.make_error("a whole value")
        scan.at = end
    else:
        scan.parse_value()
    return scan.text[start : scan.at]

"""The texts of the members of an object or list, as written."""

from __future__ import annotations

from typing import TypeAlias

from agentcall.jsontext.balance import CLOSERS, Balance
from agentcall.jsontext.lenient import Lenient, Malformed

Members: TypeAlias = "list[tuple[str, str]]"


def members(text: str) -> Members | None:
    """Keys and the texts of their values of an object written as JSON or nearly so.

    The texts are as written, so that what has to be mended in them can still be seen. None if the
    text is no object.
    """
    scan = Lenient(text)
    found: Members = []
    try:
        if not scan.eat("{"):
            return None
        while not scan.eat("}"):
            key = scan.key()
            if not scan.eat(":"):
                return None
            found.append((key, _value_text(scan)))
            if not scan.eat(",") and scan.peek() != "}":
                return None
    except Malformed:
        return None
    return found


def items(text: str) -> list[str] | None:
    """The texts of the items of a list written as JSON or nearly so; None if it is no list."""
    scan = Lenient(text)
    found: list[str] = []
    try:
        if not scan.eat("["):
            return None
        while not scan.eat("]"):
            found.append(_value_text(scan))
            if not scan.eat(",") and scan.peek() != "]":
                return None
    except Malformed:
        return None
    return found


def _value_text(scan: Lenient) -> str:
    char = scan.peek()
    start = scan.at
    if char in CLOSERS:
        end = Balance().run(scan.text, start)
        if end <= start:
            raise scan.fail("a whole value")
        scan.at = end
    else:
        scan.value()
    return scan.text[start : scan.at]

"""How deep and how many the values of a JSON text are, before anything reads it.

A reader of JSON is fast; what is done with a million values, or with ten thousand levels, is not.
Neither is made here: strings are cut out, and what is left is counted.
"""

from __future__ import annotations

_MARKS = b"[]{}"
_NOT_MARKS = bytes(code for code in range(256) if code not in _MARKS)


def excess(text: bytes, *, depth: int, values: int) -> str:
    """What is too much of the text, in words; nothing where all is well.

    A text that is not JSON may count as anything: whoever reads it says so.
    """
    if b"\0" in text:
        return "the body is not JSON in UTF-8: it has a byte 0"
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * values:
        return _many(values)
    plain = b"".join(plain.split(b'"')[::2])
    marks = plain.translate(None, _NOT_MARKS)
    if plain.count(b",") + len(marks) // 2 > values:
        return _many(values)
    return f"the body is more than {depth} levels deep" if _depth(marks) > depth else ""


def _depth(marks: bytes) -> int:
    level = deepest = 0
    for mark in marks:
        level += 1 if mark in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


def _many(values: int) -> str:
    return f"the body has more than {values:,} values"

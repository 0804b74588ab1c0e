"""How deep and how many the values of a JSON text are, counted while it arrives.

A reader of JSON is fast; what is done with a million values, or with ten thousand levels, is not.
Neither is made here: strings are cut out of each piece, and what is left is counted, so that a text
is refused at the piece that is too much.
"""

from __future__ import annotations

_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(code for code in range(256) if code not in _BRACKETS)


class JSONBounds:
    """Counts a text of which at most so many levels and values are taken."""

    def __init__(self, *, depth: int, values: int) -> None:
        self._depth = depth
        self._values = values
        self._level = self._deepest = 0
        self._quotes = self._commas = self._brackets = 0
        self._is_string = False
        self._escape = b""

    def find_excess(self, chunk: bytes) -> str:
        """What is too much with this piece, in words; nothing where all is well so far.

        A text that is not JSON may count as anything: whoever reads it says so.
        """
        if b"\0" in chunk:
            return "the body is not JSON in UTF-8: it has a byte 0"
        plain = (self._escape + chunk).replace(b"\\\\", b"").replace(b'\\"', b"")
        self._escape = b"\\" if plain.endswith(b"\\") else b""  # what it escapes is yet to come
        parts = plain.split(b'"')
        outside = b"".join(parts[self._is_string :: 2])
        self._is_string ^= len(parts) % 2 == 0
        marks = outside.translate(None, _NOT_BRACKETS)
        self._quotes += len(parts) - 1
        self._commas += outside.count(b",")
        self._brackets += len(marks)
        # a value ends at a comma or at the end of what it is in; two texts are a name and a value
        if self._commas + self._brackets // 2 > self._values or self._quotes > 4 * self._values:
            return f"the body has more than {self._values:,} values"
        self._count_levels(marks)
        return f"the body is more than {self._depth} levels deep" if self._is_deep else ""

    @property
    def _is_deep(self) -> bool:
        return self._deepest > self._depth

    def _count_levels(self, brackets: bytes) -> None:
        for mark in brackets:
            self._level += 1 if mark in b"[{" else -1
            self._deepest = max(self._deepest, self._level)

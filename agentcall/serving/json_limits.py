"""Limits on the depth and the number of values of a JSON text, checked while it arrives.

Parsing JSON is fast, but handling a million values or ten thousand levels is not. Nothing is parsed
here: strings are cut out of each chunk and the rest is counted, so that a text is refused at the
first chunk that exceeds a limit.
"""

from __future__ import annotations

_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(code for code in range(256) if code not in _BRACKETS)


class JSONLimits:
    """Counts the levels and values of one JSON text."""

    def __init__(self, *, depth: int, values: int) -> None:
        self._depth = depth
        self._values = values
        self._level = self._deepest = 0
        self._quotes = self._commas = self._brackets = 0
        self._is_string = False
        self._escape = b""

    def find_excess(self, chunk: bytes) -> str:
        """Return which limit the text exceeds with this chunk, or "".

        The count of a text that isn't JSON has no meaning; its parser will refuse it.
        """
        if b"\0" in chunk:
            return "the body is not JSON in UTF-8: it has a byte 0"
        plain = (self._escape + chunk).replace(b"\\\\", b"").replace(b'\\"', b"")
        self._escape = (
            b"\\" if plain.endswith(b"\\") else b""
        )  # the escaped byte is in the next chunk
        parts = plain.split(b'"')
        outside = b"".join(parts[self._is_string :: 2])
        self._is_string ^= len(parts) % 2 == 0
        brackets = outside.translate(None, _NOT_BRACKETS)
        self._quotes += len(parts) - 1
        self._commas += outside.count(b",")
        self._brackets += len(brackets)
        # A value ends at a comma or a closing bracket. Four quotes are a name and a string.
        if self._commas + self._brackets // 2 > self._values or self._quotes > 4 * self._values:
            return f"the body has more than {self._values:,} values"
        for bracket in brackets:
            self._level += 1 if bracket in b"[{" else -1
            self._deepest = max(self._deepest, self._level)
        is_too_deep = self._deepest > self._depth
        return f"the body is more than {self._depth} levels deep" if is_too_deep else ""

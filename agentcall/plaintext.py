"""Text that models and tools wrote, as it may be shown: no character in it moves another one."""

from __future__ import annotations

import json
import re

_ESCAPE_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])"
)
_CONTROL_CHARACTERS = {
    code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


def strip_control_characters(text: str) -> str:
    """The text without control characters but line ends and tabs: no tool moves the cursor."""
    return _ESCAPE_SEQUENCE.sub("", text).translate(_CONTROL_CHARACTERS)


def to_single_line(text: str, max_chars: int | None = None) -> str:
    """The text on one line, at most `most` characters of it."""
    line = " ".join(strip_control_characters(text).split())
    return line if max_chars is None or len(line) <= max_chars else line[: max_chars - 1] + "…"


def escape_invisible(text: str) -> str:
    """The text with an escape for each character that is not seen, or that moves others."""
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1] for character in text
    )

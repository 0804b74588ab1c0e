"""Text that models and tools wrote, as it may be shown: no character in it moves another one."""

from __future__ import annotations

import json
import re

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def harmless(text: str) -> str:
    """The text without control characters but line ends and tabs: no tool moves the cursor."""
    return _SEQUENCE.sub("", text).translate(_CONTROLS)


def line_of(text: str, most: int | None = None) -> str:
    """The text on one line, at most `most` characters of it."""
    line = " ".join(harmless(text).split())
    return line if most is None or len(line) <= most else line[: most - 1] + "…"


def visible(text: str) -> str:
    """The text with an escape for each character that is not seen, or that moves others."""
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1] for character in text
    )

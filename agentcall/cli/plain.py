"""Text for a terminal: without the control characters that a model or a tool may have put in it."""

from __future__ import annotations

import os
import re
from typing import Literal, TextIO

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_COLOURS = {"red": "31", "yellow": "33", "dim": "2"}


def harmless(text: str) -> str:
    """The text without control characters but line ends and tabs: no tool moves the cursor."""
    return _SEQUENCE.sub("", text).translate(_CONTROLS)


def line_of(text: str, most: int | None = None) -> str:
    """The text on one line, at most `most` characters of it."""
    line = " ".join(harmless(text).split())
    return line if most is None or len(line) <= most else line[: most - 1] + "…"


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches the stream on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def styled(text: str, style: Literal["red", "yellow", "dim"], stream: TextIO) -> str:
    """The text in a style where the stream shows it, else as it is."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m"

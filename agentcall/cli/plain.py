"""What a terminal shows, and in which style."""

from __future__ import annotations

import os
from typing import Literal, TextIO

_COLOURS = {"red": "31", "yellow": "33", "dim": "2"}


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches the stream on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def styled(text: str, style: Literal["red", "yellow", "dim"], stream: TextIO) -> str:
    """The text in a style where the stream shows it, else as it is."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m"

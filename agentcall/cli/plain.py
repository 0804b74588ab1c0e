"""What a terminal shows, and in which style."""

from __future__ import annotations

import os
import re
from typing import Literal, TextIO

_CONTROLS = re.compile(rb"\xc2[\x80-\x9f]|\x7f")
"""DEL, and the controls U+0080 to U+009F in UTF-8: JSON has them as they are."""
_COLOURS = {"red": "31", "yellow": "33", "dim": "2"}


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches the stream on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def escape_json(document: bytes) -> bytes:
    """JSON in which no character moves the cursor: those beyond ASCII are escaped as well."""
    return _CONTROLS.sub(lambda found: b"\\u00%02x" % found[0][-1], document)


def style_text(text: str, style: Literal["red", "yellow", "dim"], stream: TextIO) -> str:
    """The text in a style where the stream shows it, else as it is."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m"

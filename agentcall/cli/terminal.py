"""What commands write to standard output and standard error: text, styles, JSON and tables."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, cast

import orjson

from agentcall.display import to_single_line
from agentcall.messages import JSON, encode_json
from agentcall.storage.private_files import open_private

if TYPE_CHECKING:
    from rich.table import Column, Table

_CONTROLS = re.compile(rb"\xc2[\x80-\x9f]|\x7f")
"""DEL, and the controls U+0080 to U+009F in UTF-8, which JSON leaves unescaped."""
_COLOURS = {"red": "31", "yellow": "33", "dim": "2"}


def is_terminal(stream: TextIO) -> bool:
    """Return whether the stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def style_text(text: str, style: Literal["red", "yellow", "dim"], stream: TextIO) -> str:
    """Return the text in a style if the stream shows it, else unchanged."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m"


def write_text(text: str) -> None:
    """Write text to standard output as UTF-8, whatever its encoding is, and flush."""
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def write_json(value: object, *, indent: bool = False) -> None:
    """Write a line, or an indented block, of JSON in which no character moves the cursor."""
    document = (
        orjson.dumps(value, option=orjson.OPT_INDENT_2)
        if indent
        else encode_json(cast("JSON", value))
    )
    escaped = _CONTROLS.sub(lambda match: b"\\u00%02x" % match[0][-1], document)
    sys.stdout.buffer.write(escaped + b"\n")
    sys.stdout.buffer.flush()


def write_note(line: str, style: Literal["red", "yellow", "dim"] | None = None) -> None:
    """Write one line to standard error, without control characters."""
    text = to_single_line(line)
    sys.stderr.write((style_text(text, style, sys.stderr) if style else text) + "\n")
    sys.stderr.flush()


def write_file(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    descriptor = open_private(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - it is open already
        file.write(text.encode("utf-8", "replace"))


def make_table(*columns: Column | str, title: str | None = None) -> Table:
    """Return a table in the style that all commands share."""
    from rich import box
    from rich.table import Table

    return Table(
        *columns,
        box=box.SIMPLE_HEAD,
        header_style="dim",
        pad_edge=False,
        title=title,
        title_justify="left",
    )

"""How families of models are shown tools, and how their answers are read. Pure: no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the readers of all families: whoever offers tools alone needs none
    from agentcall.dialects.parsers.stream import (
        ParsedResponse,
        TextReader,
        create_text_reader,
        list_families,
        read_text,
    )


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'agentcall.dialects' has no attribute {name!r}")
    from agentcall.dialects.parsers import stream

    return getattr(stream, name)


__all__ = ["ParsedResponse", "TextReader", "create_text_reader", "list_families", "read_text"]

"""Dialects: how tools are offered to a model family, and how its calls are read. Pure, no I/O.

base.py has the protocol; native.py, internlm.py and constrained/ are the dialects. parsers/ reads
calls from the text of an answer, with one module per family; assembly.py assembles native calls
from the pieces of a stream; prompt_safety.py escapes special tokens and marks untrusted content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded on demand: offering tools alone needs no parser
    from agentcall.dialects.parsers.response_parser import (
        ParsedResponse,
        TextReader,
        create_text_reader,
        list_families,
        read_text,
    )


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'agentcall.dialects' has no attribute {name!r}")
    from agentcall.dialects.parsers import response_parser

    return getattr(response_parser, name)


__all__ = ["ParsedResponse", "TextReader", "create_text_reader", "list_families", "read_text"]

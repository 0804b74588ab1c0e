"""All families, in the order in which they are tried.

To add a family, write its module and add its `ToolParser` to `TOOL_PARSERS`.

The order matters only where families share a marker or a first character of a line. Their readers
are tried one after another, and the first one that recognizes its format reads it:
1. `<tool_call>`: Qwen Coder (`<function=` follows), Granite (a list), Hermes (JSON), GLM (a name
   and `<arg_key>`), DSML (`<invoke`), and last `UNREADABLE`, which accepts anything.
2. `<|tool_call|>`: Granite before Phi. `<function_call>`: Granite before DSML.
   `<function_calls>`: DSML before pythonic calls.
3. `[` at the start of a line: bare JSON before a pythonic list.
"""

from __future__ import annotations

from agentcall.dialects.parsers.bare_json import BARE_JSON
from agentcall.dialects.parsers.deepseek import DEEPSEEK, DSML
from agentcall.dialects.parsers.fenced import FENCED
from agentcall.dialects.parsers.gemma import GEMMA
from agentcall.dialects.parsers.glm import GLM
from agentcall.dialects.parsers.harmony import HARMONY
from agentcall.dialects.parsers.hermes import HERMES, read_unreadable
from agentcall.dialects.parsers.internlm import INTERNLM
from agentcall.dialects.parsers.kimi import KIMI, KIMI_K3
from agentcall.dialects.parsers.llama3 import LLAMA3
from agentcall.dialects.parsers.mistral import MISTRAL
from agentcall.dialects.parsers.pythonic import PYTHONIC
from agentcall.dialects.parsers.qwen_coder import QWEN_CODER
from agentcall.dialects.parsers.react import REACT
from agentcall.dialects.parsers.tagged_json import (
    COHERE,
    GLAIVE,
    GRANITE,
    JAMBA,
    PHI,
    PROMPTED,
)
from agentcall.dialects.parsers.thinking import THINKING
from agentcall.dialects.parsers.tool_parser import ToolParser
from agentcall.errors import UsageError

UNREADABLE = ToolParser("unreadable", markers={"<tool_call>": read_unreadable})
"""The fallback for text between `<tool_call>` tags; not a family of its own."""

TOOL_PARSERS = (
    THINKING,
    INTERNLM,
    QWEN_CODER,
    GRANITE,
    HERMES,
    GLM,
    LLAMA3,
    MISTRAL,
    DEEPSEEK,
    DSML,
    KIMI,
    KIMI_K3,
    HARMONY,
    GEMMA,
    PHI,
    COHERE,
    JAMBA,
    GLAIVE,
    PROMPTED,
    FENCED,
    BARE_JSON,
    PYTHONIC,
    REACT,
    UNREADABLE,
)


def list_families() -> tuple[str, ...]:
    """Return the names of the families, for the `family` argument of the readers."""
    return tuple(parser.name for parser in TOOL_PARSERS if parser is not UNREADABLE)


def get_parsers(name: str) -> tuple[ToolParser, ...]:
    """Return the parser of one family and the parsers that every family needs.

    Raises UsageError for an unknown family.
    """
    for parser in TOOL_PARSERS:
        if parser.name == name:
            return (THINKING, parser, UNREADABLE)
    known = ", ".join(list_families())
    raise UsageError(f"unknown model family {name!r}; use one of {known}")

"""All families, in the order in which they are tried where they share a marker."""

from __future__ import annotations

from agentcall.dialects.parsers.bare_json import BARE_JSON
from agentcall.dialects.parsers.base import ToolParser
from agentcall.dialects.parsers.cohere import COHERE
from agentcall.dialects.parsers.deepseek import DEEPSEEK, DSML
from agentcall.dialects.parsers.fenced import FENCED
from agentcall.dialects.parsers.gemma import GEMMA
from agentcall.dialects.parsers.glm import GLM
from agentcall.dialects.parsers.granite import GRANITE
from agentcall.dialects.parsers.harmony import HARMONY
from agentcall.dialects.parsers.hermes import HERMES, read_unreadable
from agentcall.dialects.parsers.internlm import INTERNLM
from agentcall.dialects.parsers.jamba import JAMBA
from agentcall.dialects.parsers.kimi import KIMI, KIMI_K3
from agentcall.dialects.parsers.llama3 import LLAMA3
from agentcall.dialects.parsers.mistral import MISTRAL
from agentcall.dialects.parsers.phi import PHI
from agentcall.dialects.parsers.pythonic import PYTHONIC
from agentcall.dialects.parsers.qwen_coder import QWEN_CODER
from agentcall.dialects.parsers.react import REACT
from agentcall.dialects.parsers.thinking import THINKING
from agentcall.errors import UsageError

UNREADABLE = ToolParser("unreadable", markers={"<tool_call>": read_unreadable})
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
    FENCED,
    BARE_JSON,
    PYTHONIC,
    REACT,
    UNREADABLE,
)


def list_parser_names() -> tuple[str, ...]:
    """The names that can be asked for."""
    return tuple(family.name for family in TOOL_PARSERS if family is not UNREADABLE)


def get_parsers(name: str) -> tuple[ToolParser, ...]:
    """The family of this name, and thinking. Raises UsageError for an unknown one."""
    for family in TOOL_PARSERS:
        if family.name == name:
            return (THINKING, family, UNREADABLE)
    known = ", ".join(list_parser_names())
    raise UsageError(f"there is no family {name!r} to read text of; use one of {known}")

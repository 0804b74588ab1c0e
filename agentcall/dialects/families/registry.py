"""All families, in the order in which they are tried where they share a marker."""

from __future__ import annotations

from agentcall.dialects.families.bare_json import BARE_JSON
from agentcall.dialects.families.cohere import COHERE
from agentcall.dialects.families.deepseek import DEEPSEEK
from agentcall.dialects.families.dsml import DSML
from agentcall.dialects.families.fenced import FENCED
from agentcall.dialects.families.gemma import GEMMA
from agentcall.dialects.families.glm import GLM
from agentcall.dialects.families.granite import GRANITE
from agentcall.dialects.families.harmony import HARMONY
from agentcall.dialects.families.hermes import HERMES, read_unreadable
from agentcall.dialects.families.internlm import INTERNLM
from agentcall.dialects.families.jamba import JAMBA
from agentcall.dialects.families.kimi import KIMI
from agentcall.dialects.families.kimi_k3 import KIMI_K3
from agentcall.dialects.families.llama3 import LLAMA3
from agentcall.dialects.families.mistral import MISTRAL
from agentcall.dialects.families.phi import PHI
from agentcall.dialects.families.pythonic import PYTHONIC
from agentcall.dialects.families.qwen_coder import QWEN_CODER
from agentcall.dialects.families.react import REACT
from agentcall.dialects.families.thinking import THINKING
from agentcall.dialects.page import ToolParser
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

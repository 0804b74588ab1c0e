"""All families, in the order in which they are tried where they share a marker."""

from __future__ import annotations

from agentcall.dialects.families.bare_json import BARE_JSON
from agentcall.dialects.families.fenced import FENCED
from agentcall.dialects.families.hermes import HERMES, unreadable
from agentcall.dialects.families.internlm import INTERNLM
from agentcall.dialects.families.pythonic import PYTHONIC
from agentcall.dialects.families.thinking import THINKING
from agentcall.dialects.page import Family
from agentcall.errors import UsageError

UNREADABLE = Family("unreadable", markers={"<tool_call>": unreadable})
FAMILIES = (THINKING, INTERNLM, HERMES, FENCED, BARE_JSON, PYTHONIC, UNREADABLE)


def with_name(name: str) -> tuple[Family, ...]:
    """The family of this name, and thinking. Raises UsageError for an unknown one."""
    for family in FAMILIES:
        if family.name == name:
            return (THINKING, family, UNREADABLE)
    known = ", ".join(family.name for family in FAMILIES)
    raise UsageError(f"there is no family {name!r} to read text of; use one of {known}")

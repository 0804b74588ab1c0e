"""Repairs a tool call: what a model wrote becomes a valid call of a real tool, or words for it.

The first rule: nothing is lost. The repaired value accounts for every character that the model
wrote, white space, quotes, commas, brackets, comments and fences aside, or the call is refused with
a message that shows what could not be read. Expressions such as `3+5` are not computed. The one
exception is a whole argument that the tool does not have (`dropped-unknown` in `mend`), and its
`Fix` says so.

Rules:
1. What is valid as written stays as it is, to the letter; that costs one parse and nothing else.
2. The tool's own schema leads and its validator judges: the cheapest step is tried first, and a
   step that did not lead to valid arguments leaves no trace.
3. Every step that changed something is a `Fix`.
4. No value is made up, no cut text is finished (`reading` says which brackets may be closed), no
   call becomes one of another real tool (`names`). What is not plain goes back to the model.
5. It never raises, and its time is bounded: what is too big or too deep to mend is refused.
The steps of the `search`: the name (`names`), the text (`reading`), what is wrapped around the
arguments (`shape`), and the values themselves (`mend`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from agentcall.dialects.base import ToolCallPart
from agentcall.errors import ArgumentsError
from agentcall.repair.types import Fix, RefusedCall, RepairedCall
from agentcall.tools.tool import Tool

__all__ = ["Fix", "RefusedCall", "RepairedCall", "repair_call"]


def repair_call(called: ToolCallPart, tools: Mapping[str, Tool]) -> RepairedCall | RefusedCall:
    """The valid call that a model meant, or what to tell the model; never raises.

    tools: the offered tools by name, in the order in which they are told to the model.
    """
    tool, arguments = tools.get(called.name), called.arguments
    if tool is not None and arguments.strip() not in ("", "null"):
        with suppress(ArgumentsError):
            return RepairedCall(tool, arguments, tool.parse(arguments))
    from agentcall.repair.pipeline import (
        find_valid_call,  # most calls are valid and need none of it
    )

    return find_valid_call(called, tools)

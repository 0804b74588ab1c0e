"""Repairs tool calls: what a model wrote becomes a valid call of a real tool, or an error message.

The first rule: nothing is lost. The repaired value accounts for every character that the model
wrote, except white space, quotes, commas, brackets, comments and fences. Otherwise the call is
refused with a message that shows what could not be read. Expressions such as `3+5` are not
computed. There are two exceptions, which their `Fix` reports: a whole argument that the tool does
not have (`dropped-unknown` in arguments.py), and a sentence beside whole arguments that can hold
no value (`surplus-text` in arguments_json.py).

Rules:
1. Valid arguments stay exactly as written; that takes one parse and nothing else. Exception: a
   Windows path in which `\\n` and `\\t` begin names, not lines and columns (windows_path.py).
2. The tool's schema guides and its validator decides: the cheapest step is tried first, and a step
   that does not lead to valid arguments leaves no trace.
3. Every step that changes something is a `Fix`.
4. No value is invented, no cut text is completed (arguments_json.py has the brackets that may be
   closed), and no call becomes one of another real tool (tool_name.py). Whatever is ambiguous is
   returned to the model.
5. Repair never raises, and its time is bounded: input that is too large or too deep is refused.

The steps of pipeline.py: the name (tool_name.py), the JSON text (arguments_json.py), wrappers
around the arguments and the values themselves (arguments.py). error_messages.py has every sentence
for the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agentcall.dialects.answer_parts import ToolCallPart
from agentcall.errors import ArgumentsError
from agentcall.repair.fixes import Fix, RefusedCall, RepairedCall
from agentcall.tools.tool import Tool

__all__ = ["Fix", "RefusedCall", "RepairedCall", "repair_call"]


_ESCAPED_PATH = re.compile(r'"(?:[A-Za-z]:|\\\\[\w.$-]{1,64})\\[bfnrt]')
"""A text that may be a Windows path with backslashes that were not escaped."""


def repair_call(call: ToolCallPart, tools: Mapping[str, Tool]) -> RepairedCall | RefusedCall:
    """Return the valid call that a model meant, or an error message for it; never raises.

    tools: the offered tools by name, in the order in which the model sees them.
    """
    tool, arguments = tools.get(call.name), call.arguments
    is_plain = arguments.strip() not in ("", "null") and not _ESCAPED_PATH.search(arguments)
    if tool is not None and is_plain:
        try:
            return RepairedCall(tool, arguments, tool.parse(arguments))
        except ArgumentsError:
            pass
    # On demand: most calls are valid and never import the pipeline.
    from agentcall.repair.pipeline import find_valid_call

    return find_valid_call(call, tools)

"""The results of a repair: a call to execute with its fixes, or an error message for the model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, TypeAlias

from agentcall.messages import JSON
from agentcall.tools.tool import Tool

_MAX_TEXT_LENGTH = 2_000
_MAX_RUN_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Fix:
    """One change: its rule, what the model wrote, and what it became.

    Below the top level, `before` and `after` begin with the path: `numbers = "[2, 3]"`. `after` is
    empty if something was dropped. Texts of over 2,000 characters are cut in the middle.
    """

    rule: str
    before: str
    after: str


Fixes: TypeAlias = "tuple[Fix, ...]"


class RepairedCall(NamedTuple):
    """A valid call: `arguments` is its JSON text, `values` are the parsed arguments."""

    tool: Tool
    arguments: str
    values: dict[str, object]
    fixes: Fixes = ()


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """A call that is not executed, and the error message for the model."""

    message: str


def make_fix(rule: str, before: str, after: str) -> Fix:
    """Create a fix with its texts shortened."""
    return Fix(rule, shorten(before), shorten(after))


def make_drop_fix(rule: str, path: str, before: JSON) -> Fix:
    """Create a fix that dropped the value at a path in the arguments."""
    return make_fix(rule, f"{path} = {dump_json(before)}", "")


def make_value_fix(rule: str, path: str, before: JSON, after: JSON) -> Fix:
    """Create a fix that changed the value at a path in the arguments."""
    name = f"{path} = " if path else ""
    return make_fix(rule, name + dump_json(before), name + dump_json(after))


def dump_json(value: JSON) -> str:
    """Return a value as JSON text, with characters beyond ASCII unescaped.

    Raises ValueError for a value that JSON cannot represent, RecursionError for too deep a one.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text.encode()  # raises ValueError for a lone surrogate, which no server accepts
    return text


def shorten(text: str, max_length: int = _MAX_TEXT_LENGTH) -> str:
    """Return the text, or its two ends with the number of characters left out between them.

    A lone surrogate, which a model can write but nobody can send, becomes a question mark.
    """
    text = text.encode(errors="replace").decode()
    if len(text) <= max_length:
        return text
    half = max_length // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


def summarize_fixes(fixes: Iterable[Fix]) -> Fixes:
    """Return the fixes; a long run of one rule is its first fix and a count."""
    summary: list[Fix] = []
    for rule, group in groupby(fixes, key=lambda fix: fix.rule):
        run = list(group)
        if len(run) > _MAX_RUN_LENGTH:
            suffix = f" (and {len(run) - 1} more)"
            run = [Fix(rule, run[0].before + suffix, run[0].after + suffix)]
        summary += run
    return tuple(summary)

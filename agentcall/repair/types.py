"""What a repair gives: the call that runs and what was mended in it, or words for the model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from agentcall.messages import JSON
from agentcall.tools.tool import Tool

_MAX_TEXT_LENGTH = 2_000
_MAX_RUN_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Fix:
    """One thing that was mended: by which rule, what the model wrote, what it became.

    Below the top `before` and `after` begin with the place: `numbers = "[2, 3]"`. What was left
    out has an empty `after`. Texts of over 2,000 characters are cut in the middle.
    """

    rule: str
    before: str
    after: str


Fixes: TypeAlias = "tuple[Fix, ...]"


@dataclass(frozen=True, slots=True)
class RepairedCall:
    """A valid call: `arguments` is the JSON text that runs, `values` what it parses to."""

    tool: Tool
    arguments: str
    values: dict[str, object]
    fixes: Fixes = ()


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """A call that is not carried out, and the words that tell the model why."""

    message: str


def make_fix(rule: str, before: str, after: str) -> Fix:
    """A fix, its texts cut to what a screen can bear."""
    return Fix(rule, shorten(before), shorten(after))


def make_drop_fix(rule: str, path: str, before: JSON) -> Fix:
    """A fix that leaves out what stood at a place within the arguments."""
    return make_fix(rule, f"{path} = {dump_json(before)}", "")


def make_value_fix(rule: str, path: str, before: JSON, after: JSON) -> Fix:
    """A fix of a value at a place within the arguments."""
    name = f"{path} = " if path else ""
    return make_fix(rule, name + dump_json(before), name + dump_json(after))


def dump_json(value: JSON) -> str:
    """A value as the JSON text that runs: characters beyond ASCII as they are.

    Raises ValueError for what JSON has no word for, RecursionError for what is too deep.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text.encode()  # half a surrogate pair is no text that a server takes
    return text


def shorten(text: str, max_length: int = _MAX_TEXT_LENGTH) -> str:
    """The text, or its two ends with a count of what is left out between them.

    Half a surrogate pair, which a model can write but nobody can send, becomes a question mark.
    """
    text = text.encode(errors="replace").decode()
    if len(text) <= max_length:
        return text
    half = max_length // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


def summarize_fixes(fixes: Iterable[Fix]) -> Fixes:
    """The fixes, a long run by one rule told as its first one and a count."""
    told: list[Fix] = []
    for rule, group in groupby(fixes, key=lambda each: each.rule):
        run = list(group)
        if len(run) > _MAX_RUN_LENGTH:
            more = f" (and {len(run) - 1} more)"
            run = [Fix(rule, run[0].before + more, run[0].after + more)]
        told += run
    return tuple(told)

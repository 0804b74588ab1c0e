"""Reads one turn of the constrained dialect: its object, or text where a server held it to none.

The text of a plain answer is passed on as it grows, each character once; whatever else there is
comes at the end. Time is linear in the answer's length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

from agentcall.dialects.families.thinking import ENDS
from agentcall.dialects.native import NativeReader
from agentcall.dialects.parts import Broken, Called, Delta, Part, Said, Thought
from agentcall.dialects.plan import read_plan
from agentcall.dialects.protocol import Offer
from agentcall.jsontext import STRICT
from agentcall.messages import JSON, json_text
from agentcall.tool import Tool

_FENCE = re.compile(r"\s*```(?:json)?[ \t]*\n\s*(?=\{)")
_ANSWER = re.compile(r'\s*\{\s*"answer"\s*:\s*"')
_HEAD = '{"answer":"'
_UNDECIDED = 200
"""How much text may come before it is clear what it is (characters)."""
_OLD_FINAL = "final_answer"


class TurnReader:
    """Reads one turn, piece by piece."""

    def __init__(self, offer: Offer) -> None:
        self._tools = {tool.name: tool for tool in offer.tools}
        self._typed = offer.answer is not None
        self._head = ""
        self._pieces: list[str] | None = None
        self._answer: StringReader | None = None
        self._other: NativeReader | None = None

    def feed(self, delta: Delta) -> Sequence[Part]:
        """Thinking, and what has come of a plain answer's text."""
        if self._other is not None:
            return self._other.feed(delta)
        if delta.calls:
            return self._as_text(delta)
        parts: list[Part] = [Thought(delta.thinking)] if delta.thinking else []
        return [*parts, *self._fed(delta.text)] if delta.text else parts

    def close(self, finish: str | None) -> Sequence[Part]:
        """The call, the plan's first calls, or the rest of the answer."""
        if self._other is not None:
            return self._other.close(finish)
        if self._answer is not None:
            return []
        text = self._head if self._pieces is None else "".join(self._pieces)
        return self._closed(text, finish) if text.strip() else []

    def _fed(self, text: str) -> Sequence[Part]:
        if self._answer is not None:
            return _said(self._answer.feed(text))
        if self._pieces is not None:
            self._pieces.append(text)
            return []
        self._head += text
        return self._decided()

    def _decided(self) -> Sequence[Part]:
        """What the beginning shows: an answer, another object, text, or nothing yet."""
        body = _FENCE.sub("", self._head, count=1)
        start = None if self._typed else _ANSWER.match(body)
        if start is not None:
            self._answer = StringReader()
            return _said(self._answer.feed(body[start.end() :]))
        compact = "".join(body.split())
        if _HEAD.startswith(compact) or (_could_be_fence(body) and len(body) < _UNDECIDED):
            return []
        if compact.startswith("{"):
            self._pieces = [body]
            return []
        return self._as_text(Delta())

    def _as_text(self, delta: Delta) -> Sequence[Part]:
        """Reads what has come and what will come as any model's text."""
        self._other = NativeReader(tuple(self._tools.values()))
        head = self._head if self._pieces is None else "".join(self._pieces)
        return self._other.feed(delta._replace(text=head + delta.text))

    def _closed(self, text: str, finish: str | None) -> Sequence[Part]:
        turns = _objects(text)
        if turns:
            parts = self._read(turns, text)
            if parts is not None:
                return parts
        elif finish in (None, "length"):
            return [Broken(text, "it was cut off")]
        self._pieces = None
        self._head = text
        parts = [*self._as_text(Delta()), *(self._other.close(finish) if self._other else ())]
        meant = re.match(r'\s*\{\s*"(plan|name|answer)"', text)
        if meant and not turns and all(isinstance(part, Said) for part in parts):
            return [Broken(text, "it is not one JSON object")]
        return parts

    def _read(self, turns: Sequence[Mapping[str, JSON]], text: str) -> Sequence[Part] | None:
        """What the objects say; None if the first of them is no turn."""
        match turns[0]:
            case {"plan": str(plan)}:
                return self._planned(plan, text)
            case {"answer": answer}:
                return [Said(self._answered(answer))]
            case {"name": "final_answer", "arguments": {"answer": answer}} if (
                _OLD_FINAL not in self._tools
            ):
                return [Said(self._answered(answer))]
            case _:
                calls = [_called(turn) for turn in turns]
                end = calls.index(None) if None in calls else len(calls)
                return [call for call in calls[:end] if call is not None] or None

    def _answered(self, answer: JSON) -> str:
        plain = isinstance(answer, str) and not self._typed
        return _whole(str(answer)) if plain else json_text(answer)

    def _planned(self, written: str, text: str) -> Sequence[Part]:
        """The calls of a plan that need no other's result."""
        plan = read_plan(written)
        if plan is None:
            return [Broken(text, "the plan is not made of calls with plain values")]
        unknown = next((name for name in plan.names if name not in self._tools), None)
        if unknown is not None:
            return [Broken(text, f"the plan calls {unknown}, which is no tool")]
        calls: list[Part] = []
        for step in plan.ready():
            takes = _parameters(self._tools[step.name])
            if len(step.values) > len(takes):  # a value that is left out would be another call
                return [Broken(text, f"{step} has too many values; it takes {', '.join(takes)}")]
            arguments = step.arguments(takes)
            if len(arguments) < len(step.values):
                return [Broken(text, f"{step} gives a parameter two values")]
            calls.append(Called(step.name, json_text(arguments)))
        return [Thought(written), *calls]


_HIGH = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
_CERTAIN = re.compile(
    rf'(?:[^"\\]|\\[^u]|(?!{_HIGH})\\u[0-9a-fA-F]{{4}}'
    rf"|{_HIGH}(?:\\u[dD][c-fC-F][0-9a-fA-F]{{2}}|(?=[^\\]|\\[^u]|\\u[0-9a-fA-F]{{4}})))*"
)
"""Inside of a JSON string: characters and whole escapes, no first half of a pair at its end."""
_LONGEST = 12
"""The length of the longest escape, that of a pair."""


class StringReader:
    """Decodes the inside of a JSON string as it grows; what follows its end is ignored."""

    def __init__(self) -> None:
        self._held = ""
        self._ended = False

    def feed(self, text: str) -> str:
        """The characters that are certain once this piece is known."""
        if self._ended:
            return ""
        source, at, out = self._held + text, 0, list[str]()
        while at < len(source):
            end = cast("re.Match[str]", _CERTAIN.match(source, at)).end()
            out.append(_decoded(source[at:end]))
            self._ended = source.startswith('"', end)
            if self._ended or len(source) - end < _LONGEST:
                at = end
                break
            at = end + 2  # no escape, and nothing that can come makes it one
        self._held = source[at:]
        return "".join(out)


def _decoded(inside: str) -> str:
    """What the inside of a JSON string says; a backslash that escapes nothing is dropped."""
    if "\\" not in inside:
        return inside
    try:
        text = cast("str", json.loads(f'"{inside}"', strict=False))
    except ValueError:
        known = re.sub(r"\\([^\"\\/bfnrtu])|(\\.)", r"\1\2", inside, flags=re.DOTALL)
        text = cast("str", json.loads(f'"{known}"', strict=False))
    return _whole(text) if "\\u" in inside else text


def _whole(text: str) -> str:
    """The text without halves of characters, which nothing could send on."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _could_be_fence(body: str) -> bool:
    start = body.lstrip()
    return "```json".startswith(start.rstrip()) or re.fullmatch(r"```(json)?\s*", start) is not None


def _objects(text: str) -> list[Mapping[str, JSON]]:
    """The JSON objects that a text begins with; none if thinking ends behind them."""
    found, at = list[Mapping[str, JSON]](), 0
    body = text.strip()
    while body.startswith("{", at):
        try:
            value, at = cast("tuple[Mapping[str, JSON], int]", STRICT.raw_decode(body, at))
        except (ValueError, RecursionError):
            break
        found.append(value)
        while at < len(body) and body[at] in " \t\r\n,":
            at += 1
    return [] if any(end in body[at:] for end in ENDS) else found


def _called(turn: Mapping[str, JSON]) -> Called | None:
    match turn:
        case {"name": str(name), "arguments": arguments}:
            return Called(name, json_text(arguments))
        case _:
            return None


def _parameters(tool: Tool) -> list[str]:
    fields = tool.parameters.get("properties")
    return list(fields) if isinstance(fields, Mapping) else []


def _said(text: str) -> list[Part]:
    return [Said(text)] if text else []

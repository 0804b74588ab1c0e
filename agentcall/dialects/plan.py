"""A plan: the calls that a task needs, as Python writes them.

    a = mul(3, price('tea')); b = mul(2, price('cake')); answer = add(a, b)

A small model that decides call by call stops a step early; the whole task as calls, nested or
named, it writes down rightly far more often. The program only substitutes: each result stands
where its call stood, and what is then the next call is told. Nothing is ever evaluated.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agentcall.messages import JSON, json_text

LONGEST = 2000
"""Longer plans are not read (characters)."""
SHOWN = 200
"""How much of a value is shown in a call (characters)."""
DEPTH = 3
"""How deep calls may be nested where a server holds the model to the pattern."""
PARTS = 6
"""How many calls may be named there, before the answer."""


@dataclass(frozen=True, slots=True)
class Step:
    """A call of a plan: its values, those by position first, then those by name."""

    name: str
    values: tuple[JSON, ...]
    keys: tuple[str, ...] = ()

    def arguments(self, parameters: Sequence[str]) -> dict[str, JSON]:
        """The values by parameter name; `parameters` are the tool's, in order."""
        count = len(self.values) - len(self.keys)
        return dict(zip((*parameters[:count], *self.keys), self.values, strict=False))

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(_shown, self.values))})"


@dataclass(frozen=True, slots=True)
class Done:
    """A call that was made, and what it gave; what needs a call that `failed` is never ready."""

    step: Step
    result: JSON
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """The calls of a plan that may be made now, and whether the plan was left for other calls."""

    ready: list[Step]
    strays: bool


_Known: TypeAlias = "tuple[JSON]"
_Part: TypeAlias = "_Known | int"
"""A value, or the place of the call in the plan that gives it."""


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    parts: tuple[_Part, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls of a task, each behind those that it needs."""

    calls: tuple[_Call, ...]

    @property
    def names(self) -> list[str]:
        """The names of all calls."""
        return [call.name for call in self.calls]

    def ready(self, done: Iterable[Done] = ()) -> list[Step]:
        """The calls that may be made now, each once; none when all are done."""
        return self.left(done).ready

    def left(self, done: Iterable[Done]) -> Left:
        """What is left of the plan."""
        rest = _Rest(list(done))
        for call in self.calls:
            rest.add(call)
        return Left(rest.ready, rest.strays)


def read_plan(text: str) -> Plan | None:
    """The plan that a text says; None if it is not made of calls with plain values."""
    if len(text) > LONGEST or "\\" in text:
        return None
    try:
        body = ast.parse(text.strip().rstrip(";"), mode="exec").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    calls = _Calls()
    whole = all(calls.add(name, tree) for statement in body for name, tree in _tops(statement))
    return Plan(tuple(calls.found)) if whole and calls.found else None


def _tops(statement: ast.stmt) -> list[tuple[str, ast.expr | None]]:
    """The values of a statement, with the name that each is given."""
    match statement:
        case ast.Expr(value=ast.Tuple(elts) | ast.List(elts)):
            return [("", value) for value in elts]
        case ast.Assign(value=ast.Tuple(elts) | ast.List(elts)):
            return [("", value) for value in elts]
        case ast.Expr(value):
            return [("", value)]
        case ast.Assign([ast.Name(name)], value):
            return [(name, value)]
        case _:
            return [("", None)]


class _Calls:
    """Gathers calls out of expressions, in the order in which Python would make them."""

    def __init__(self) -> None:
        self.found: list[_Call] = []
        self._names: dict[str, int] = {}

    def add(self, name: str, tree: ast.expr | None) -> bool:
        """Takes the calls of an expression; whether it is a call, or the name of one."""
        part = self._part(tree) if tree is not None else None
        if not isinstance(part, int):
            return False
        self._names[name] = part
        return True

    def _part(self, tree: ast.expr) -> _Part | None:
        match tree:
            case ast.Name(name):
                return self._names.get(name)
            case ast.Call(ast.Name(name), args, keywords):
                keys = tuple(keyword.arg or "" for keyword in keywords)
                found = [self._part(part) for part in (*args, *(word.value for word in keywords))]
                parts = tuple(part for part in found if part is not None)
                if not all(keys) or len(parts) < len(found):
                    return None
                self.found.append(_Call(name, parts, keys))
                return len(self.found) - 1
            case _:
                return _literal(tree)


def _literal(tree: ast.expr) -> _Known | None:
    try:
        value = ast.literal_eval(tree)
        return (json.loads(json.dumps(value, allow_nan=False)),)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None


class _Rest:
    """What is left of a plan: substitutes what is done, and gathers what is ready."""

    def __init__(self, done: list[Done]) -> None:
        self._done = done
        self._known: list[Done] = []
        self._values: list[_Known | None] = []
        self.ready: list[Step] = []

    @property
    def strays(self) -> bool:
        """Whether a call was made that the plan does not have."""
        return any(not done.failed for done in self._done)

    def add(self, call: _Call) -> None:
        """Takes the next call of the plan."""
        self._values.append(self._result(call))

    def _result(self, call: _Call) -> _Known | None:
        """What a call gave, None if it has still to be made."""
        found = [self._values[part] if isinstance(part, int) else part for part in call.parts]
        values = [value for value in found if value is not None]
        if len(values) < len(found):
            return None
        step = Step(call.name, tuple(value for (value,) in values), call.keys)
        fed = [v for (v,), p in zip(values, call.parts, strict=True) if isinstance(p, int)]
        taken = self._taken(step, loose=any(not isinstance(v, (int, float)) for v in fed))
        if taken is not None:
            return None if taken.failed else (_content(taken.result),)
        if not any(_same(step, other) for other in self.ready):
            self.ready.append(step)
        return None

    def _taken(self, step: Step, *, loose: bool) -> Done | None:
        """The call that this step is; a `loose` one may have taken a part of what it is fed."""
        for done in (*self._known, *self._done):
            if _same(done.step, step):
                return self._used(done, done)
        by_name = (done for done in self._done if loose and done.step.name == step.name)
        found = next(by_name, None)
        return (
            self._used(Done(step, found.result, found.failed), found) if found is not None else None
        )

    def _used(self, known: Done, taken: Done) -> Done:
        self._known.append(known)
        self._done = [done for done in self._done if done is not taken]
        return known


def _content(result: JSON) -> JSON:
    """What the next call needs of a result: of an object with one member, that one."""
    if isinstance(result, Mapping) and len(result) == 1:
        return next(iter(result.values()))
    return result


def _same(one: Step, other: Step) -> bool:
    """Whether two calls are alike; a text that is a number is that number."""
    return one.name == other.name and _plain(one.values) == _plain(other.values)


def _plain(values: Iterable[JSON]) -> list[str]:
    return [_plain_value(value) for value in values]


def _plain_value(value: JSON) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return json_text(value)
    try:
        return str(float(value))
    except (ValueError, OverflowError):
        return str(value).strip().casefold()


def _shown(value: JSON) -> str:
    text = json_text(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def pattern(names: Sequence[str]) -> str:
    """The regular expression of plans over tools of these names, for a JSON Schema.

    Texts in it hold no double quote and no backslash: servers match before JSON's escapes.
    """
    name = "|".join(map(re.escape, names))
    literal = r"'[^'\"\\\n\r\t]*'|-?[0-9]+(\.[0-9]+)?|True|False|None|[a-z]"
    argument, call = literal, ""
    for _ in range(DEPTH):
        call = rf"({name})\((({argument})(, ({argument}))*)?\)"
        argument = f"{literal}|{call}"
    last = f"({call}|[a-z](, [a-z]){{0,{PARTS}}})"
    return f"^([a-z] = {call}; ){{0,{PARTS}}}answer = {last}$"

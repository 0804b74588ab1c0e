"""A plan: the calls that a task needs, nested in each other as Python writes them.

    add(mul(3, price('tea')), price('cake'))

A small model that decides call by call stops a step early; the whole task as nested calls it
writes down rightly far more often. The program only substitutes: each result stands where its call
stood, and what is then the next call is told. Nothing is ever evaluated, and calls that are not in
the plan are as good as those that are.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agentcall.messages import JSON

LONGEST = 2000
"""Longer plans are not read (characters)."""
SHOWN = 200
"""How much of a value is shown in a call (characters)."""
DEPTH = 3
"""How deep calls may be nested where the server holds the model to a pattern."""
PARTS = 6
"""How many calls may stand side by side there."""


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
    """A call that was carried out, and what it gave."""

    step: Step
    result: JSON


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    parts: tuple[_Node, ...]
    keys: tuple[str, ...]


_Known = tuple[JSON]
_Node: TypeAlias = "_Call | _Known"


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls of a task."""

    calls: tuple[_Call, ...]

    @property
    def names(self) -> list[str]:
        """The names of all calls, those inside of others too."""
        return [name for call in self.calls for name in _names(call)]

    def ready(self, done: Iterable[Done] = ()) -> list[Step]:
        """The calls that may be made now, each once; none when all are done."""
        rest = _Rest(list(done))
        for call in self.calls:
            rest.reduced(call)
        return rest.ready


def read_plan(text: str) -> Plan | None:
    """The plan that a text says; None if it is not made of calls with plain values."""
    if len(text) > LONGEST or "\\" in text:
        return None
    try:
        body = ast.parse(text.strip().rstrip(";"), mode="exec").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names: dict[str, _Node] = {}
    calls = [_node(top, names) for statement in body for top in _tops(statement)]
    found = tuple(call for call in calls if isinstance(call, _Call))
    return Plan(found) if found and len(found) == len(calls) else None


_Top: TypeAlias = "tuple[str, ast.expr | None]"


def _tops(statement: ast.stmt) -> list[_Top]:
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


def _node(top: _Top, names: dict[str, _Node]) -> _Node | None:
    name, tree = top
    node = _value(tree, names) if tree is not None else None
    if name and node is not None:
        names[name] = node
    return node


def _value(tree: ast.expr, names: Mapping[str, _Node]) -> _Node | None:
    match tree:
        case ast.Name(name):
            return names.get(name)
        case ast.Call(ast.Name(name), args, keywords):
            keys = tuple(keyword.arg or "" for keyword in keywords)
            parts = [_value(part, names) for part in (*args, *(word.value for word in keywords))]
            whole = tuple(part for part in parts if part is not None)
            return _Call(name, whole, keys) if all(keys) and len(whole) == len(parts) else None
        case _:
            return _literal(tree)


def _literal(tree: ast.expr) -> _Known | None:
    try:
        value = ast.literal_eval(tree)
        return (json.loads(json.dumps(value, allow_nan=False)),)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None


def _names(call: _Call) -> list[str]:
    inner = (part for part in call.parts if isinstance(part, _Call))
    return [*(name for part in inner for name in _names(part)), call.name]


class _Rest:
    """What is left of a plan: substitutes what is done, and gathers what is ready."""

    def __init__(self, done: list[Done]) -> None:
        self._done = done
        self._known: list[Done] = []
        self.ready: list[Step] = []

    def reduced(self, node: _Node) -> _Known | None:
        """The value of a node, None if a call in it has still to be made."""
        if not isinstance(node, _Call):
            return node
        values = [self.reduced(part) for part in node.parts]
        if None in values:
            return None
        step = Step(node.name, tuple(v[0] for v in values if v is not None), node.keys)
        fed = [v for v, part in zip(values, node.parts, strict=True) if isinstance(part, _Call)]
        found = self._taken(step, any(not isinstance(v[0], (int, float)) for v in fed if v))
        if found is not None:
            return (_content(found.result),)
        if not any(_same(step, other) for other in self.ready):
            self.ready.append(step)
        return None

    def _taken(self, step: Step, loose: bool) -> Done | None:
        """The call that this step is; a `loose` one may have taken a part of what it is fed."""
        for done in (*self._known, *self._done):
            if _same(done.step, step):
                return self._used(done)
        by_name = (done for done in self._done if loose and done.step.name == step.name)
        found = next(by_name, None)
        return self._used(Done(step, found.result), found) if found is not None else None

    def _used(self, known: Done, taken: Done | None = None) -> Done:
        self._known.append(known)
        self._done = [done for done in self._done if done is not (taken or known)]
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
        return _written(value)
    try:
        return str(float(value))
    except (ValueError, OverflowError):
        return str(value).strip().casefold()


def _written(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False)


def _shown(value: JSON) -> str:
    text = _written(value)
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

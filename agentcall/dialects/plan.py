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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agentcall.messages import JSON

LONGEST = 2000
"""Longer plans are not read (characters)."""
DEPTH = 4
"""How deep calls may be nested where the server holds the model to a pattern."""
PARTS = 4
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
        return f"{self.name}({', '.join(map(_written, self.values))})"


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
    tops = [item for statement in body for item in _tops(statement)]
    calls = [_node(top) for top in tops]
    if not calls or not all(isinstance(call, _Call) for call in calls):
        return None
    return Plan(tuple(call for call in calls if isinstance(call, _Call)))


def _tops(statement: ast.stmt) -> list[ast.expr | None]:
    match statement:
        case ast.Expr(ast.Tuple(elts) | ast.List(elts)):
            return list(elts)
        case ast.Expr(value):
            return [value]
        case _:
            return [None]


def _node(tree: ast.expr | None) -> _Node | None:
    if not isinstance(tree, ast.Call):
        return None if tree is None else _literal(tree)
    if not isinstance(tree.func, ast.Name):
        return None
    keys = tuple(keyword.arg or "" for keyword in tree.keywords)
    parts = [_node(part) for part in (*tree.args, *(word.value for word in tree.keywords))]
    if not all(keys) or None in parts:
        return None
    return _Call(tree.func.id, tuple(part for part in parts if part is not None), keys)


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
        found = self._taken(step, any(isinstance(part, _Call) for part in node.parts))
        if found is not None:
            return (found.result,)
        if not any(_same(step, other) for other in self.ready):
            self.ready.append(step)
        return None

    def _taken(self, step: Step, loose: bool) -> Done | None:
        """The call that this step is; one fed by a result may have other values than the plan's."""
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


def _same(one: Step, other: Step) -> bool:
    """Whether two calls are alike; a text that is a number is that number."""
    return one.name == other.name and _plain(one.values) == _plain(other.values)


def _plain(values: Iterable[JSON]) -> list[str]:
    return [_written(float(v) if type(v) is int else v).strip('"').casefold() for v in values]


def _written(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False)


def pattern(names: Sequence[str]) -> str:
    """The regular expression of plans over tools of these names, for a JSON Schema.

    It has no quotes or backslashes inside of texts, as some servers match before JSON's escapes.
    """
    name = "|".join(map(re.escape, names))
    argument = r"'[^'\"\\\n]*'|-?[0-9]+(\.[0-9]+)?|True|False|None"
    call = ""
    for _ in range(DEPTH):
        call = rf"({name})\((({argument})(, )?)*\)"
        argument = rf"{argument}|{call}" if not call.startswith("|") else argument
    return f"^{call}{f'(, {call})?' * (PARTS - 1)}$"

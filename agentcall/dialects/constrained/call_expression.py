"""Plans: the calls that a task needs, written as Python.

    a = mul(3, price('tea')); b = mul(2, price('cake')); answer = add(a, b)

A small model that decides call by call often stops a step early; it is far better at writing the
whole task as nested or named calls. The program only substitutes: each result replaces its call,
and the next call is shown to the model. A result that is a sentence or an error is not inserted:
the call is shown with `...` in its place. Nothing is evaluated.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agentcall.messages import JSON, format_json

MAX_PLAN_LENGTH = 2000
"""Longer plans are not read (characters)."""
MAX_VALUE_LENGTH = 200
"""Longer values are cut when a call is shown (characters)."""
MAX_NESTING = 3
"""The depth of nested calls that the pattern allows."""
MAX_NAMED_CALLS = 6
"""The number of named calls before the answer that the pattern allows."""


class OpenValue(str):
    """A result that no argument can be: the model chooses the argument, with the result before it.

    It is a sentence, of which the argument is a part, or the report of an error.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A call of a plan: positional values, then those of `keys`."""

    name: str
    values: tuple[JSON, ...]
    keys: tuple[str, ...] = ()

    def bind_arguments(self, parameters: Sequence[str]) -> dict[str, JSON]:
        """Return the values by parameter name; `parameters` are the tool's, in order."""
        count = len(self.values) - len(self.keys)
        return dict(zip((*parameters[:count], *self.keys), self.values, strict=False))

    @property
    def has_open_value(self) -> bool:
        """Whether the model has to choose one of the arguments."""
        return any(isinstance(value, OpenValue) for value in self.values)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(_shorten_value, self.values))})"


@dataclass(frozen=True, slots=True)
class CompletedStep:
    """A call that was made, and its result; calls that need a failed one are never ready."""

    step: PlanStep
    result: JSON
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class RemainingPlan:
    """The calls of a plan that can be made now, and whether other calls were made."""

    ready_steps: list[PlanStep]
    has_strays: bool


_Value: TypeAlias = "tuple[JSON]"
_Operand: TypeAlias = "_Value | int"
"""A value, or the position of the call in the plan that provides it."""


@dataclass(frozen=True, slots=True)
class _CallNode:
    name: str
    operands: tuple[_Operand, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CallPlan:
    """The calls of a task, each after those that it needs."""

    calls: tuple[_CallNode, ...]

    @property
    def names(self) -> list[str]:
        """The names of all calls."""
        return [call.name for call in self.calls]

    def list_ready(self, completed: Iterable[CompletedStep] = ()) -> list[PlanStep]:
        """Return the calls that can be made now, without duplicates; none when all are done."""
        return self.get_remaining(completed).ready_steps

    def get_remaining(self, completed: Iterable[CompletedStep]) -> RemainingPlan:
        """Return what is left of the plan after the completed calls.

        A call that failed and then succeeded has succeeded.
        """
        steps = list(completed)
        progress = _PlanProgress(
            [
                done
                for index, done in enumerate(steps)
                if not (done.is_error and _has_succeeded(done.step, steps[index + 1 :]))
            ]
        )
        for call in self.calls:
            progress.add(call)
        return RemainingPlan(progress.ready_steps, progress.has_strays)


def parse_plan(text: str) -> CallPlan | None:
    """Parse a plan; return None if it contains anything but calls with literal values."""
    if len(text) > MAX_PLAN_LENGTH or "\\" in text:
        return None
    try:
        body = ast.parse(text.strip().rstrip(";"), mode="exec").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    calls = _CallCollector()
    is_valid = all(
        calls.add(name, tree) for statement in body for name, tree in _split_statement(statement)
    )
    return CallPlan(tuple(calls.calls)) if is_valid and calls.calls else None


def is_plan(thinking: str) -> bool:
    """Whether the thinking of a message is a plan in this form."""
    return parse_plan(thinking) is not None


def _split_statement(statement: ast.stmt) -> list[tuple[str, ast.expr | None]]:
    """Return the expressions of a statement, with the name that each is assigned to."""
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


class _CallCollector:
    """Collects calls from expressions, in the order in which Python would make them."""

    def __init__(self) -> None:
        self.calls: list[_CallNode] = []
        self._names: dict[str, int] = {}

    def add(self, name: str, tree: ast.expr | None) -> bool:
        """Add the calls of an expression; return whether it is a call, or the name of one."""
        part = self._to_operand(tree) if tree is not None else None
        if not isinstance(part, int):
            return False
        self._names[name] = part
        return True

    def _to_operand(self, tree: ast.expr) -> _Operand | None:
        match tree:
            case ast.Name(name):
                return self._names.get(name)
            case ast.Call(ast.Name(name), args, keywords):
                keys = tuple(keyword.arg or "" for keyword in keywords)
                operands = [
                    self._to_operand(part) for part in (*args, *(word.value for word in keywords))
                ]
                parts = tuple(part for part in operands if part is not None)
                if not all(keys) or len(parts) < len(operands):
                    return None
                self.calls.append(_CallNode(name, parts, keys))
                return len(self.calls) - 1
            case _:
                return _parse_literal(tree)


def _parse_literal(tree: ast.expr) -> _Value | None:
    try:
        value = ast.literal_eval(tree)
        return (json.loads(json.dumps(value, allow_nan=False)),)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None


class _PlanProgress:
    """Substitutes completed calls in a plan and collects those that are ready."""

    def __init__(self, completed: list[CompletedStep]) -> None:
        self._completed = completed
        self._matched: list[CompletedStep] = []
        self._values: list[_Value | None] = []
        self.ready_steps: list[PlanStep] = []

    @property
    def has_strays(self) -> bool:
        """Whether a call was made that is not in the plan."""
        return any(not done.is_error for done in self._completed)

    def add(self, call: _CallNode) -> None:
        """Add the next call of the plan."""
        self._values.append(self._resolve(call))

    def _resolve(self, call: _CallNode) -> _Value | None:
        """Return the result of a call, None if it is still to be made."""
        operands = [self._values[part] if isinstance(part, int) else part for part in call.operands]
        values = [value for value in operands if value is not None]
        if len(values) < len(operands):
            return None
        step = PlanStep(call.name, tuple(value for (value,) in values), call.keys)
        substituted = [
            v for (v,), p in zip(values, call.operands, strict=True) if isinstance(p, int)
        ]
        completed = self._find_completed_step(
            step, is_loose=any(not isinstance(v, (int, float)) for v in substituted)
        )
        if completed is not None:
            return None if completed.is_error else (_to_argument(completed.result),)
        if not any(_is_same_call(step, other) for other in self.ready_steps):
            self.ready_steps.append(step)
        return None

    def _find_completed_step(self, step: PlanStep, *, is_loose: bool) -> CompletedStep | None:
        """Return the completed call for a step.

        is_loose: the name decides, as the model may have used a part of what it was given.
        """
        for done in (*self._matched, *self._completed):
            if _is_same_call(done.step, step):
                return self._use_step(done, done)
        by_name = (done for done in self._completed if is_loose and done.step.name == step.name)
        match = next(by_name, None)
        if match is None:
            return None
        return self._use_step(CompletedStep(step, match.result, match.is_error), match)

    def _use_step(self, matched: CompletedStep, used: CompletedStep) -> CompletedStep:
        self._matched.append(matched)
        self._completed = [done for done in self._completed if done is not used]
        return matched


_MAX_ARGUMENT_WORDS = 6
_SENTENCE = re.compile(r"\S+\s+\S+\s.*[.!?]|.*[。！？]|.*\n.*", re.DOTALL)
_ERROR = re.compile(
    r"\W*(?:error|fail(?:ed|ure)|exception|traceback|warning|no such|no results?|not found|unknown"
    r"|invalid|unable|can(?:not|'t)|could(?: not|n't)|does(?: not|n't)|timed? ?out)\b"
    r"|\w+(?:Error|Exception)\b",
    re.IGNORECASE,
)


def _to_argument(result: JSON) -> JSON:
    """Return the value that the next call needs: the member of an object with only one."""
    if isinstance(result, Mapping) and any(result.get(key) for key in ("error", "errors")):
        return OpenValue(format_json(result))
    if isinstance(result, Mapping) and len(result) == 1:
        result = next(iter(result.values()))
    return OpenValue(result) if isinstance(result, str) and _is_prose(result.strip()) else result


def _is_prose(text: str) -> bool:
    is_long = len(text.split()) > _MAX_ARGUMENT_WORDS
    return is_long or bool(_SENTENCE.fullmatch(text)) or bool(_ERROR.match(text))


def _is_same_call(one: PlanStep, other: PlanStep) -> bool:
    """Whether two calls are equal; text that is a number equals the number."""
    return one.name == other.name and _normalize_values(one.values) == _normalize_values(
        other.values
    )


def _has_succeeded(step: PlanStep, completed: Iterable[CompletedStep]) -> bool:
    return any(not done.is_error and _is_same_call(done.step, step) for done in completed)


def _normalize_values(values: Iterable[JSON]) -> list[str]:
    return [_normalize_value(value) for value in values]


def _normalize_value(value: JSON) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return format_json(value)
    try:
        return str(float(value))
    except (ValueError, OverflowError):
        return str(value).strip().casefold()


def _shorten_value(value: JSON) -> str:
    if isinstance(value, OpenValue):
        return "..."
    text = format_json(value)
    return text if len(text) <= MAX_VALUE_LENGTH else text[:MAX_VALUE_LENGTH] + "..."


def build_plan_pattern(names: Sequence[str]) -> str:
    """Return the regular expression of plans over these tools, for a JSON Schema.

    Literals in it contain no double quote and no backslash: servers match before they decode the
    escapes of JSON.
    """
    name = "|".join(map(re.escape, names))
    literal = r"'[^'\"\\\n\r\t]*'|-?[0-9]+(\.[0-9]+)?|True|False|None|[a-z]"
    argument, call = literal, ""
    for _ in range(MAX_NESTING):
        call = rf"({name})\((({argument})(, ({argument}))*)?\)"
        argument = f"{literal}|{call}"
    last = f"({call}|[a-z](, [a-z]){{0,{MAX_NAMED_CALLS}}})"
    return f"^([a-z] = {call}; ){{0,{MAX_NAMED_CALLS}}}answer = {last}$"

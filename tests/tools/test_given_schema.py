"""A tool with a given JSON Schema is as lenient as the same tool made from a function."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from rows import each_row

from agentcall.dialects.answer_parts import ToolCallPart
from agentcall.repair import RepairedCall, repair_call
from agentcall.tools.tool import Tool, make_tool, tool_from_schema


class Person(BaseModel):
    name: str
    age: int = 0


class Color(Enum):
    RED = "red"
    BLUE = "blue"


TYPES: list[Any] = [
    *(str, int, float, bool, str | None, int | None, bool | None, list[str] | None),
    *(list[str], list[int], list[float], dict[str, str], dict[str, int], list[bool]),
    *(Literal["a", "b"], Literal[1, 2], Color, Person, list[Person]),
    *(int | str, str | int, int | list[int]),
]
VALUES: list[Any] = [
    *("10", 10, 10.5, True, False, None, "true", "yes", "No", "on", "1", 1, 0, "", "None"),
    *("a", "A", ["x"], [1], ["1"], [1.5], "1,2", "[1, 2]", '["a"]', [True], [None], [], {}),
    *({"name": "Bo"}, {"name": 5}, '{"name": "Bo"}', {"name": "Bo", "age": "3"}, {"x": "1"}),
    *("x", "-5", "1e3", "1,000", " 7 ", "7.0", "Red", ["red"], {"x": None}),
]


def make_pair(annotation: Any, required: bool) -> tuple[Tool, Tool]:
    """Return a tool of a function, and one with the schema of the same."""

    def use(v: Any = None) -> str:
        return ""

    def need(v: Any) -> str:
        return ""

    function: Callable[..., str] = need if required else use
    function.__annotations__["v"] = annotation if required else annotation | None
    made = make_tool(function, name="use")
    given = tool_from_schema(str, name="use", description="", parameters=made.parameters)
    return made, given


@each_row("required", [True, False])
@each_row("annotation", TYPES, ids=str)
def test_both_kinds_take_the_same_values(annotation: Any, required: bool) -> None:
    made, given = make_pair(annotation, required)
    for value in VALUES:
        call = ToolCallPart("use", json.dumps({"v": value}))
        outcomes = [repair_call(call, {"use": each}) for each in (made, given)]
        taken = [isinstance(outcome, RepairedCall) for outcome in outcomes]
        assert taken[0] == taken[1], (value, outcomes)


@each_row(
    ("schema", "sent", "became", "rule"),
    [
        ({"type": "string"}, "10", "10", "text-from-number"),
        ({"type": "string"}, "1.10", "1.10", "text-from-number"),
        ({"type": "string"}, "-0.50", "-0.50", "text-from-number"),
        ({"type": ["string", "null"]}, "10", "10", "text-from-number"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "10", "10", "text-from-number"),
        ({"type": "array", "items": {"type": "string"}}, "[10]", ["10"], "text-from-number"),
        ({"type": "boolean"}, '"yes"', True, "bool-from-text"),
        ({"type": "boolean"}, "0", False, "bool-from-number"),
        ({"type": "integer"}, '"10"', 10, "number-from-text"),
        ({"type": "object"}, '"{\\"a\\": 1}"', {"a": 1}, "stringified"),
        ({"type": "array", "items": {"type": "integer"}}, "1", [1], "list-from-one"),
    ],
)
def test_what_changed_is_reported(schema: Any, sent: str, became: object, rule: str) -> None:
    parameters = {"type": "object", "properties": {"v": schema}, "required": ["v"]}
    given = tool_from_schema(str, name="use", description="", parameters=parameters)
    outcome = repair_call(ToolCallPart("use", f'{{"v": {sent}}}'), {"use": given})
    assert isinstance(outcome, RepairedCall)
    assert outcome.values == {"v": became}
    assert [fix.rule for fix in outcome.fixes] == [rule]


@each_row(
    ("schema", "sent"),
    [
        ({"type": "string"}, "true"),
        ({"type": "string"}, "{}"),
        ({"type": "string", "format": "date"}, "20261201"),
        ({"type": "string", "pattern": "^[a-z]+$"}, "10"),
        ({"type": "string", "enum": ["a", "b"]}, "10"),
        ({"type": "boolean"}, "2"),
        ({"type": "boolean"}, '"maybe"'),
        ({"type": "integer"}, "true"),
        ({"type": "integer"}, '"10 kg"'),
        ({"type": "integer", "minimum": 20}, '"10"'),
    ],
)
def test_no_value_is_made_up_for_a_given_schema(schema: Any, sent: str) -> None:
    parameters = {"type": "object", "properties": {"v": schema}, "required": ["v"]}
    given = tool_from_schema(str, name="use", description="", parameters=parameters)
    outcome = repair_call(ToolCallPart("use", f'{{"v": {sent}}}'), {"use": given})
    assert not isinstance(outcome, RepairedCall)


WITHOUT = """
import sys
sys.modules["jsonschema"] = None
from agentcall.tools.tool import tool_from_schema
from agentcall.errors import MissingExtra
try:
    tool_from_schema(str, name="use", description="", parameters={"type": "object"})
except MissingExtra as error:
    print(error)
"""


def test_without_the_package_the_tool_is_refused_when_it_is_made() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True, timeout=60
    )
    assert "the tool use has a JSON Schema of its own" in done.stdout
    assert "pip install jsonschema" in done.stdout


def test_a_plain_install_brings_the_package() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    dependencies = project.partition("\ndependencies = [")[2].partition("]")[0]
    assert '"jsonschema>=' in dependencies

"""Tools as short signatures."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from agentcall import tool
from agentcall.dialects.constrained import format_answer_type, format_signature
from agentcall.messages import JSON


@tool
def weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C") -> str:
    """The weather
    in a city.

    Args:
        city: Its name, 比如 北京.
    """
    return ""


class Node(BaseModel):
    """A tree."""

    value: int
    children: list[Node] = []


@tool
def plant(tree: Node) -> None:
    """Plant a tree."""


def test_a_tool_is_a_line_and_a_line_for_each_described_parameter() -> None:
    assert format_signature(weather) == (
        '- weather(city: string, days?: integer, unit?: "C" | "F"): The weather in a city.\n'
        "    city: Its name, 比如 北京."
    )


def test_a_tool_without_parameters_or_description_is_short() -> None:
    @tool
    def ping() -> None:
        pass

    assert format_signature(ping) == "- ping()"


def test_named_types_are_shown() -> None:
    assert format_signature(plant).splitlines() == [
        "- plant(tree: Node): Plant a tree.",
        '    Node = {"value": integer, "children"?: [Node, ...]}',
    ]


def test_the_form_of_an_answer_is_text_or_its_type() -> None:
    assert format_answer_type(None) == '"..."'
    assert format_answer_type({"type": "integer"}) == "integer"
    schema: dict[str, JSON] = {
        "$ref": "#/$defs/N",
        "$defs": {"N": {"type": "object", "properties": {}}},
    }
    assert format_answer_type(schema) == "N; N = {}"

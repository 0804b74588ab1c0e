"""`@tool(describe_result=True)`: the fields of a tool's result in its description."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pytest
from pydantic import BaseModel, Field, computed_field
from typing_extensions import NotRequired, TypedDict

from agentcall import Agent, Result, ToolRegistry, tool
from agentcall.runtime.executor import call_once
from agentcall.testing import ScriptedModel, call, say
from agentcall.tools.schema.result_shape import format_result_type

T = TypeVar("T")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Wind(BaseModel):
    speed: float
    gusts: list[int] = []
    hidden: str = Field(default="x", exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def strong(self) -> bool:
        return self.speed > 10


@dataclass
class Weather:
    city: str
    wind: Wind | None = None
    day: date = date(2026, 1, 1)


class Row(TypedDict):
    id: int
    note: NotRequired[Annotated[str, "a note"]]


class Pair(NamedTuple):
    left: int
    right: Color


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Page(BaseModel, Generic[T]):
    items: list[T]


WIND = '{"speed": number, "gusts": [integer, ...], "strong": boolean}'


@pytest.mark.parametrize(
    ("annotation", "shape"),
    [
        (Weather, f'{{"city": string, "wind": {WIND} | null, "day": string}}'),
        (list[Row], '[{"id": integer, "note"?: string}, ...]'),
        (Iterator[Pair], '[{"left": integer, "right": "red" | "blue"}, ...]'),
        (AsyncIterator[Row], '[{"id": integer, "note"?: string}, ...]'),
        (dict[str, tuple[int, Wind]], f"{{...: [integer, {WIND}]}}"),
        (Row | Literal["none", 1], '{"id": integer, "note"?: string} | "none" | 1'),
        (Tree, '{"name": string, "children": [Tree, ...]}'),
        (Page[Row], '{"items": [{"id": integer, "note"?: string}, ...]}'),
        (Mapping[str, float], "{...: number}"),
        ([Wind, str], f"{WIND} | string"),
    ],
)
def test_the_shape_of_a_structured_type_is_one_line(annotation: object, shape: str) -> None:
    assert format_result_type(annotation) == shape


@pytest.mark.parametrize(
    "annotation", [str, int, None, Any, object, dict, list, list[str], bool | None, Result, "Odd"]
)
def test_a_text_a_number_or_an_unknown_type_has_none(annotation: object) -> None:
    assert format_result_type(annotation) == ""


def forecast(city: str) -> Weather:
    """Forecast the weather."""
    return Weather(city, Wind(speed=12))


async def test_the_shape_is_that_of_what_the_model_reads() -> None:
    described = tool(describe_result=True)(forecast)
    line = described.description.splitlines()[-1]
    assert line == f'Returns: {{"city": string, "wind": {WIND} | null, "day": string}}'
    read = json.loads((await call_once(ToolRegistry(described), "forecast", '{"city": "a"}')).text)
    assert list(read) == ["city", "wind", "day"]
    assert list(read["wind"]) == ["speed", "gusts", "strong"]


def test_it_is_off_by_default_and_may_be_turned_on_and_off() -> None:
    plain = tool(forecast)
    on = tool(describe_result=True)(plain)
    off = tool(describe_result=False)(on)
    renamed = tool(name="weather", description="The weather.")(on)
    assert plain.description == off.description == "Forecast the weather."
    assert on.definition["function"]["description"] == on.description != plain.description  # type: ignore[index,call-overload]
    assert renamed.description.startswith("The weather.\nReturns: {")


async def test_an_agent_that_is_a_tool_describes_its_output() -> None:
    inner = Agent(ScriptedModel([say('{"id": 1}')]), output_type=Row, name="inner")
    ask = inner.as_tool(describe_result=True)
    assert ask.description.endswith('\nReturns: {"id": integer, "note"?: string}')
    model = ScriptedModel([call("inner", task="go"), say("ok")])
    result = await Agent(model, tools=[ask]).run("go")
    assert result.tool_calls[0].text == '{"id":1}'
    assert "Returns: " in model.requests[0].raw.decode()

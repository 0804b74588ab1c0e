from __future__ import annotations

import asyncio
import functools
import inspect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from rows import each_row

from agentcall import RunContext, Tool, tool
from agentcall.errors import SchemaError, UsageError
from agentcall.tools.tool import ToolOptions, make_tool


@tool
def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: The first.
    """
    return a + b


class Desk:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    @tool
    def times(self, a: int) -> int:
        """Multiply."""
        return a * self.factor

    @tool
    @classmethod
    def made(cls, a: int) -> str:
        """Name."""
        return f"{cls.__name__}{a}"

    @classmethod
    @tool
    def named(cls, a: int) -> str:
        """Name."""
        return f"{cls.__name__}{a}"

    @tool
    @staticmethod
    def half(a: int) -> int:
        """Halve."""
        return a // 2

    @staticmethod
    @tool
    def third(a: int) -> int:
        """Third."""
        return a // 3

    @tool(name="slowly", timeout=1.0)
    async def later(self, a: int) -> int:
        """Later."""
        return a * self.factor


class SubDesk(Desk):
    pass


class Adder:
    """Adds."""

    def __init__(self, by: int) -> None:
        self.by = by
        self.func = None  # an attribute that a partial has too

    def __call__(self, a: int) -> int:
        return a + self.by


@dataclass
class Account:
    balance: int


@tool
def balance(ctx: RunContext[Account], extra: int = 0) -> int:
    """Say the balance."""
    return ctx.deps.balance + extra


def test_a_decorated_function_stays_what_it_was() -> None:
    assert add(2, b=3) == 5
    assert add.name == getattr(add, "__name__") == "add"  # noqa: B009
    assert add.__doc__ is not None
    assert add.__doc__.startswith("Add two")
    assert str(inspect.signature(add)) == "(a: 'int', b: 'int' = 1) -> 'int'"
    with pytest.raises(TypeError):
        add()  # type: ignore[call-arg]


def test_the_definition_is_the_tool_object_of_openai() -> None:
    assert add.definition == {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add two numbers.",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"type": "integer", "description": "The first."},
                    "b": {"type": "integer", "default": 1},
                },
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }


def test_a_tool_without_words_has_no_description() -> None:
    def nothing() -> None: ...

    assert make_tool(nothing).definition["function"] == {
        "name": "nothing",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    }


def test_json_arguments_become_values_and_a_call() -> None:
    assert add.call(add.parse('{"a": "2", "b": 3}')) == 5


@each_row("owner", [Desk, SubDesk])
@each_row("name", ["times", "made", "named", "half", "third"])
def test_a_tool_in_a_class_body_binds_like_a_method(owner: type[Desk], name: str) -> None:
    desk = owner(10)
    expected = {
        "times": 60, "made": f"{owner.__name__}6", "named": f"{owner.__name__}6", "half": 3,
        "third": 2,
    }[name]  # fmt: skip
    assert getattr(desk, name)(6) == expected
    made = make_tool(getattr(desk, name))
    assert made.call(made.parse('{"a": 6}')) == expected
    assert made.parameters["required"] == ["a"]
    assert list(inspect.signature(getattr(desk, name)).parameters) == ["a"]


def test_two_instances_have_tools_of_their_own() -> None:
    one, two = Desk(1), Desk(2)
    assert (one.times(3), two.times(3)) == (3, 6)
    assert Desk.times(two, 4) == 8
    assert Desk.times.needs_instance
    assert not two.times.needs_instance


async def test_an_async_method_is_an_async_tool() -> None:
    made = Desk(3).later
    assert made.name == "slowly"
    assert made.options == ToolOptions(timeout=1.0)
    assert made.is_async
    assert await made(2) == 6


def test_a_callable_object_is_a_tool_by_the_name_of_its_class() -> None:
    made = make_tool(Adder(2), name="plus")
    assert made.name == "plus"
    assert made(3) == 5
    assert not made.is_async
    assert "Adder" in make_tool(Adder(1)).name


def test_a_partial_is_a_tool_without_what_it_has_bound() -> None:
    def scaled(a: int, by: int) -> int:
        """Scale."""
        return a * by

    made = make_tool(functools.partial(scaled, by=3))
    assert made.name == "scaled"
    assert made.parameters["required"] == ["a"]
    assert made.call(made.parse('{"a": 2}')) == 6
    assert made.location.startswith(__file__)


def test_a_wrapped_async_function_is_distinguished_from_a_sync_one() -> None:
    async def slow(a: int) -> int:
        return a

    assert make_tool(slow).is_async
    assert make_tool(functools.partial(slow, 1)).is_async
    assert not make_tool(len, name="length").is_async


def test_the_context_is_in_no_schema_and_reaches_the_tool() -> None:
    assert "ctx" not in str(balance.parameters)
    context = RunContext(deps=Account(7))
    assert balance.call(balance.parse('{"extra": 1}'), context) == 8


def test_the_context_may_be_written_as_text_and_without_its_type() -> None:
    def bare(ctx: RunContext, a: int) -> int:
        return a

    def quoted(a: int, ctx: "RunContext[Account]") -> int:  # noqa: UP037
        return a + ctx.deps.balance

    assert make_tool(bare).parameters["required"] == ["a"]
    made = make_tool(quoted)
    assert made.parameters["required"] == ["a"]
    assert made.call({"a": 1}, RunContext(deps=Account(2))) == 3


def test_marks_are_kept_and_changed_by_making_it_again() -> None:
    marked = tool(requires_approval=True, retries=5, sequential=True)(add.function)
    assert marked.options == ToolOptions(requires_approval=True, retries=5, sequential=True)
    again = make_tool(marked, name="plus", description="Plus.", timeout=None)
    assert (again.name, again.description) == ("plus", "Plus.")
    assert again.options == ToolOptions(
        timeout=None, requires_approval=True, retries=5, sequential=True
    )
    assert marked.name == "add"
    assert make_tool(marked) is marked


def test_a_renamed_method_still_binds() -> None:
    class Renamed:
        @tool(name="first")
        def method(self, a: int) -> int:
            """M."""
            return a

        other = method.with_name("second")

    assert Renamed().other.name == "second"
    assert Renamed().other(4) == 4


@pytest.mark.parametrize("marks", [{"timeout": 0}, {"timeout": -1.0}, {"retries": -1}])
def test_marks_without_sense_are_refused(marks: Any) -> None:
    with pytest.raises(UsageError, match=next(iter(marks))):
        tool(**marks)(add.function)
    with pytest.raises(UsageError, match=next(iter(marks))):
        make_tool(add, **marks)


def test_what_cannot_be_offered_is_refused_with_its_place() -> None:
    class Strange:
        pass

    def bad(a: Strange) -> None: ...

    with pytest.raises(SchemaError, match=r"bad \(.*test_tool\.py:\d+\), parameter 'a'"):
        tool(bad)


def test_a_tool_says_its_name_and_place() -> None:
    assert repr(add).startswith("<Tool add at ")
    assert "test_tool.py:" in repr(add)


def test_one_tool_may_be_used_by_many_threads_at_once() -> None:
    def fresh(a: int) -> int:
        """Fresh."""
        return a

    made = make_tool(fresh)

    def use(number: int) -> tuple[int, str]:
        return made.call(made.parse(f'{{"a": {number}}}')), made.location

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(200)))
    assert [number for number, _ in found] == list(range(200))


def test_types_survive_the_decoration() -> None:
    number: int = add(1, 2)
    made: Tool[..., int] = add
    assert number == made(1, 2)


async def test_an_awaitable_comes_out_of_an_async_tool() -> None:
    @tool
    async def slow() -> int:
        """Slow."""
        await asyncio.sleep(0)
        return 3

    assert await slow() == 3
    assert await slow.call({}) == 3


def test_a_function_and_options_in_one_call_are_a_tool_with_these_options() -> None:
    make: Any = tool  # type checkers know only the two usual forms
    made = make(lambda x: x, name="echo", description="Echo.", retries=3)
    assert (made.name, made.description, made.options.retries) == ("echo", "Echo.", 3)

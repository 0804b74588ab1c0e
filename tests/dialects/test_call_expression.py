"""Plans: parsing nested calls, and finding the next ones."""

from __future__ import annotations

import re
from typing import TypeAlias

from rows import each_row

from agentcall.dialects.constrained.call_expression import (
    CallPlan,
    CompletedStep,
    PlanStep,
    build_plan_pattern,
    parse_plan,
)
from agentcall.messages import JSON

NESTED = "mul(add(2, 3), add(4, 1))"


def plan(text: str) -> CallPlan:
    found = parse_plan(text)
    assert found is not None
    return found


Call: TypeAlias = "tuple[str, tuple[JSON, ...], JSON]"


def ready(text: str, *done: Call) -> list[str]:
    steps = [CompletedStep(PlanStep(name, values), result) for name, values, result in done]
    return [str(step) for step in plan(text).list_ready(steps)]


def test_calls_that_need_no_result_are_ready() -> None:
    assert ready(NESTED) == ["add(2, 3)", "add(4, 1)"]


def test_results_stand_where_their_calls_stood() -> None:
    assert ready(NESTED, ("add", (2, 3), 5)) == ["add(4, 1)"]
    assert ready(NESTED, ("add", (4, 1), 5), ("add", (2, 3), 6)) == ["mul(6, 5)"]
    assert ready(NESTED, ("add", (2, 3), 5), ("add", (4, 1), 5), ("mul", (5, 5), 25)) == []


def test_the_same_call_twice_is_one() -> None:
    assert ready("add(f('x'), f('x'))") == ['f("x")']
    assert ready("add(f('x'), f('x'))", ("f", ("x",), 4)) == ["add(4, 4)"]


def test_whole_numbers_and_texts_of_numbers_are_alike() -> None:
    assert ready("f(3)", ("f", (3.0,), 1)) == []
    assert ready("f('3')", ("f", (3,), 1)) == []
    assert ready("f('Rome')", ("f", ("rome",), 1)) == []
    assert ready("f(True)", ("f", (1,), 1)) == ["f(true)"]


def test_another_call_of_the_same_tool_is_not_the_planned_one() -> None:
    assert ready("f('Rome')", ("f", ("Oslo",), 1)) == ['f("Rome")']


def test_a_call_fed_by_a_result_may_have_taken_a_part_of_it() -> None:
    took: tuple[Call, ...] = (("get", ("x",), {"c": 21, "sky": "clear"}), ("to_f", (21,), 69.8))
    assert ready("to_f(get('x'))", *took[:1]) == ['to_f({"c": 21, "sky": "clear"})']
    assert ready("to_f(get('x'))", *took) == []


@each_row(
    ("text", "expected"),
    [
        ("f(1), g(2)", ["f(1)", "g(2)"]),
        ("[f(1), g(2)]", ["f(1)", "g(2)"]),
        ("f(1); g(2);", ["f(1)", "g(2)"]),
        ("a = f(1); b = g(2); answer = a, b", ["f(1)", "g(2)"]),
        ("f(1)\ng(2)", ["f(1)", "g(2)"]),
        (
            "f(-1.5, 'it', None, True, [1, 2], {'a': 1})",
            ['f(-1.5, "it", null, true, [1, 2], {"a": 1})'],
        ),
        ("f(x=1)", ["f(1)"]),
        ("f('北京')", ['f("北京")']),
    ],
)
def test_calls_are_written_as_python_writes_them(text: str, expected: list[str]) -> None:
    assert ready(text) == expected


@each_row(
    "text",
    [
        "", "2 + 3", "f", "f(x)", "f(1) + 2", "x = 1", "x = y = f(1)", "x += f(1)", "a[0] = f(1)",
        "a = b, c",         "f(1", "a.f(1)", "f(*x)", "f(**x)",
        "f(1 + g(2))", "__import__('os').system('x')", "f(lambda: 1)", "f('\\n')", "f(" * 900,
        "f(" * 80 + ")" * 80 + "(", "f(1e999)", "f(b'x')", "f({1})", "f(1)" * 900, "f(1, g)",
    ],
)  # fmt: skip
def test_what_is_not_made_of_calls_is_not_a_plan(text: str) -> None:
    assert parse_plan(text) is None


def test_names_stand_for_their_calls() -> None:
    text = "a = add(2, 3); b = add(4, 1); c = mul(a, b)"
    assert ready(text) == ["add(2, 3)", "add(4, 1)"]
    assert ready(text, ("add", (2, 3), 5), ("add", (4, 1), 5)) == ["mul(5, 5)"]
    assert ready("a = f(1); a = f(a)", ("f", (1,), 2)) == ["f(2)"]


def test_a_call_fed_by_a_number_is_not_another_call_of_its_tool() -> None:
    text = "a = sub(9, 1); b = div(a, 2); c = div(9, 2)"
    assert ready(text, ("sub", (9, 1), 8), ("div", (9, 2), 4.5)) == ["div(8, 2)"]


def test_an_object_with_one_member_is_that_member() -> None:
    assert ready("a = find('x'); b = get(a)", ("find", ("x",), {"id": 17})) == ["get(17)"]


def test_the_names_of_all_calls_are_known() -> None:
    assert plan("f(g(1), h(2)), i()").names == ["g", "h", "f", "i"]


def test_what_needs_a_call_that_failed_is_never_ready() -> None:
    steps = plan("a = f(1); b = g(2); answer = add(a, b), g(b)").list_ready(
        [
            CompletedStep(PlanStep("f", (1,)), "no", is_error=True),
            CompletedStep(PlanStep("g", (2,)), 3),
        ]
    )
    assert [str(step) for step in steps] == ["g(3)"]


def test_calls_that_the_plan_does_not_have_are_strays() -> None:
    other = CompletedStep(PlanStep("add", (7, 7)), 14)
    assert plan(NESTED).get_remaining([other]).has_strays
    assert not plan(NESTED).get_remaining([CompletedStep(PlanStep("add", (2, 3)), 5)]).has_strays
    assert (
        not plan(NESTED)
        .get_remaining([CompletedStep(PlanStep("f", ()), "no", is_error=True)])
        .has_strays
    )


def test_names_used_again_and_again_cost_no_more() -> None:
    text = "; ".join(["a = f(1, 1)", *["a = f(a, a)"] * 120])
    assert ready(text) == ["f(1, 1)"]


def test_values_go_to_the_parameters_in_order_and_by_name() -> None:
    assert PlanStep("f", (1, 2, 3), ("c",)).bind_arguments(["a", "b", "c"]) == {
        "a": 1,
        "b": 2,
        "c": 3,
    }
    assert PlanStep("f", (1,)).bind_arguments(["a", "b"]) == {"a": 1}


@each_row(
    ("text", "fits"),
    [
        ("answer = add(1, 2)", True),
        ("answer = today()", True),
        ("answer = add(add(1, 2), -3.5)", True),
        ("a = add(today(), 'a b 北京'); answer = add(a, 1)", True),
        ("a = today(); b = today(); answer = a, b", True),
        ("add(1, 2)", False),
        ("a = today()", False),
        ("answer = plus(1, 2)", False),
        ("answer = add(plus(1, 2), 2)", False),
        ("answer = add(price, 2)", False),
        ("answer = add(1, 2) + 3", False),
        ("answer = add(1, 2", False),
        ("answer = 1", False),
        ("a = today(); " * 7 + "answer = a", False),
    ],
)
def test_the_pattern_lets_pass_plans_over_these_tools(text: str, fits: bool) -> None:
    assert bool(re.search(build_plan_pattern(["add", "today"]), text)) is fits


def test_the_pattern_grows_with_the_tools_and_no_faster() -> None:
    few, many = (build_plan_pattern([f"tool_{i:03}" for i in range(count)]) for count in (10, 100))
    assert len(many) < 11 * len(few)


@each_row(
    "result",
    [
        "The population of Paris is 2,102,650 people.",
        "Paris has 2102650 inhabitants, as of the year 2026",
        "line one\nline two",
        "Error: there is no such city",
        "no results",
        "Not found",
        "ValueError: bad city",
        "cannot reach the server",
        "人口は二百万人です。",
        {"error": "not found"},
        {"error": {"code": 5}, "value": 3},
    ],
)
def test_prose_and_errors_are_left_to_the_model(result: JSON) -> None:
    (step,) = (
        plan("mul(3, search('Paris'))")
        .get_remaining([CompletedStep(PlanStep("search", ("Paris",)), result)])
        .ready_steps
    )
    assert str(step) == "mul(3, ...)"
    assert step.has_open_value


@each_row(
    ("result", "shown"),
    [
        (4, "mul(3, 4)"),
        ("2102650", 'mul(3, "2102650")'),
        ("San Francisco, California", 'mul(3, "San Francisco, California")'),
        ("12 Main St., Springfield", 'mul(3, "12 Main St., Springfield")'),
        ("18 °C", 'mul(3, "18 °C")'),
        ({"celsius": 18}, "mul(3, 18)"),
        ({"error": None, "value": 3}, 'mul(3, {"error": null, "value": 3})'),
        ([1, 2], "mul(3, [1, 2])"),
    ],
)
def test_values_are_inserted(result: JSON, shown: str) -> None:
    assert ready("mul(3, search('Paris'))", ("search", ("Paris",), result)) == [shown]


def test_a_call_with_a_chosen_argument_continues_the_plan() -> None:
    steps = [("search", ("Paris",), "It has 2102650 people."), ("mul", (3, 2102650), 6307950)]
    assert ready("half(mul(3, search('Paris')))", *steps) == ["half(6307950)"]

from __future__ import annotations

from agentcall.messages import (
    NO_RESULT,
    Assistant,
    ToolCall,
    ToolResult,
    User,
    fill_missing_results,
    pair_calls,
)

A, B = ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")


def test_a_conversation_that_is_whole_stays_as_it_is() -> None:
    whole = (User("x"), Assistant("", (A,)), ToolResult("a", "f", "1"), Assistant("done"))
    assert fill_missing_results(whole) == whole


def test_a_call_without_a_result_gets_one_behind_its_turn() -> None:
    messages = (Assistant("", (A, B)), ToolResult("b", "g", "2"), User("and now?"))
    assert fill_missing_results(messages) == (
        Assistant("", (A, B)),
        ToolResult("b", "g", "2"),
        ToolResult("a", "f", NO_RESULT, is_error=True),
        User("and now?"),
    )


def test_a_known_result_is_put_in_its_place() -> None:
    result = ToolResult("a", "f", "1")
    assert fill_missing_results((Assistant("", (A,)),), {"a": result}) == (
        Assistant("", (A,)),
        result,
    )


def test_a_call_that_waits_is_left_alone() -> None:
    messages = (Assistant("", (A, B)),)
    assert fill_missing_results(messages, pending=(A, B)) == messages


def test_ids_that_come_again_in_another_turn_are_told_apart() -> None:
    first, again = ToolResult("a", "f", "1"), ToolResult("a", "f", "2")
    messages = (Assistant("", (A,)), first, Assistant("", (A,)), again, Assistant("", (A, A)))
    assert pair_calls(messages) == ((A, first), (A, again), (A, None), (A, None))
    assert fill_missing_results(messages[:3])[-1] == ToolResult("a", "f", NO_RESULT, is_error=True)


def test_two_calls_of_one_id_in_one_turn_take_their_results_in_order() -> None:
    one, two = ToolResult("a", "f", "1"), ToolResult("a", "f", "2")
    assert pair_calls((Assistant("", (A, A)), one, two)) == ((A, one), (A, two))

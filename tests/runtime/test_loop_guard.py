from __future__ import annotations

from agentcall.runtime.loop_guard import LoopGuard, call_fingerprint


def turn(guard: LoopGuard, **results: str) -> set[str]:
    """A turn that asks for these calls; what is no repetition is carried out."""
    repeated = guard.find_repetitions(results.keys())
    guard.record({sign: text for sign, text in results.items() if sign not in repeated})
    return set(repeated)


def test_the_same_call_in_the_next_turn_is_a_repetition() -> None:
    guard = LoopGuard()
    assert turn(guard, a="1") == set()
    assert turn(guard, a="1") == {"a"}
    assert guard.get_last_text("a") == "1"
    assert not guard.is_looping
    assert turn(guard, a="1") == {"a"}
    assert guard.is_looping


def test_read_act_read_is_no_repetition() -> None:
    guard = LoopGuard()
    for step in ("get", "set", "get", "set2", "get"):
        assert turn(guard, **{step: "ok"}) == set()


def test_another_call_beside_it_makes_it_no_repetition() -> None:
    guard = LoopGuard()
    assert turn(guard, get="1", set="ok") == set()
    assert turn(guard, get="2") == set()


def test_the_same_turn_of_several_calls_is_a_repetition() -> None:
    guard = LoopGuard()
    turn(guard, a="1", b="2")
    assert turn(guard, a="1", b="2") == {"a", "b"}


def test_a_new_call_beside_a_repetition_goes_on() -> None:
    guard = LoopGuard()
    turn(guard, a="1")
    assert turn(guard, a="1", b="2") == {"a"}
    assert not guard.is_looping
    assert turn(guard, c="3") == set()


def test_a_circle_of_two_is_left_after_its_second_round() -> None:
    guard = LoopGuard()
    for step in "abab":
        assert turn(guard, **{step: f"result of {step}"}) == set()
    assert turn(guard, a="x") == {"a"}
    assert turn(guard, b="x") == {"b"}
    assert guard.is_looping


def test_a_circle_of_three_is_left_too() -> None:
    guard = LoopGuard()
    for step in "abcabc":
        assert turn(guard, **{step: "same"}) == set()
    assert turn(guard, a="x") == {"a"}


def test_a_circle_whose_results_change_is_none() -> None:
    guard = LoopGuard()
    for count in range(10):
        assert turn(guard, act="ok") == set()
        assert turn(guard, look=str(count)) == set()


def test_progress_in_between_starts_the_count_anew() -> None:
    guard = LoopGuard()
    turn(guard, a="1")
    turn(guard, a="1")
    turn(guard, b="2")
    turn(guard, b="2")
    assert not guard.is_looping


def test_turns_without_calls_that_count_change_nothing() -> None:
    guard = LoopGuard()
    turn(guard, a="1")
    assert turn(guard) == set()
    assert turn(guard, a="1") == {"a"}


def test_calls_that_differ_in_spelling_alone_have_one_sign() -> None:
    one = call_fingerprint("f", {"a": 1, "b": {"x": "two words", "y": [1.0]}})
    assert one == call_fingerprint("f", {"b": {"y": [1], "x": " two  words\n"}, "a": 1.0})
    assert one != call_fingerprint("g", {"a": 1, "b": {"x": "two words", "y": [1.0]}})
    assert call_fingerprint("f", {"a": 1}) != call_fingerprint("f", {"a": "1"})
    assert call_fingerprint("f", {"a": True}) != call_fingerprint("f", {"a": 1})
    assert call_fingerprint("f", {"a": 1.5}) != call_fingerprint("f", {"a": 1})
    assert call_fingerprint("f", {"城": "上海"}) == call_fingerprint("f", {"城": "上海 "})


def test_the_same_error_is_too_much_after_as_many_turns_as_it_may_take() -> None:
    guard = LoopGuard()
    assert not guard.record_errors({"x": 3}, all_failed=True)
    assert not guard.record_errors({"x": 3, "y": 2}, all_failed=True)
    assert guard.record_errors({"x": 3}, all_failed=True)


def test_another_error_or_a_success_starts_the_count_anew() -> None:
    guard = LoopGuard()
    for words in ("x", "x", "y", "x", "x"):
        assert not guard.record_errors({words: 3}, all_failed=True)
    assert not guard.record_errors({"x": 3}, all_failed=False)
    assert not guard.record_errors({"x": 3}, all_failed=True)
    assert guard.record_errors({"x": 3}, all_failed=True)

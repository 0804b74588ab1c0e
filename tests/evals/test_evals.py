"""Evaluations: cases, checks, reports and the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import agentcall

from agentcall import Agent, ModelSettings, RunResult, tool
from agentcall.errors import UsageError
from agentcall.evals import (
    Case,
    Interval,
    Report,
    Trial,
    answer_contains,
    answer_equals,
    answer_matches,
    call_order,
    called,
    compare_reports,
    evaluate,
    evaluate_sync,
    judged,
    load_cases,
    max_requests,
    not_called,
)
from agentcall.evals.checks import find_problem
from agentcall.testing import FakeServer, ScriptedModel, call, drop, forever, say

pytest_plugins = ["agentcall.testing.plugin"]
Serve = Callable[..., FakeServer]


@tool
def price(item: str) -> float:
    """Return the price of an item."""
    return {"apple": 0.5, "bread": 3.2}[item]


def make_agent(*script: Any, **options: Any) -> Agent:
    return Agent(ScriptedModel(list(script)), tools=[price], **options)


def get_result() -> RunResult[str]:
    script = [call("price", item="apple"), call("price", item="pear"), say("It costs 0.5 EUR.")]
    return make_agent(*script).run_sync("What does an apple cost?")


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (called("price"), ""),
        (called("price", item="apple"), ""),
        (called("price", item="pear"), "price(item='pear') was not called; these were"),
        (called("send"), "send() was not called"),
        (not_called("send"), ""),
        (not_called(), "price was called"),
        (call_order("price"), ""),
        (call_order("price", "price"), "the order of the calls is not price, price, but price"),
        (max_requests(3), ""),
        (max_requests(2), "it made 3 requests, more than 2"),
        (answer_equals(" It costs 0.5 EUR. "), ""),
        (answer_equals(0.5), "the answer is 'It costs 0.5 EUR.', not 0.5"),
        (answer_contains("0.5", "eur"), ""),
        (answer_contains("0.6"), "does not contain '0.6'"),
        (answer_matches(r"\d\.5 eur"), ""),
        (answer_matches("^0"), "does not match '^0'"),
        (lambda _: None, ""),
        (lambda _: True, ""),
        (lambda _: "wrong", "wrong"),
        (lambda _: False, "<lambda> failed"),
        (judged("It names a price.", ScriptedModel([say("yes")])), ""),
        (judged("It is rude.", ScriptedModel([say("no")])), "fails: It is rude."),
    ],
)
async def test_a_check_says_what_is_wrong(check: Any, said: str) -> None:
    problem = await find_problem(check, get_result())
    assert said in problem
    assert bool(problem) == bool(said)


async def test_a_check_may_be_async_and_may_assert() -> None:
    async def asserts(result: RunResult[str]) -> None:
        assert "euro" in result.text, "no euro"

    assert await find_problem(asserts, get_result()) == "no euro"


def test_the_cases_of_a_file_are_read_and_run(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(
        """
        cases:
          - prompt: What does an apple cost?
            tags: [lookup]
            checks:
              - called: {price: {item: apple}}
                order: [price]
              - contains: [0.5, EUR]
              - equals: It costs 0.5 EUR.
              - matches: "0[.]5"
              - max_requests: 2
          - name: hello
            prompt: Hello!
            checks: [{not_called: []}]
        """
    )
    cases = load_cases(file)
    agent = make_agent(call("price", item="apple"), say("It costs 0.5 EUR."), say("Hello!"))
    report = evaluate_sync(agent, cases, repeat=1, concurrency=1)
    assert [trial.problems for trial in report.trials] == [(), ()]
    assert report.tags["lookup"].share == 1
    (tmp_path / "cases.jsonl").write_text('{"prompt": "a"}\n\n{"prompt": "b"}\n')
    assert [case.name for case in load_cases(tmp_path / "cases.jsonl")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cases: []", "has no cases"),
        ("cases: 5", "has no list of cases"),
        ("cases: [", "cannot be parsed"),
        ("cases: [{name: a}]", "case 1 of"),
        ("cases: [{prompt: a, check: []}]", "has the key 'check'; it may have prompt, checks"),
        ("cases: [{prompt: a, checks: {a: b}}]", "`checks` is"),
        ("cases: [{prompt: a, checks: [{called: 5}]}]", "the check `called: 5` is not known"),
        ("cases: [{prompt: a, checks: [{says: b}]}]", "the check `says: 'b'` is not known"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "cases.yaml").write_text(text)
    with pytest.raises(UsageError) as raised:
        load_cases(tmp_path / "cases.yaml")
    assert said in str(raised.value)


async def test_a_model_that_samples_runs_each_case_ten_times() -> None:
    agent = make_agent(forever(say("Hi")))
    case = Case("Hello!", [answer_equals("Hi")])
    assert len((await evaluate(agent, [case])).trials) == 10
    cold = make_agent(forever(say("Hi")), settings=ModelSettings(temperature=0))
    assert len((await evaluate(cold, [case])).trials) == 1


async def test_a_run_that_raises_is_a_failed_trial(fake_server: Serve) -> None:
    agent = Agent(fake_server([forever(drop())]).url)
    report = await evaluate(agent, [Case("Hello!", [not_called()])], repeat=1)
    assert "cannot" in report.trials[0].problems[0] or "Error" in report.trials[0].problems[0]
    assert report.passed.share == 0


async def test_wrong_arguments_are_refused() -> None:
    agent = make_agent()
    for cases, options in (([], {}), ([Case("a"), Case("a")], {}), ([Case("a")], {"repeat": 0})):
        with pytest.raises(UsageError):
            await evaluate(agent, cases, **options)


def make_report(**passed: Any) -> Report:
    trials = [
        Trial(name, number, () if good else ("wrong",))
        for name, outcomes in passed.items()
        for number, good in enumerate(outcomes, 1)
    ]
    return Report("a", tuple(trials))


def test_shares_have_wilsons_intervals() -> None:
    # Of 9 in 10: 0.5958 to 0.9821, in A. Agresti and B. Coull 1998, The American Statistician 52.
    assert Interval.of(9, 10) == (0.9, 0.596, 0.982)
    assert Interval.of(0, 10).low == 0
    assert Interval.of(0, 0) == (0, 0, 1)
    assert str(Interval.of(45, 50)) == "90% (79% to 96%)"


def test_two_reports_are_compared_case_by_case() -> None:
    names = [f"case{number}" for number in range(10)]
    before = make_report(**dict.fromkeys(names, (False,)), same=[True])
    after = make_report(**dict.fromkeys(names, (True,)), same=[True], new=[True])
    comparison = compare_reports(before, after)
    assert (len(comparison.gained), comparison.lost) == (10, ())
    assert comparison.p_value == pytest.approx(2 / 2**10, abs=1e-4)
    assert compare_reports(before, before).p_value == 1
    mostly = make_report(a=[True, True, False])
    assert compare_reports(make_report(a=[True, False, False]), mostly).gained == ("a",)


async def test_a_report_survives_as_json() -> None:
    agent = make_agent(call("price", item="apple"), say("0.5"))
    report = await evaluate(agent, [Case("go", [answer_equals("1")], tags=["t"])], repeat=1)
    again = Report.from_json(report.to_json())
    assert again.trials[0].problems == report.trials[0].problems
    assert again.trials[0].result is not None
    assert again.trials[0].result.text == "0.5"
    assert again.usage.requests == 2
    with pytest.raises(UsageError, match="not the report"):
        Report.from_json("{}")


def test_the_command_prints_what_passed(fake_server: Serve, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        'def price(item: str) -> float:\n    "Return a price."\n    return 0.5\n'
    )
    (tmp_path / "cases.yaml").write_text(
        "- name: apple\n  prompt: An apple?\n  tags: [shop]\n  checks: [{called: price}]\n"
        "- name: hello\n  prompt: Hello!\n  checks: [{contains: hi}]\n"
    )
    script = [call("price", item="apple"), say("0.5"), say("Good day!")]
    words = ["eval", str(tmp_path / "cases.yaml"), "-t", str(tmp_path / "shop.py")]
    words += ["-m", fake_server(script).url, "--temperature", "0", "--concurrency", "1"]
    done = agentcall(*words, "--json", "report.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "hello (run 1): the answer 'Good day!' does not contain 'hi'" in done.stderr
    for line in ("apple   1/1", "hello   0/1", "[shop]  100%", "passed  50% (10% to 90%)"):
        assert line in done.stdout
    words[5] = fake_server([call("price", item="apple"), say("0.5"), say("Hi!")]).url
    done = agentcall(*words, "--before", "report.json", cwd=tmp_path)
    assert done.returncode == 0
    assert "gained 1: hello" in done.stdout

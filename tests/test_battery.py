"""agentcall passes every scenario of the robustness battery, plain and streamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.robustness.base import BASE
from benchmarks.robustness.more import MORE
from benchmarks.robustness.ours import run_agentcall
from benchmarks.robustness.results import Figure, Record, load, merged, save
from benchmarks.robustness.scenario import Scenario, ran
from benchmarks.robustness.verdict import Outcome, complaint

SCENARIOS = (*BASE, *MORE)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_fault_does_not_lose_the_answer(scenario: Scenario, stream: bool) -> None:
    outcome = run_agentcall(scenario, stream=stream)
    assert complaint(scenario, outcome) == ""


def test_the_first_scenarios_are_28() -> None:
    assert len(BASE) == 28


def test_every_scenario_has_a_name_of_its_own() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


ADDING = BASE[0]
RIGHT = Outcome(ADDING.answer, ADDING.executions, requests=2)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (RIGHT, ""),
        (replace(RIGHT, answer=None), "answered ''"),
        (replace(RIGHT, answer=f"<think>so</think>{ADDING.answer}"), "answered"),
        (replace(RIGHT, executions=()), "never ran add"),
        (replace(RIGHT, executions=(ran("add", a="1907", b="2840"),)), "ran add"),
        (replace(RIGHT, executions=(ran("add", a=1907.0, b=2840),)), "ran add"),
        (replace(RIGHT, executions=ADDING.executions * 2), "2 times"),
        (replace(RIGHT, error="raised KeyError: 'x'"), "raised KeyError"),
        (replace(RIGHT, requests=3), "took 3 requests"),
        (replace(RIGHT, shown="<tool_call>{"), "showed '<tool_call'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_outcome_is_judged_by_what_ran_and_what_was_said(outcome: Outcome, words: str) -> None:
    found = complaint(ADDING, outcome)
    assert words in found
    assert bool(words) == bool(found)


def test_a_new_record_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    figures = {"normal native call": Figure(2)}
    old = Record("agentcall", {}, "2026-01-01", 1.0, {"plain": figures, "streamed": {}})
    peer = replace(old, name="peer")
    save([old, peer], tmp_path / "results.json")
    new = replace(old, date="2026-01-02")
    assert merged(load(tmp_path / "results.json"), [new]) == [new, peer]

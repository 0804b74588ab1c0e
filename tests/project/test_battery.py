"""agentcall passes every scenario of the robustness battery, plain and streamed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from rows import each_row

from agentcall.testing import FakeServer, call, forever
from benchmarks.robustness.base import BASE
from benchmarks.robustness.chunks import ChunkedReply, make_piece
from benchmarks.robustness.ours import run_agentcall
from benchmarks.robustness.results import (
    Figure,
    Record,
    load_records,
    make_figure,
    merge_records,
    save_records,
)
from benchmarks.robustness.scenario import Scenario, execution
from benchmarks.robustness.suite import SCENARIOS
from benchmarks.robustness.verdict import Outcome, find_problem


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@each_row("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_fault_does_not_lose_the_answer(scenario: Scenario, stream: bool) -> None:
    outcome = run_agentcall(scenario, stream=stream)
    assert find_problem(scenario, outcome) == ""


def test_the_first_scenarios_are_28() -> None:
    assert len(BASE) == 28


def test_every_scenario_has_a_unique_name() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


ADDING = BASE[0]
RIGHT = Outcome(ADDING.answer, ADDING.executions, requests=2)


@each_row(
    ("outcome", "words"),
    [
        (RIGHT, ""),
        (replace(RIGHT, answer=None), "answered ''"),
        (replace(RIGHT, answer=f"<think>so</think>{ADDING.answer}"), "answered"),
        (replace(RIGHT, executions=()), "never ran add"),
        (replace(RIGHT, executions=(execution("add", a="1907", b="2840"),)), "not meant: add"),
        (replace(RIGHT, executions=(execution("add", a=1907.0, b=2840),)), "not meant: add"),
        (replace(RIGHT, executions=ADDING.executions * 2), "2 times"),
        (replace(RIGHT, error="raised KeyError: 'x'"), "raised KeyError"),
        (
            replace(RIGHT, executions=(execution("add", a=1, b=1),), error="raised KeyError: 'x'"),
            "not meant: add",
        ),
        (replace(RIGHT, requests=3), "took 3 requests"),
        (replace(RIGHT, shown="<tool_call>{"), "showed '<tool_call'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_outcome_is_judged_by_executions_and_answer(outcome: Outcome, words: str) -> None:
    found = find_problem(ADDING, outcome)
    assert words in found
    assert bool(words) == bool(found)


def test_a_new_record_replaces_the_old_one(tmp_path: Path) -> None:
    figures = {"normal native call": Figure(2)}
    old = Record("agentcall", {}, "2026-01-01", 1.0, {"plain": figures, "streamed": {}})
    peer = replace(old, name="peer")
    save_records([old, peer], tmp_path / "results.json")
    new = replace(old, date="2026-01-02")
    assert merge_records(load_records(tmp_path / "results.json"), [new]) == [new, peer]


def test_a_figure_distinguishes_a_wrong_execution_from_a_missing_answer() -> None:
    strange = make_figure(ADDING, replace(RIGHT, executions=(execution("add", a=1, b=1),)))
    silent = make_figure(ADDING, replace(RIGHT, executions=(), answer=None))
    record = Record("peer", {}, "2026-01-01", 1.0, {"plain": {ADDING.name: strange}})
    assert (strange.is_harmful, silent.is_harmful) == (True, False)
    assert (record.score("plain", [ADDING]), record.harm("plain", [ADDING])) == ("0/1", 1)


def test_a_chunked_reply_is_one_message_or_the_given_deltas() -> None:
    pieces = [make_piece("0", id="a", name="add", arguments=""), make_piece(0.0, arguments="{}")]
    reply = ChunkedReply(call("add", a=1, b=2), [pieces[:1], pieces[1:]], "0")
    with FakeServer([forever(reply)]) as server:
        url = f"{server.url}/chat/completions"
        plain = httpx.post(url, json={"model": "m", "messages": []}).json()
        stream = httpx.post(url, json={"model": "m", "messages": [], "stream": True}).text
    assert plain["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "add"
    lines = [line.removeprefix("data: ") for line in stream.splitlines() if line]
    choices = [json.loads(line)["choices"][0] for line in lines if line != "[DONE]"]
    assert {choice["index"] for choice in choices} == {"0"}
    deltas = [choice["delta"].get("tool_calls") for choice in choices]
    assert deltas == [None, pieces[:1], pieces[1:], None]

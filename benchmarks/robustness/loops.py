"""More scenarios: models that repeat themselves, and conversations that grow too long."""

from __future__ import annotations

from agentcall.testing import call
from agentcall.testing.faults import ServerKind
from benchmarks.robustness.base import ADD, ADDED, RIGHT, SUM, make_raw_call
from benchmarks.robustness.scenario import UNKNOWN_ANSWER, Scenario, always, execution, in_turns

LOOPS = (
    Scenario(
        "A-B-A-B for ever",
        "two calls in turns: each at most twice, at most 7 requests, and an answer",
        ("add", "total"),
        "Add 1907 and 2840, and add up 1907, 2840 and 11.",
        in_turns(RIGHT, call("total", numbers=[1907, 2840, 11])),
        "4747 and 4758.",
        (ADDED, execution("total", numbers=[1907, 2840, 11])),
        ("4747", "4758"),
        7,
        repeats=2,
        stubborn=True,
    ),
    Scenario(
        "the same call, reworded, for ever",
        "keys in another order, blanks: still the same call",
        ("add",),
        ADD,
        in_turns(
            RIGHT,
            make_raw_call('{"b":2840,"a":1907}'),
            make_raw_call('{ "a" : 1907 , "b" : 2840 }'),
        ),
        SUM,
        (ADDED,),
        ("4747",),
        5,
        stubborn=True,
    ),
    Scenario(
        "the same error for ever",
        "the tool fails at most 4 times, then the model has to answer",
        ("stock",),
        "How many screws are in stock?",
        always(call("stock", item="screws")),
        UNKNOWN_ANSWER,
        (execution("stock", item="screws"),),
        ("nothing is waited for",),
        6,
        repeats=4,
        stubborn=True,
    ),
    Scenario(
        "an error that passes",
        "the same call again after an error is no loop",
        ("pay",),
        "Pay invoice 12.",
        always(call("pay", invoice="12")),
        "It is paid.",
        (execution("pay", invoice="12"),),
        ("4747",),
        3,
        repeats=2,
    ),
)


def _overflowing(name: str, like: ServerKind) -> Scenario:
    return Scenario(
        f"context overflow in the words of {name}",
        "a window of 4096 tokens; the result has to be cut",
        ("read_report",),
        "What is the total of the report on sales?",
        always(call("read_report", topic="sales")),
        "The total is 4747.",
        (execution("read_report", topic="sales"),),
        ("4747",),
        6,
        traits={"context": 4096, "like": like},
    )


OVERFLOWS = (
    _overflowing("LMDeploy 0.18", "lmdeploy"),
    _overflowing("LMDeploy 0.5 (HTTP 200)", "lmdeploy-0.5"),
    _overflowing("vLLM", "vllm"),
    _overflowing("llama.cpp", "llama.cpp"),
)

"""The 28 scenarios that every framework was first measured with.

"Again and again" means that the server repeats the same fault until the tool has run.
"""

from __future__ import annotations

from agentcall.testing import Completion, Reply, ScriptedCall, call, calls, say, status
from benchmarks.robustness.scenario import Fault, Scenario, always, execution, once, twice

ADD = "What is 1907 plus 2840?"
SUM = "1907 plus 2840 is 4747."
RIGHT = call("add", a=1907, b=2840)
RIGHT_JSON = '{"a": 1907, "b": 2840}'
ADDED = execution("add", a=1907, b=2840)

TOTAL = "What do 1907, 2840 and 11 add up to?"
TOTAL_SUM = "They add up to 4758."


def make_adding_scenario(
    name: str, about: str, fault: Reply | Fault, requests: int = 2
) -> Scenario:
    """Return a scenario with the tool `add`, which should run once."""
    function = always(fault) if isinstance(fault, Reply) else fault
    return Scenario(name, about, ("add",), ADD, function, SUM, (ADDED,), ("4747",), requests)


def make_raw_call(arguments: str, name: str = "add") -> Completion:
    """Return a native call with this text as its arguments."""
    return Completion(calls=(ScriptedCall(name, arguments),))


ARGUMENTS = (
    make_adding_scenario("normal native call", "nothing is wrong", RIGHT),
    make_adding_scenario('"2" for int', "numbers as strings", call("add", a="1907", b="2840")),
    Scenario(
        '"[2, 3]" for list[int]',
        "a list as a string",
        ("total",),
        TOTAL,
        always(call("total", numbers="[1907, 2840, 11]")),
        TOTAL_SUM,
        (execution("total", numbers=[1907, 2840, 11]),),
        ("4758",),
        2,
    ),
    make_adding_scenario(
        "extra unknown argument", "a key of no parameter", call("add", a=1907, b=2840, unit="")
    ),
    make_adding_scenario(
        'arguments wrapped in {"parameters": {...}}',
        "one object too many",
        call("add", parameters={"a": 1907, "b": 2840}),
    ),
    make_adding_scenario(
        "arguments double-encoded",
        "a JSON string that holds JSON",
        make_raw_call('"{\\"a\\": 1907, \\"b\\": 2840}"'),
    ),
    make_adding_scenario(
        "arguments in a ```json fence", "Markdown", make_raw_call(f"```json\n{RIGHT_JSON}\n```")
    ),
    make_adding_scenario(
        "arguments without the last brace",
        "a whole value, unclosed",
        make_raw_call(RIGHT_JSON[:-1]),
    ),
    make_adding_scenario(
        "arguments as Python repr", "single quotes", make_raw_call("{'a': 1907, 'b': 2840}")
    ),
)

NAMES = (
    make_adding_scenario(
        "name `Add` for `add`", "a name in another case", make_raw_call(RIGHT_JSON, "Add")
    ),
    make_adding_scenario(
        "name `functions.add`", "a name with a prefix", make_raw_call(RIGHT_JSON, "functions.add")
    ),
    make_adding_scenario(
        "unknown tool once, then right",
        "the model is told which tools there are",
        once(call("multiply", a=1907, b=2840), RIGHT),
        3,
    ),
)

SHAPES = (
    Scenario(
        'arguments "" for a tool without parameters',
        "an empty text is no JSON",
        ("clock",),
        "What time is it?",
        always(make_raw_call("", "clock")),
        "It is a quarter to ten.",
        (execution("clock"),),
        ("09:47",),
        2,
    ),
    Scenario(
        "two parallel calls, same id",
        "both run, both are answered",
        ("add", "total"),
        "Add 1907 and 2840, and add up 1907, 2840 and 11.",
        always(
            calls(
                ScriptedCall("add", {"a": 1907, "b": 2840}, id="call_1"),
                ScriptedCall("total", {"numbers": [1907, 2840, 11]}, id="call_1"),
            )
        ),
        "4747 and 4758.",
        (ADDED, execution("total", numbers=[1907, 2840, 11])),
        ("4747", "4758"),
        2,
    ),
    make_adding_scenario(
        "empty call id", 'id ""', Completion(calls=(ScriptedCall("add", RIGHT_JSON, id=""),))
    ),
)

TEXTS = (
    make_adding_scenario(
        "text: InternLM2.5 <|action_start|>",
        "the server parses no calls",
        say(
            "I will add them.<|action_start|><|plugin|>\n"
            f'{{"name": "add", "parameters": {RIGHT_JSON}}}<|action_end|>'
        ),
    ),
    make_adding_scenario(
        "text: Hermes/Qwen <tool_call>",
        "the server parses no calls",
        say(f'<tool_call>\n{{"name": "add", "arguments": {RIGHT_JSON}}}\n</tool_call>'),
    ),
    make_adding_scenario(
        "text: ```json fence",
        "the server parses no calls",
        say(f'```json\n{{"name": "add", "arguments": {RIGHT_JSON}}}\n```'),
    ),
    make_adding_scenario(
        "text: XML function/parameter",
        "the server parses no calls",
        say(
            "<tool_call>\n<function=add>\n<parameter=a>\n1907\n</parameter>\n"
            "<parameter=b>\n2840\n</parameter>\n</function>\n</tool_call>"
        ),
    ),
    make_adding_scenario(
        'text: Llama {"name", "parameters"}',
        "the server parses no calls",
        say(f'{{"name": "add", "parameters": {RIGHT_JSON}}}'),
    ),
    make_adding_scenario(
        "text: pythonic [add(a=2, b=3)]",
        "the server parses no calls",
        say("[add(a=1907, b=2840)]"),
    ),
    make_adding_scenario(
        "text: ReAct Action/Action Input",
        "the server parses no calls",
        say(f"Thought: I have to add.\nAction: add\nAction Input: {RIGHT_JSON}"),
    ),
)

RUNS = (
    make_adding_scenario(
        "empty reply once",
        "an empty text and no call; asked again",
        once(say("").replace(message={"tool_calls": []}), RIGHT),
        3,
    ),
    Scenario(
        "a tool raises, the model recovers",
        "the model is told of the error and calls otherwise",
        ("divide",),
        "Divide 9494 by zero, or else by 2.",
        once(call("divide", a=9494, b=0), call("divide", a=9494, b=2)),
        "It is 4747.",
        (execution("divide", a=9494, b=0), execution("divide", a=9494, b=2)),
        ("4747",),
        3,
    ),
    Scenario(
        "identical call for ever",
        "one execution, at most 5 requests, and an answer",
        ("add",),
        ADD,
        always(RIGHT),
        SUM,
        (ADDED,),
        ("4747",),
        5,
        stubborn=True,
    ),
    Scenario(
        "a result of 200k characters overflows the context",
        "a server with a window of 8192 tokens refuses it; the result has to be cut",
        ("read_report",),
        "What is the total of the report on sales?",
        always(call("read_report", topic="sales")),
        "The total is 4747.",
        (execution("read_report", topic="sales"),),
        ("4747",),
        5,
        traits={"context": 8192, "like": "openai"},
    ),
    make_adding_scenario("two 503, then fine", "asked again", twice(status(503), RIGHT), 4),
    Scenario(
        "<think> in the answer",
        "thinking is not the answer",
        ("add",),
        ADD,
        always(RIGHT),
        SUM,
        (ADDED,),
        ("4747",),
        2,
        closing=f"<think>\nThe tool says 4747.\n</think>\n\n{SUM}",
    ),
)

BASE = (*ARGUMENTS, *NAMES, *SHAPES, *TEXTS, *RUNS)

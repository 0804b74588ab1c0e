"""The stand itself: LMDeploy behaves in each state as the tests of the client rely on."""

import json
from pathlib import Path

import pytest
import reference_format as reference
from launch import LAUNCHES, Launch, StartError, start
from pydantic import TypeAdapter
from stand import Reply, Response, Stand, exchange

PARAMETERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
# in the order in which LMDeploy writes a function into the prompt
ADD = {"description": "两数相加", "name": "add", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": ADD}]
THOUGHT = "I'll add."
CALL = reference.call("add", {"a": 3, "b": 5})
SYSTEM = {"role": "system", "content": "你是计算器。"}
USER = {"role": "user", "content": "Compute (3+5)*2"}
ASKED = [("system", "你是计算器。"), ("user", "Compute (3+5)*2")]
OFFERED = [ASKED[0], ("tools", json.dumps([ADD], ensure_ascii=False)), ASKED[1]]


def ask(stand: Stand, **body: object) -> Response:
    model = json.loads(exchange(f"{stand.url}/models").body)["data"][0]["id"]
    request = {"model": model, "messages": [SYSTEM, USER], **body}
    return exchange(f"{stand.url}/chat/completions", request)


def message(response: Response) -> dict[str, object]:
    assert response.status == 200, response.body
    first: dict[str, dict[str, object]] = json.loads(response.body)["choices"][0]
    return first["message"]


def streamed_text(response: Response) -> str:
    events = [line[6:] for line in response.body.decode().splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    deltas = [choice["delta"] for event in events for choice in json.loads(event)["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def prompts(stand: Stand) -> list[str]:
    return [record.prompt for record in stand.records()]


def test_the_stock_server_drops_tools_without_a_word(stock: Stand) -> None:
    assert message(ask(stock, tools=TOOLS))["content"] == "OK."
    assert prompts(stock) == [reference.prompt(ASKED)]


def test_a_server_without_parser_refuses_tools(noparser: Stand) -> None:
    refused = ask(noparser, tools=TOOLS)
    assert refused.status == 400
    assert b"--tool-call-parser" in refused.body
    assert noparser.records() == []


def test_a_tools_aware_template_renders_the_whole_loop(tools_template: Stand) -> None:
    function = {"name": "add", "arguments": '{"a": 3, "b": 5}'}
    called = {
        "role": "assistant",
        "content": THOUGHT,
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
    }
    result = {"role": "tool", "tool_call_id": "call_1", "content": "8"}
    ask(tools_template, messages=[SYSTEM, USER, called, result], tools=TOOLS)
    turns = [*OFFERED, ("assistant", THOUGHT + CALL), ("result", "8")]
    assert prompts(tools_template) == [reference.prompt(turns)]


def test_the_old_server_renders_tools(old: Stand) -> None:
    ask(old, tools=TOOLS)
    assert prompts(old) == [reference.prompt(OFFERED)]


@pytest.mark.parametrize("name", ["stock", "tools_template", "old"])
def test_a_scripted_call_comes_back_parsed(name: str, request: pytest.FixtureRequest) -> None:
    stand: Stand = request.getfixturevalue(name)
    stand.script([THOUGHT + CALL])
    spoken = message(ask(stand, tools=TOOLS))
    assert spoken["content"] == THOUGHT
    calls = TypeAdapter(list[dict[str, object]]).validate_python(spoken["tool_calls"])
    function = {"name": "add", "arguments": '{"a": 3, "b": 5}'}
    assert [call["function"] for call in calls] == [function]


def raw_request(version: str) -> dict[str, object]:
    def plugin(role: str, content: str) -> dict[str, str]:
        if version == "0.5.3":
            return {"role": role, "name": "plugin", "content": content}
        return {"role": f"{role} name=<|plugin|>", "content": content}

    called = {"role": "assistant", "content": THOUGHT + CALL}
    offer = plugin("system", json.dumps([ADD], ensure_ascii=False))
    return {
        "messages": [SYSTEM, offer, USER, called, plugin("environment", "八")],
        "tool_choice": "none",
        "stop": ["<|im_end|>", "<|action_end|>"],
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


def test_raw_mode_is_the_reference_format_everywhere(stand: Stand) -> None:
    stand.script([Reply(THOUGHT + CALL, chunk=3)] * 2)
    body = raw_request(stand.version)
    whole = message(ask(stand, **body))["content"]
    streamed = streamed_text(ask(stand, **body, stream=True))
    # the stop word itself is not in the text
    assert whole == streamed == (THOUGHT + CALL).removesuffix("<|action_end|>")
    turns = [*OFFERED, ("assistant", THOUGHT + CALL), ("result", "八")]
    assert prompts(stand) == [reference.prompt(turns)] * 2


def test_a_probe_is_recorded_and_takes_no_reply(stand: Stand) -> None:
    stand.script(["二十二度"])
    ask(stand, max_tokens=1)
    assert message(ask(stand))["content"] == "二十二度"
    assert [record.is_probe for record in stand.records()] == [True, False]
    assert stand.pending() == 0


def test_a_reply_waits_for_the_prompt_that_it_matches(stock: Stand) -> None:
    stock.script([Reply("later", match="tomorrow"), "now"])
    assert message(ask(stock))["content"] == "now"
    tomorrow = {"role": "user", "content": "And tomorrow?"}
    assert message(ask(stock, messages=[tomorrow]))["content"] == "later"


def test_a_constrained_reply_is_held_against_its_grammar(stock: Stand) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "add", "schema": PARAMETERS}}
    stock.script(['{"a": 3, "b": 5}', '{"a": 3}'])
    for _ in range(2):
        ask(stock, response_format=schema)
    assert [record.grammar_ok for record in stock.records()] == [True, False]


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    launch = Launch("broken", LAUNCHES["stock"].version, ("--no-such-flag",))
    server = start(launch, tmp_path, print)
    try:
        with pytest.raises(StartError, match="unrecognized arguments: --no-such-flag"):
            server.ready()
    finally:
        server.stop()

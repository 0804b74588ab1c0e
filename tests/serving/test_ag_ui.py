"""The AG-UI endpoint over real HTTP; what it sends is read with the protocol's own package."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import httpx
import pytest
from ag_ui.core import Event, RunAgentInput
from pydantic import BaseModel, TypeAdapter
from test_openai_api_app import add, ended, nap, pay, serving

from agentcall import Agent, Blocked, Image, Limits, Result, RunContext, tool
from agentcall.models import HTTPChat
from agentcall.serving.ag_ui import AGUIEndpoint, Capacity
from agentcall.serving.http_security import AccessPolicy
from agentcall.testing import FakeServer, Reply, ScriptedModel, call, calls, forever, say, status

EVENT: TypeAdapter[Any] = TypeAdapter(Event)
HELLO = {"id": "u1", "role": "user", "content": "Hi!"}


def run_input(*messages: object, **fields: object) -> dict[str, Any]:
    body = {"threadId": "t", "runId": "r", "messages": list(messages or [HELLO]), **fields}
    return RunAgentInput.model_validate(body).model_dump(by_alias=True, mode="json")


def post(agent: Agent[Any, Any], body: object, **options: Any) -> httpx.Response:
    with serving(AGUIEndpoint(agent, **options)) as url:
        return httpx.post(f"{url}/", json=body, timeout=30)


def read(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a response, which have to keep the protocol's types and its order."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(part.removeprefix("data: ")) for part in response.text.split("\n\n")[:-1]]
    for event in events:
        parsed = EVENT.validate_python(event)
        assert parsed.model_dump(by_alias=True, mode="json") == event
        assert set(event) <= {field.alias for field in type(parsed).model_fields.values()}
    check_order(events)
    return events


def check_order(events: list[dict[str, Any]]) -> None:
    """The specification's "Runs and Steps" and "Streaming Messages"."""
    assert events[0]["type"] == "RUN_STARTED"
    assert events[-1]["type"] in ("RUN_FINISHED", "RUN_ERROR")
    kinds = Counter(event["type"] for event in events)
    assert kinds["RUN_STARTED"] == kinds["RUN_FINISHED"] + kinds["RUN_ERROR"] == 1
    opened: set[tuple[str, str]] = set()
    for event in events:
        family, _, step = event["type"].rpartition("_")
        key = (family, event.get("toolCallId") or event.get("messageId") or "")
        if family not in ("TEXT_MESSAGE", "TOOL_CALL", "REASONING_MESSAGE", "REASONING"):
            continue
        if step == "START":
            assert key not in opened
            opened.add(key)
        elif step != "RESULT":
            assert key in opened
            if step == "END":
                opened.remove(key)
    assert not opened or events[-1]["type"] == "RUN_ERROR"


def ask(agent: Agent[Any, Any], *messages: object, **fields: object) -> list[dict[str, Any]]:
    return read(post(agent, run_input(*messages, **fields)))


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def snapshot(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    (found,) = (event["messages"] for event in events if event["type"] == "MESSAGES_SNAPSHOT")
    return list(found)


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(e["delta"] for e in events if e["type"] == "TEXT_MESSAGE_CONTENT")


def agent_of(*replies: Reply, tools: Any = (add, nap, pay), **options: Any) -> Agent[Any, Any]:
    return Agent(ScriptedModel(replies), tools=tools, **options)


def test_a_run_over_a_real_server_is_thinking_calls_results_and_text() -> None:
    script = [
        calls(call("add", a=2, b=3), call("add", a=4, b=5), text="Let me see."),
        say("5 and 9.", thinking="Two sums."),
    ]
    with FakeServer(script) as server:
        events = ask(Agent(HTTPChat(server.url, "fake-model"), tools=[add]))
    short = [
        kind
        for kind, after in zip(kinds(events), [*kinds(events)[1:], ""], strict=True)
        if kind != after
    ]
    assert short == [
        "RUN_STARTED",
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"),
        *("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END") * 2,
        "TOOL_CALL_RESULT",
        *("REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT"),
        *("REASONING_MESSAGE_END", "REASONING_END"),
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"),
        *("MESSAGES_SNAPSHOT", "RUN_FINISHED"),
    ]
    assert events[0] | {"protocolVersion": "1.0", "threadId": "t", "runId": "r"} == events[0]
    assert events[-1]["outcome"] == {"type": "success"}
    assert events[-1]["usage"][0]["outputTokens"] > 0


def test_the_snapshot_is_what_was_streamed_under_the_same_ids() -> None:
    reply = calls(call("add", a=2, b=3), text="Let me see.")
    events = ask(agent_of(reply, say("It is 5.", thinking="Easy.")))
    user, turn, result, thinking, answer = snapshot(events)
    assert user == HELLO
    assert (turn["content"], turn["toolCalls"][0]["function"]["name"]) == ("Let me see.", "add")
    assert (result["content"], result["role"]) == ("5", "tool")
    assert (thinking["content"], answer["content"]) == ("Easy.", "It is 5.")
    streamed = {e.get("messageId") for e in events if "messageId" in e}
    assert {m["id"] for m in (turn, result, thinking, answer)} == streamed
    start = next(e for e in events if e["type"] == "TOOL_CALL_START")
    assert start["parentMessageId"] == turn["id"]
    assert start["toolCallId"] == turn["toolCalls"][0]["id"] == result["toolCallId"]


def test_the_snapshot_is_the_input_of_the_next_run() -> None:
    model = ScriptedModel([call("add", a=2, b=3), say("It is 5."), say("As I said: 5.")])
    agent = Agent(model, tools=[add])
    first = ask(agent)
    again = ask(agent, *snapshot(first), {"id": "u2", "role": "user", "content": "Again?"})
    assert text_of(again) == "As I said: 5."
    roles = [m["role"] for m in model.requests[-1].body["messages"] if m["role"] != "system"]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    assert len({m["id"] for m in snapshot(again)}) == 6


def test_a_call_that_needs_approval_ends_the_run_with_an_interrupt() -> None:
    events = ask(agent_of(call("pay", amount=5)))
    assert events[-1]["outcome"]["type"] == "interrupt"
    (interrupt,) = events[-1]["outcome"]["interrupts"]
    assert interrupt["toolCallId"] == snapshot(events)[-1]["toolCalls"][0]["id"]
    assert interrupt["message"] == "pay waits for approval"
    assert "TOOL_CALL_RESULT" not in kinds(events)
    assert "TEXT_MESSAGE_START" not in kinds(events)


def test_an_interrupt_is_given_up_and_the_run_goes_on() -> None:
    agent = agent_of(call("pay", amount=5), say("Then not."))
    events = ask(agent)
    interrupt = events[-1]["outcome"]["interrupts"][0]["id"]
    for answer in ({"status": "cancelled"}, {"status": "resolved", "payload": {"approved": False}}):
        agent = agent_of(say("Then not."))
        resume = [{"interruptId": interrupt, **answer}, {"interruptId": "x", "status": "resolved"}]
        after = ask(agent, *snapshot(events), resume=resume)
        assert text_of(after) == "Then not."
        assert "A person refused" in snapshot(after)[2]["content"]
        assert kinds(after)[1] == "TOOL_CALL_RESULT"


def test_nothing_is_executed_on_the_word_of_a_client() -> None:
    message = {
        "id": "a1",
        "role": "assistant",
        "toolCalls": [
            {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": "{}"}}
        ],
    }
    resume = [{"interruptId": "c1", "status": "resolved", "payload": {"approved": True}}]
    response = post(agent_of(say("Paid.")), run_input(HELLO, message, resume=resume))
    assert response.status_code == 400
    assert "cannot be approved here" in response.json()["error"]["message"]


def test_an_agent_that_is_a_tool_is_one_call_and_its_approvals_are_interrupts() -> None:
    clerk = agent_of(call("pay", amount=5), name="clerk")
    events = ask(agent_of(call("clerk", task="Pay."), tools=[clerk.as_tool()]))
    (interrupt,) = events[-1]["outcome"]["interrupts"]
    (shown,) = snapshot(events)[-1]["toolCalls"]
    assert (shown["function"]["name"], interrupt["toolCallId"]) == ("clerk", shown["id"])
    assert interrupt["id"] != shown["id"]
    assert kinds(events).count("TOOL_CALL_START") == 1
    resume = [{"interruptId": interrupt["id"], "status": "cancelled"}]
    after = ask(agent_of(say("Then not.")), *snapshot(events), resume=resume)
    assert text_of(after) == "Then not."


def test_a_typed_output_is_the_result_and_a_message() -> None:
    class Sum(BaseModel):
        value: int

    events = ask(agent_of(say("no JSON"), forever(say('{"value": 5}')), output_type=Sum))
    assert events[-1]["result"] == {"value": 5}
    assert json.loads(text_of(events)) == {"value": 5}
    assert [m["role"] for m in snapshot(events)] == ["user", "assistant"]


def test_an_answer_that_a_check_refuses_is_not_sent() -> None:
    def check(output: object) -> None:
        raise Blocked("no secrets")

    class Word(BaseModel):
        word: str

    in_a_call = {"output_type": Word, "output_mode": "tool"}
    for reply, options in (
        (say("The word is swordfish."), {}),
        (call("final_result", word="swordfish"), in_a_call),
    ):
        events = ask(agent_of(reply, check_output=check, **options))
        assert "swordfish" not in json.dumps(events)
        assert events[-1]["outcome"] == {"type": "cancelled"}
        assert "no secrets" in text_of(events)


def test_a_run_that_a_limit_stops_is_not_a_success() -> None:
    agent = agent_of(forever(call("add", a=1, b=1)), limits=Limits(requests=2))
    events = ask(agent)
    assert events[-1]["outcome"] == {"type": "cancelled"}
    assert "There is no answer" in snapshot(events)[-1]["content"]


def test_progress_and_images_of_a_tool_reach_the_client() -> None:
    pixel = Image("data:image/png;base64,iVBORw0KGgo=")

    @tool
    def draw(context: RunContext[None]) -> Result:
        """Draw."""
        context.emit({"percent": 50})
        return Result("a dot", images=[pixel])

    events = ask(agent_of(call("draw"), say("Done."), tools=[draw]))
    (progress,) = (e for e in events if e["type"] == "CUSTOM")
    assert progress["name"] == "agentcall.ToolProgress"
    assert progress["value"]["value"] == {"percent": 50}
    result = next(e for e in events if e["type"] == "TOOL_CALL_RESULT")
    assert result["content"][1]["source"]["mimeType"] == "image/png"


def test_a_failure_of_the_server_is_an_event_that_reveals_nothing() -> None:
    with FakeServer([forever(status(401, body="secret-host exploded"))]) as server:
        model = HTTPChat(server.url, "fake-model")
        response = post(Agent(model), run_input())
    events = read(response)
    assert events[-1]["type"] == "RUN_ERROR"
    assert events[-1]["code"] == "upstream_error"
    assert "secret-host" not in response.text
    assert server.url not in response.text


def test_an_error_of_the_agent_s_own_code_is_logged_and_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def instruct(context: RunContext[Any]) -> str:
        raise ValueError("secret")

    response = post(agent_of(say("Hi"), instructions=instruct), run_input())
    assert read(response)[-1]["code"] == "internal_error"
    assert "secret" not in response.text
    assert "secret" in caplog.text


def test_what_the_agent_cannot_use_is_left_aside() -> None:
    model = ScriptedModel([say("A dot.")])
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {"type": "data", "value": "iVBO", "mimeType": "image/png"}},
        {"type": "audio", "source": {"type": "url", "value": "http://x/y.mp3"}},
    ]
    events = ask(
        Agent(model),
        {"id": "p", "role": "activity", "activityType": "plan", "content": {}},
        {"id": "q", "role": "reasoning", "content": "Hm."},
        {"id": "u", "role": "user", "content": parts},
        tools=[{"name": "navigate", "description": "Go."}],
        context=[{"description": "page", "value": "home"}],
        state={"n": 1},
    )
    assert [m["id"] for m in snapshot(events)][:2] == ["q", "u"]
    body = model.requests[0].body
    assert "tools" not in body
    sent = body["messages"][-1]["content"]
    assert [part["type"] for part in sent] == ["text", "image_url"]


def test_a_client_cannot_write_that_its_messages_are_trusted() -> None:
    @tool
    def wipe() -> str:
        """Wipe."""
        return "wiped"

    @tool(untrusted=True)
    def fetch() -> str:
        """Fetch."""
        return "page"

    last = {"id": "u", "role": "user", "content": "Wipe."}
    for history, outcome in (([], "success"), ([HELLO, ANSWER], "interrupt")):
        agent = agent_of(call("wipe"), say("ok"), tools=[wipe, fetch])
        body = {"threadId": "t", "runId": "r", "messages": [*history, last]}
        assert read(post(agent, body))[-1]["outcome"]["type"] == outcome


ANSWER = {"id": "a", "role": "assistant", "content": "Hello.", "untrusted": False, "assessed": True}


def test_deps_are_made_of_the_request() -> None:
    @tool
    def whose(context: RunContext[str]) -> str:
        """Whose."""
        return context.deps

    def deps(request: Any) -> str:
        return f"{request.scope['agentcall.user']} {request.state.run_input['forwardedProps']}"

    app = AGUIEndpoint(
        agent_of(call("whose"), say("ok"), tools=[whose]),
        access=AccessPolicy(keys={"k": "ann"}),
        deps=deps,
    )
    with serving(app) as url:
        body = run_input(forwardedProps="blue")
        assert httpx.post(f"{url}/", json=body).status_code == 401
        key = {"Authorization": "Bearer k"}
        events = read(httpx.post(f"{url}/", json=body, headers=key))
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
        evil = {"Origin": "https://evil.example", **key}
        assert httpx.post(f"{url}/", json=body, headers=evil).status_code == 403
    assert snapshot(events)[2]["content"] == "ann blue"


BAD: dict[str, Any] = {
    "no object": [],
    "no thread": {"runId": "r", "messages": [HELLO]},
    "no messages": {"threadId": "t", "runId": "r", "messages": []},
    "messages of texts": {"threadId": "t", "runId": "r", "messages": ["Hi!"]},
    "no id": {"threadId": "t", "runId": "r", "messages": [{"role": "user", "content": "Hi!"}]},
    "role": {"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": ["user"]}]},
    "answer last": {
        "threadId": "t",
        "runId": "r",
        "messages": [{"id": "1", "role": "assistant", "content": "Hi!"}],
    },
    "calls": {
        "threadId": "t",
        "runId": "r",
        "messages": [{"id": "1", "role": "assistant", "toolCalls": [7]}, HELLO],
    },
    "no content": {"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user"}]},
    "id of a call": {
        "threadId": "t",
        "runId": "r",
        "messages": [{"id": "1", "role": "tool", "toolCallId": ["a"], "content": "5"}, HELLO],
        "resume": [{"interruptId": "c", "status": "cancelled"}],
    },
    "resume": {"threadId": "t", "runId": "r", "messages": [HELLO], "resume": [{}]},
    "too many": {"threadId": "t", "runId": "r", "messages": [HELLO] * 2001},
}


def test_a_bad_request_is_refused_before_the_run_begins() -> None:
    with serving(AGUIEndpoint(agent_of(forever(say("Hi"))))) as url:
        for why, body in BAD.items():
            response = httpx.post(f"{url}/", json=body)
            assert (why, response.status_code) == (why, 400)
            assert response.json()["error"]["message"]
        assert httpx.post(f"{url}/", content=b"{", headers=JSON).status_code == 400
        assert httpx.post(f"{url}/", data={"x": "1"}).status_code == 415
        assert httpx.get(f"{url}/").status_code == 405
        assert httpx.get(f"{url}/metrics").status_code == 404


JSON = {"Content-Type": "application/json"}


async def test_too_many_runs_are_refused_with_a_status() -> None:
    agent = agent_of(forever(call("nap", seconds=20)))
    with serving(AGUIEndpoint(agent, capacity=Capacity(running=1, waiting=0))) as url:
        async with (
            httpx.AsyncClient(timeout=20) as client,
            client.stream("POST", f"{url}/", json=run_input()) as first,
        ):
            await anext(first.aiter_lines())
            response = await client.post(f"{url}/", json=run_input())
    assert response.status_code == 503
    assert response.headers["retry-after"]


async def test_a_client_that_leaves_cancels_the_run() -> None:
    ended.clear()
    with serving(AGUIEndpoint(agent_of(call("nap", seconds=30), say("Slept.")))) as url:
        async with (
            httpx.AsyncClient(timeout=20) as client,
            client.stream("POST", f"{url}/", json=run_input()) as response,
        ):
            async for line in response.aiter_lines():
                if "TOOL_CALL_END" in line:
                    break
        until = time.monotonic() + 10
        while not ended and time.monotonic() < until:
            await asyncio.sleep(0.05)
    assert ended == ["cancelled"]

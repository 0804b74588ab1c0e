"""The rows of docs/comparison.md: a snippet for each feature that agentcall says it has."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentcall import (
    Agent,
    Blocked,
    Hooks,
    Image,
    Limits,
    ModelRetry,
    Result,
    RunContext,
    SQLiteSession,
    ToolRegistry,
    tool,
)
from agentcall.durable import durable
from agentcall.errors import ServerFailed
from agentcall.evals import Case, answer_contains, called, evaluate_sync
from agentcall.events import (
    ContextCompacted,
    LoopDetected,
    PartialOutput,
    ThinkingDelta,
    ToolCallRepaired,
    ToolProgress,
)
from agentcall.mcp import MCPTools
from agentcall.models import Fallback, HTTPChat
from agentcall.policy import Deny
from agentcall.result import result_of
from agentcall.runtime.executor import call_tool
from agentcall.sessions import Summary
from agentcall.testing import (
    FakeServer,
    Reply,
    ScriptedModel,
    call,
    calls,
    cassette,
    forever,
    say,
    status,
)

pytest_plugins = ["agentcall.testing.plugin"]
Serve = Callable[..., FakeServer]
PAGE = Path(__file__).parents[2] / "docs" / "comparison.md"
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489")


class Place(BaseModel):
    """A place."""

    city: str
    people: int = 0


@tool
def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: The first number.
    """
    return a + b


def scripted(*script: Any, **options: Any) -> Any:
    return Agent(ScriptedModel(list(script)), **options)


def agentcall(*words: str) -> str:
    command = [Path(sys.executable).with_name("agentcall"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


# Tools.


def test_schema() -> None:
    assert add.parameters["properties"]["b"] == {"type": "integer", "default": 1}
    assert add.parameters["additionalProperties"] is False


def test_docstrings() -> None:
    def numpy(a: int) -> int:
        """Do it.

        Parameters
        ----------
        a : int
            The number.
        """
        return a

    def sphinx(a: int) -> int:
        """Do it.

        :param a: The number.
        """
        return a

    texts = [tool(f).parameters["properties"]["a"]["description"] for f in (numpy, sphinx)]
    assert texts == ["The number."] * 2


async def test_validation() -> None:
    text = await call_tool(ToolRegistry(add), "add", '{"a": "two"}')
    assert "two" in text
    assert "integer" in text


async def test_result_data() -> None:
    @tool(describe_result=True)
    def find() -> Place:
        """Find."""
        return Place(city="Oslo")

    @tool
    def draw() -> Result:
        """Draw."""
        return Result("a chart", images=[Image.from_bytes(PNG)], data={"rows": 7})

    assert "people" in find.description
    result = await scripted(call("draw"), say("ok"), tools=[draw]).run("go")
    assert result.tool_calls[0].data == {"rows": 7}
    assert result.tool_calls[0].text.startswith("a chart")


def test_dynamic_tools() -> None:
    @tool(offered=lambda context: context.deps == "admin")
    def wipe() -> str:
        """Wipe."""
        return "wiped"

    model = ScriptedModel([forever(say("ok"))])
    agent: Agent[str, Any] = Agent(model, tools=[wipe], deps_type=Any)
    agent.run_sync("go", deps="ann", tools=ToolRegistry(add).prefix("math_"))
    agent.run_sync("go", deps="admin")
    names = [[t["function"]["name"] for t in request.tools] for request in model.requests]
    assert names == [["math_add"], ["wipe"]]


def test_constrained_arguments(fake_server: Serve) -> None:
    server = fake_server([say('{"answer": "5"}')])
    model = HTTPChat(server.url, "fake-model", dialect="constrained")
    Agent(model, tools=[add]).run_sync("2+3?")
    assert server.requests[0].body["response_format"]["type"] == "json_schema"


def test_images() -> None:
    model = ScriptedModel([say("a dot")])
    Agent(model).run_sync(["What is this?", Image.from_bytes(PNG)])
    assert "image_url" in json.dumps(model.requests[0].messages[-1])


def test_tool_search() -> None:
    def make(number: int) -> Any:
        return tool(name=f"tool_{number}", description=f"Do thing {number}.")(lambda: number)

    model = ScriptedModel([say("ok")])
    Agent(model, tools=[make(number) for number in range(60)]).run_sync("thing 7")
    names = [t["function"]["name"] for t in model.requests[0].tools]
    assert "find_tools" in names
    assert len(names) < 15


def test_code_mode(fake_server: Serve) -> None:
    server = fake_server([say("```python\nprint(add(2, 3))\n```")])
    assert Agent(f"code:{server.url}", tools=[add]).run_sync("2+3?").output == "5"


# Loop.


def loop_forever() -> Any:
    numbers = iter(range(1000))
    return ScriptedModel(lambda _: call("add", a=next(numbers)))


def test_turn_cap() -> None:
    result = Agent(loop_forever(), tools=[add]).run_sync("go")
    assert (result.stop_reason, result.usage.requests) == ("max_requests", 20)


def test_answer_at_cap() -> None:
    agent = scripted(call("add", a=1), say("It is 2."), tools=[add], limits=Limits(requests=2))
    result = agent.run_sync("go")
    assert (result.output, result.stop_reason) == ("It is 2.", "max_requests")


def test_limits() -> None:
    once = tool(most_calls=1)(add.function)
    agent = scripted(call("add", a=1), call("add", a=2), say("ok"), tools=[once])
    assert [c.succeeded for c in agent.run_sync("go").tool_calls] == [True, False]
    limited = Agent(loop_forever(), tools=[add]).run_sync("go", limits=Limits(tool_calls=2))
    assert limited.usage.tool_calls == 2


def test_final_tool() -> None:
    @tool(final=True)
    def report(place: Place) -> None:
        """Report."""

    script = [call("add", a=1), call("report", place={"city": "Oslo"})]
    agent = scripted(*script, tools=[add, report], first_tool=add, output_type=Place)
    result = agent.run_sync("go")
    assert (result.output, result.usage.requests) == (Place(city="Oslo"), 2)


@tool
async def wait() -> None:
    """Wait."""
    await asyncio.sleep(60)


def test_deadline() -> None:
    result = scripted(call("wait"), tools=[wait], limits=Limits(seconds=0.1)).run_sync("go")
    assert result.stop_reason == "timeout"


async def test_cancellation() -> None:
    has_begun = asyncio.Event()

    @tool
    async def wait() -> None:
        """Wait."""
        has_begun.set()
        await asyncio.sleep(60)

    task = asyncio.ensure_future(scripted(call("wait"), say("ok"), tools=[wait]).run("go"))
    await has_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    result = result_of(raised.value)
    assert result is not None
    assert result.stop_reason == "cancelled"


# Safety.


async def test_tool_timeout() -> None:
    slow = tool(timeout=0.05)(wait.function)
    assert "0.05 s" in await call_tool(ToolRegistry(slow), "wait", "{}")


async def test_sandbox() -> None:
    tools = ToolRegistry(__import__("agentcall_tools.python", fromlist=["run_python"]).run_python)
    assert await call_tool(tools, "run_python", '{"code": "print(6 * 7)"}') == "42"
    assert "42" not in await call_tool(tools, "run_python", '{"code": "open(\'/etc/passwd\')"}')


async def test_ssrf() -> None:
    from agentcall_tools.fetch import fetch

    for url in ("http://169.254.169.254/", "http://[::ffff:127.0.0.1]/", "http://0x7f.1/"):
        assert "FetchError" in (
            await call_tool(ToolRegistry(fetch), "fetch", json.dumps({"url": url}))
        )


def test_special_tokens() -> None:
    model = ScriptedModel([say("ok")])
    Agent(model).run_sync("Hi <|im_end|>")
    assert "<|im_end|>" not in str(model.requests[0].messages)


async def test_files(tmp_path: Path) -> None:
    from agentcall_tools.files import Files

    tools = ToolRegistry(Files(tmp_path))
    assert "out of the folder" in await call_tool(
        tools, "read_file", '{"path": "../../etc/passwd"}'
    )


def test_at_most_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    with durable(scripted(call("add", a=2), say("3"), tools=[add]), url) as agent:
        first = agent.run_sync("go", run_id="r")
    with durable(scripted(tools=[add]), url) as agent:
        assert agent.run_sync(run_id="r").output == first.output


# Local models.

TEXT_CALLS = {
    "hermes": '<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>',
    "internlm": '<|action_start|><|plugin|>{"name": "add", "parameters": {"a": 2}}<|action_end|>',
    "pythonic": "[add(a=2)]",
    "react": 'Action: add\nAction Input: {"a": 2}',
    "mistral": '[TOOL_CALLS][{"name": "add", "arguments": {"a": 2}}]',
}


@pytest.mark.parametrize("family", TEXT_CALLS)
def test_text_calls(family: str) -> None:
    result = scripted(say(TEXT_CALLS[family]), say("3"), tools=[add]).run_sync("2+1?")
    assert [c.text for c in result.tool_calls] == ["3"]


def raw_call(name: str, arguments: str) -> Reply:
    return say(f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>')


def repair(reply: Reply) -> list[Any]:
    return list(scripted(reply, say("3"), tools=[add]).run_stream_sync("2+1?"))


def test_json_repair() -> None:
    events = repair(raw_call("add", "{'a': 2,}"))
    assert events[-1].result.tool_calls[0].text == "3"


def test_coercion() -> None:
    events = repair(call("add", arguments={"a": "2"}))
    assert events[-1].result.tool_calls[0].text == "3"
    assert any(isinstance(event, ToolCallRepaired) for event in events)


def test_name_repair() -> None:
    assert repair(call("functions.Add", a=2))[-1].result.tool_calls[0].text == "3"


def test_feedback() -> None:
    result = scripted(call("add", a="two"), call("add", a=2), say("3"), tools=[add]).run_sync("go")
    assert [c.succeeded for c in result.tool_calls] == [False, True]


def test_loops() -> None:
    agent = Agent(ScriptedModel([forever(call("add", a=2))]), tools=[add])
    events = list(agent.run_stream_sync("go"))
    assert any(isinstance(event, LoopDetected) for event in events)


def test_thinking() -> None:
    events = list(scripted(say("<think>hmm</think>Hello")).run_stream_sync("Hi!"))
    assert "".join(e.text for e in events if isinstance(e, ThinkingDelta)).strip() == "hmm"
    assert events[-1].result.output == "Hello"


@pytest.mark.processes
def test_doctor(fake_server: Serve) -> None:
    assert "dialect" in agentcall("doctor", fake_server([forever(say("ok"))]).url)


def test_schema_mode(fake_server: Serve) -> None:
    server = fake_server([say('{"city": "Oslo"}')])
    model = HTTPChat(server.url, "fake-model", dialect="native")
    result = Agent(model, output_type=Place, output_mode="schema").run_sync("go")
    assert result.output == Place(city="Oslo")
    assert server.requests[0].body["response_format"]["type"] == "json_schema"


def test_window() -> None:
    agent = Agent(ScriptedModel([forever(say("Yes. " * 100))]), limits=Limits(context=1000))
    result = agent.run_sync("0")
    for number in range(12):
        result = agent.run_sync(str(number), messages=result.messages)
    assert result.stop_reason == "final"


@pytest.mark.processes
def test_launch() -> None:
    assert "Launch a model on LMDeploy" in agentcall("server", "start", "--help")


@pytest.mark.processes
def test_quantize() -> None:
    assert "lmdeploy lite" in agentcall("server", "quantize", "--help")


@pytest.mark.processes
def test_plan() -> None:
    assert "24.00 GiB" in agentcall("server", "plan", "internlm2_5-7b-chat", "--gpu", "24GiB")


# Structured output and streaming.


def test_output_modes() -> None:
    prompt = scripted(say('{"city": "Oslo"}'), output_type=Place, output_mode="prompt")
    assert prompt.run_sync("go").output == Place(city="Oslo")
    model = ScriptedModel(lambda r: call(r.tools[0]["function"]["name"], city="Oslo"))
    by_tool = Agent(model, output_type=Place, output_mode="tool")
    assert by_tool.run_sync("go").output == Place(city="Oslo")


def test_output_forms() -> None:
    def look_up(city: str) -> str:
        if city != "Oslo":
            raise ModelRetry("Only Oslo is known.")
        return f"{city} has 700,000 people"

    script = [say('{"city": "Rome"}'), say('{"city": "Oslo"}')]
    assert scripted(*script, output_type=look_up).run_sync("go").output.startswith("Oslo has")
    assert scripted(say("7"), output_type=[int, Place]).run_sync("go").output == 7
    stream = scripted(say('{"city": "Oslo", "people": 7}'), output_type=Place)
    events = list(stream.run_stream_sync("go"))
    assert any(isinstance(event, PartialOutput) for event in events)


async def test_streaming() -> None:
    @tool
    def work(context: RunContext) -> str:
        """Work."""
        context.emit(50)
        return "done"

    agent = scripted(call("work"), say("Hello"), tools=[work])
    assert "".join([text async for text in agent.stream_text("go")]) == "Hello"
    agent = scripted(call("work"), say("Hello"), tools=[work])
    assert any(isinstance(e, ToolProgress) for e in [e async for e in agent.run_stream("go")])
    assert "".join(scripted(say("Hello")).stream_text_sync("go")) == "Hello"


async def test_parallel() -> None:
    together = asyncio.Barrier(2) if sys.version_info >= (3, 11) else None

    @tool
    async def meet(n: int) -> int:
        """Meet."""
        if together is not None:
            await together.wait()
        return n

    script = [calls(call("meet", n=1), call("meet", n=2)), say("ok")]
    result = await scripted(*script, tools=[meet]).run("go")
    assert [c.text for c in result.tool_calls] == ["1", "2"]


async def test_run_sync_in_loop() -> None:
    assert scripted(say("Hello")).run_sync("Hi!").output == "Hello"


async def test_sequential() -> None:
    running: list[int] = []

    @tool(sequential=True)
    async def alone(n: int) -> int:
        """Run alone."""
        running.append(n)
        await asyncio.sleep(0)
        assert running == [n]
        running.clear()
        return n

    script = [calls(call("alone", n=1), call("alone", n=2)), say("ok")]
    result = await scripted(*script, tools=[alone]).run("go")
    assert [c.succeeded for c in result.tool_calls] == [True, True]


# Context.


def test_sessions(tmp_path: Path) -> None:
    session = SQLiteSession("ann", tmp_path / "sessions.db")
    scripted(say("Hello Ann")).run_sync("I am Ann.", session=session)
    model = ScriptedModel([say("Ann")])
    Agent(model).run_sync("Who am I?", session=session)
    assert "I am Ann." in str(model.requests[0].messages)


def test_compaction(tmp_path: Path) -> None:
    session = SQLiteSession("ann", tmp_path / "s.db", compact=Summary(keep=2))
    agent = Agent(ScriptedModel([forever(say("Yes. " * 60))]), limits=Limits(context=1000))
    events = [e for n in range(14) for e in agent.run_stream_sync(str(n), session=session)]
    assert any(isinstance(event, ContextCompacted) for event in events)


def test_long_results() -> None:
    @tool
    def read() -> str:
        """Read."""
        return "x" * 80_000 + "needle" + "y" * 80_000

    def search(request: Any) -> Reply:
        call_id = request.messages[-1]["tool_call_id"]
        return call("search_result", call_id=call_id, query="needle")

    script = iter([lambda _: call("read"), search, lambda _: say("found")])
    result = Agent(ScriptedModel(lambda r: next(script)(r)), tools=[read]).run_sync("go")
    assert "needle" in result.tool_calls[1].text
    assert len(result.tool_calls[0].text) > 160_000


def test_history() -> None:
    class Short(Hooks):
        def before_model(self, context: Any, request: Any) -> Any:
            return None

    broken = [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
            ],
        },
    ]
    agent = scripted(say("ok"), hooks=[Short()], tools=[add])
    assert agent.run_sync("And?", messages=broken).output == "ok"


# Control.


def test_approval() -> None:
    pay = tool(requires_approval=True, name="pay")(add.function)
    agent = scripted(call("pay", a=2), say("paid"), tools=[pay])
    result = agent.run_sync("go")
    decided = {result.pending[0].call.id: True}
    assert agent.resume_sync(result.to_json(), decided).output == "paid"


def test_guardrails() -> None:
    def refuse(text: str) -> None:
        if "secret" in text:
            raise Blocked("no secrets")

    def shout(text: str) -> str:
        return text.upper()

    agent = scripted(say("hello"), check_input=refuse, check_output=shout)
    assert agent.run_sync("Hi!").output == "HELLO"
    assert agent.run_sync("my secret").stop_reason == "blocked"
    denied = scripted(call("add", a=1), say("no"), tools=[add], policy=lambda _: Deny("never"))
    assert denied.run_sync("go").tool_calls[0].succeeded is False


def test_agents() -> None:
    helper = scripted(say("It is 5."), name="helper")
    boss = scripted(call("helper", task="2+3?"), say("5"), tools=[helper.as_tool()])
    assert boss.run_sync("go").output == "5"
    front = scripted(call("transfer_to_helper"), handoffs=[scripted(say("Hi"), name="helper")])
    assert front.run_sync("go").output == "Hi"


def test_deps() -> None:
    @tool
    def who(context: RunContext[str]) -> str:
        """Say who asks."""
        return context.deps

    model = ScriptedModel([call("who"), say("ok")])
    agent: Agent[str, str] = Agent(
        model, tools=[who], instructions=lambda context: f"For {context.deps}.", deps_type=str
    )
    assert agent.run_sync("go", deps="Ann").tool_calls[0].text == "Ann"
    assert model.requests[0].messages[0]["content"] == "For Ann."


def test_durable(tmp_path: Path) -> None:
    with durable(scripted(say("ok")), f"sqlite:///{tmp_path / 'runs.db'}") as agent:
        assert agent.run_sync("go", run_id="r").output == "ok"
        assert agent.run_sync(run_id="r").output == "ok"


# Interfaces and operation.


@pytest.mark.mcp
def test_mcp(tmp_path: Path) -> None:
    file = tmp_path / "server.py"
    file.write_text(
        "from agentcall.mcp import MCPServer\n"
        'def add(a: int, b: int) -> int:\n    "Add."\n    return a + b\n'
        "import asyncio\nasyncio.run(MCPServer([add]).run_stdio())\n"
    )
    with MCPTools(f"{sys.executable} {file}") as tools:
        result = scripted(call("add", a=2, b=3), say("5"), tools=tools).run_sync("go")
    assert result.tool_calls[0].text == "5"


def test_evals() -> None:
    cases = [Case("2+3?", [called("add", a=2), answer_contains("5")])]
    agent = scripted(call("add", a=2, b=3), say("It is 5."), tools=[add])
    assert evaluate_sync(agent, cases, repeat=1).passed.share == 1


@pytest.mark.processes
def test_cli(fake_server: Serve) -> None:
    assert "Hello" in agentcall("run", "-m", fake_server([say("Hello")]).url, "Hi!")


@pytest.mark.processes
def test_web() -> None:
    assert "in the browser" in agentcall("web", "--help")


def test_endpoint() -> None:
    from fastapi.testclient import TestClient

    from agentcall.serving.openai_api import OpenAIEndpoint

    client = TestClient(OpenAIEndpoint(scripted(say("Hello"))), base_url="http://127.0.0.1")
    body = {"model": "agent", "messages": [{"role": "user", "content": "Hi!"}]}
    answer = client.post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "Hello"


def test_ag_ui() -> None:
    from fastapi.testclient import TestClient

    from agentcall.serving.ag_ui import AGUIEndpoint

    client = TestClient(AGUIEndpoint(scripted(say("Hello"))), base_url="http://127.0.0.1")
    message = {"id": "1", "role": "user", "content": "Hi!"}
    events = client.post("/", json={"threadId": "t", "runId": "r", "messages": [message]}).text
    assert events.startswith('data: {"type":"RUN_STARTED"')
    assert '"outcome":{"type":"success"}' in events


@pytest.mark.processes
def test_types() -> None:
    root = Path(__file__).parents[2]
    assert (root / "agentcall" / "py.typed").exists()
    assert (root / "tests" / "project" / "typed" / "expectations.py").exists()


def test_otel() -> None:
    from agentcall.tracing import instrument

    assert callable(instrument)


def test_usage(fake_server: Serve) -> None:
    result = Agent(HTTPChat(fake_server([say("Hello")]).url, "fake-model")).run_sync("Hi!")
    assert result.usage.output_tokens > 0
    assert result.usage.seconds > 0
    assert list(result.usage.by_model) == ["fake-model"]


def test_cassette(fake_server: Serve, tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    for url in (fake_server([say("Hello")]).url, "http://127.0.0.1:9/v1"):
        with cassette(str(file), url) as model:
            assert Agent(model).run_sync("Hi!").output == "Hello"


def test_testing(fake_server: Serve) -> None:
    server = fake_server([status(500), say("Hello")])
    assert Agent(HTTPChat(server.url, "fake-model")).run_sync("Hi!").output == "Hello"


def test_fallback(fake_server: Serve) -> None:
    broken = ScriptedModel(lambda _: (_ for _ in ()).throw(ServerFailed("down", status=500)))
    model = Fallback(broken, HTTPChat(fake_server([say("Hello")]).url, "fake-model"))
    assert Agent(model).run_sync("Hi!").output == "Hello"


@pytest.mark.processes
def test_batch(fake_server: Serve, tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"prompt": "Hi!"}\n')
    output = tmp_path / "answers.jsonl"
    url = fake_server([say("Hello")]).url
    agentcall("batch", str(tmp_path / "tasks.jsonl"), "-m", url, "-o", str(output))
    assert "Hello" in output.read_text()


def test_a_row_of_the_page_is_a_feature_that_is_tested_here() -> None:
    rows = re.findall(r"^\| (.+?) \| (yes|part|–) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    tests = [name for name in globals() if name.startswith("test_")]
    assert len(rows) == 62
    assert len(tests) - 1 == sum(said != "–" for _, said in rows)

"""Runs seen by OpenTelemetry's own SDK, and in a file: every span, what is in it, what is not."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from command_line import TOOLS, agentcall, model_of
from opentelemetry import trace as otel
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from agentcall import Agent, Limits, ModelSettings, SQLiteSession, tool
from agentcall.durable import durable
from agentcall.errors import ModelError, UsageError
from agentcall.messages import Image
from agentcall.models.fallback import Fallback, RateLimitedModel
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.runtime.instrumentation import get_instrumentation
from agentcall.testing import (
    FakeServer,
    RecordedRequest,
    ScriptedModel,
    call,
    calls,
    cut,
    forever,
    say,
    status,
)
from agentcall.tracing import instrument, write_trace


class Seen:
    """What OpenTelemetry was given."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order in which they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def tree(self) -> list[str]:
        """The names of the spans, each behind as many dots as there are spans around it."""
        known = {span.context.span_id: span for span in self.spans if span.context}

        def depth(span: ReadableSpan) -> int:
            return 0 if span.parent is None else 1 + depth(known[span.parent.span_id])

        return ["." * depth(span) + span.name for span in self.spans]

    def of(self, name: str) -> dict[str, Any]:
        """The attributes of the first span of this name."""
        return dict(next(span for span in self.spans if span.name == name).attributes or {})

    def points(self, metric: str) -> list[Any]:
        """The points of a metric."""
        data = self.reader.get_metrics_data()
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [p for m in found if m.name == metric for p in m.data.data_points]


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen = Seen()
    with instrument(tracer_provider=seen.tracers, meter_provider=seen.meters):
        yield seen
    seen.tracers.shutdown()
    seen.meters.shutdown()


@pytest.fixture
def told() -> Iterator[Seen]:
    """As `seen`, with content."""
    seen = Seen()
    with instrument(content=True, tracer_provider=seen.tracers, meter_provider=seen.meters):
        yield seen
    seen.tracers.shutdown()
    seen.meters.shutdown()


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
async def fail() -> str:
    """Fail."""
    raise ValueError("no disk at 10.0.0.7")


def scripted(*replies: Any, **more: Any) -> Agent[Any, Any]:
    return Agent(ScriptedModel(replies), tools=[add, fail], **more)


async def test_a_run_over_http_is_a_span_with_its_requests_and_calls_inside(seen: Seen) -> None:
    with FakeServer([call("add", a=2, b=3), say("It is 5.")]) as server:
        agent = Agent(HTTPChat(server.url, "internlm2_5-7b-chat", dialect="native"), tools=[add])
        await agent.run("2+3?")
    assert seen.tree == [
        "invoke_agent agent",
        ".chat internlm2_5-7b-chat",
        ".execute_tool add",
        ".chat internlm2_5-7b-chat",
    ]
    kinds = [span.kind for span in seen.spans]
    assert kinds == [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.CLIENT]
    chat = seen.of("chat internlm2_5-7b-chat")
    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.provider.name"] == "openai"
    assert chat["gen_ai.request.model"] == "internlm2_5-7b-chat"
    assert chat["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert (chat["server.address"], chat["server.port"]) == ("127.0.0.1", urlsplit(server.url).port)
    assert chat["gen_ai.usage.input_tokens"] > 0
    called = seen.of("execute_tool add")
    assert called["gen_ai.tool.name"] == "add"
    assert called["gen_ai.tool.type"] == "function"
    assert called["gen_ai.tool.description"] == "Add two numbers."
    assert called["gen_ai.tool.call.id"]


async def test_the_span_of_a_run_says_how_it_ended_and_what_it_used(seen: Seen) -> None:
    result = await scripted(call("add", a=2, b=3), say("5"), name="sums").run("2+3?")
    run = seen.of("invoke_agent sums")
    assert run["agentcall.run.id"] == result.run_id
    assert run["agentcall.stop_reason"] == "final"
    assert run["gen_ai.agent.name"] == "sums"
    assert run["gen_ai.usage.input_tokens"] == result.usage.input_tokens
    assert run["gen_ai.usage.output_tokens"] == result.usage.output_tokens
    assert (run["agentcall.usage.requests"], run["agentcall.usage.tool_calls"]) == (2, 1)


async def test_nothing_that_was_said_is_in_a_span_unless_it_is_asked_for(seen: Seen) -> None:
    agent = scripted(call("add", a=210210, b=1), say("Fifty-five."), instructions="Be brief.")
    await agent.run("How much is it?")
    written = str([dict(span.attributes or {}) for span in seen.spans])
    for words in ("Fifty-five", "How much", "Be brief", "210210", "210211"):
        assert words not in written


async def test_with_content_the_spans_hold_what_was_said_in_the_form_of_the_conventions(
    told: Seen,
) -> None:
    agent = scripted(call("add", a=21, b=34), say("Fifty-five."), instructions="Be brief.")
    await agent.run(["How much?", Image("https://host/x.png"), Image("data:image/png;base64,AA==")])
    run = told.of("invoke_agent agent")
    assert json.loads(run["gen_ai.input.messages"]) == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "How much?"},
                {"type": "uri", "modality": "image", "uri": "https://host/x.png"},
                {"type": "text", "content": "[image/png, 1 bytes]"},
            ],
        }
    ]
    assert json.loads(run["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Fifty-five."}],
            "finish_reason": "final",
        }
    ]
    assert json.loads(run["gen_ai.system_instructions"]) == [
        {"type": "text", "content": "Be brief."}
    ]
    assert json.loads(run["gen_ai.tool.definitions"])[0]["name"] == "add"
    called = told.of("execute_tool add")
    assert json.loads(called["gen_ai.tool.call.arguments"]) == {"a": 21, "b": 34}
    assert called["gen_ai.tool.call.result"] == "55"
    last = dict(told.spans[-1].attributes or {})
    heard = json.loads(last["gen_ai.input.messages"])
    assert [message["role"] for message in heard] == ["user", "assistant", "tool"]
    asked = heard[1]["parts"][0]
    assert (asked["type"], asked["arguments"]) == ("tool_call", {"a": 21, "b": 34})
    assert heard[2]["parts"] == [
        {"type": "tool_call_response", "id": asked["id"], "response": "55"}
    ]


async def test_tools_that_run_together_are_side_by_side(seen: Seen) -> None:
    both = asyncio.Barrier(2) if sys.version_info >= (3, 11) else None

    @tool
    async def meet(who: str) -> str:
        """Meet."""
        await (both.wait() if both else asyncio.sleep(0.05))
        return who

    script = [calls(call("meet", who="a"), call("meet", who="b")), say("met")]
    await Agent(ScriptedModel(script), tools=[meet]).run("go")
    assert seen.tree == [
        "invoke_agent agent",
        ".chat scripted",
        ".execute_tool meet",
        ".execute_tool meet",
        ".chat scripted",
    ]


async def test_an_agent_that_is_a_tool_runs_inside_of_its_call(seen: Seen) -> None:
    inner = Agent(ScriptedModel([call("add", a=1, b=1), say("2")]), tools=[add], name="inner")
    outer = Agent(
        ScriptedModel([call("inner", task="1+1"), say("two")]),
        tools=[inner.as_tool()],
        name="outer",
    )
    await outer.run("go")
    assert seen.tree == [
        "invoke_agent outer",
        ".chat scripted",
        ".execute_tool inner",
        "..invoke_agent inner",
        "...chat scripted",
        "...execute_tool add",
        "...chat scripted",
        ".chat scripted",
    ]


async def test_an_agent_that_takes_over_has_a_span_inside_of_the_run(seen: Seen) -> None:
    billing = Agent(
        ScriptedModel([call("add", a=1, b=1), say("paid")]), tools=[add], name="billing"
    )
    triage = Agent(
        ScriptedModel([call("transfer_to_billing")]),
        name="triage",
        handoffs=[billing],
        limits=Limits(seconds=30),
    )
    assert (await triage.run("go")).output == "paid"
    assert seen.tree == [
        "invoke_agent triage",
        ".chat scripted",
        ".execute_tool transfer_to_billing",
        ".invoke_agent billing",
        "..chat scripted",
        "..execute_tool add",
        "..chat scripted",
    ]


async def test_a_stream_has_the_same_spans_and_says_when_its_first_piece_came(seen: Seen) -> None:
    with FakeServer([call("add", a=2, b=3), say("It is 5.")]) as server:
        agent = Agent(HTTPChat(server.url, "m", dialect="native"), tools=[add])
        async for _ in agent.run_stream("2+3?"):
            assert not otel.get_current_span().get_span_context().is_valid
    assert seen.tree == ["invoke_agent agent", ".chat m", ".execute_tool add", ".chat m"]
    chat = seen.of("chat m")
    assert chat["gen_ai.request.stream"] is True
    assert 0 <= chat["gen_ai.response.time_to_first_chunk"] < 30


async def test_a_request_has_the_settings_of_its_agent_and_its_run(seen: Seen) -> None:
    agent = Agent(ScriptedModel([say("hi")]), settings=ModelSettings(temperature=0.5, top_p=0.9))
    await agent.run("?", settings=ModelSettings(temperature=0, max_tokens=9, seed=1, stop="END"))
    chat = seen.of("chat scripted")
    names = ("temperature", "top_p", "max_tokens", "seed", "stop_sequences")
    values = [chat[f"gen_ai.request.{name}"] for name in names]
    assert values == [0, 0.9, 9, 1, ("END",)]


async def test_a_stream_that_is_left_ends_its_spans_as_cancelled(seen: Seen) -> None:
    with FakeServer([say("word " * 2000)]) as server:
        agent = Agent(HTTPChat(server.url, "m", dialect="native"))
        events = agent.run_stream("go")
        async for event in events:
            if type(event).__name__ == "TextDelta":
                break
        await events.aclose()
    assert seen.of("invoke_agent agent")["agentcall.stop_reason"] == "cancelled"
    assert seen.of("chat m")["error.type"] == "cancelled"


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_what_a_tool_does_is_inside_of_its_span(seen: Seen, kind: str) -> None:
    tracer = seen.tracers.get_tracer("mine")

    @tool
    def sync() -> str:
        """Look."""
        assert threading.current_thread() is not threading.main_thread()
        with tracer.start_as_current_span("mine"):
            return "seen"

    @tool(name="async")
    async def not_sync() -> str:
        """Look."""
        with tracer.start_as_current_span("mine"):
            return "seen"

    await Agent(ScriptedModel([call(kind), say("x")]), tools=[sync, not_sync]).run("go")
    assert seen.tree[2:4] == [f".execute_tool {kind}", "..mine"]


@pytest.mark.parametrize("how", ["await", "sync", "stream"])
async def test_a_run_is_inside_of_the_span_that_is_open_around_it(seen: Seen, how: str) -> None:
    agent = scripted(say("hi"))
    with seen.tracers.get_tracer("mine").start_as_current_span("request"):
        if how == "await":
            await agent.run("go")
        elif how == "sync":
            agent.run_sync("go")
        else:
            _ = [event async for event in agent.run_stream("go")]
    assert seen.tree == ["request", ".invoke_agent agent", "..chat scripted"]


async def test_a_tool_that_fails_is_a_failed_span_in_a_run_that_is_not(seen: Seen) -> None:
    await scripted(call("fail"), say("sorry")).run("go")
    assert seen.of("execute_tool fail")["error.type"] == "tool_error"
    assert "error.type" not in seen.of("invoke_agent agent")
    assert "10.0.0.7" not in "".join(span.to_json() for span in seen.spans)


async def test_a_server_that_fails_fails_the_request_and_the_run(seen: Seen) -> None:
    with FakeServer([forever(status(500))]) as server:
        agent = Agent(HTTPChat(HTTPEndpoint(server.url, tries=1), "m", dialect="native"))
        with pytest.raises(ModelError):
            await agent.run("go")
    chat = seen.of("chat m")
    assert (chat["error.type"], chat["http.response.status_code"]) == ("ServerFailed", 500)
    assert seen.of("invoke_agent agent")["error.type"] == "ServerFailed"
    assert all(not span.status.is_ok for span in seen.spans)


async def test_an_answer_that_is_cut_is_a_failed_request_before_a_good_one(seen: Seen) -> None:
    with FakeServer([cut(say("half of it")), say("whole")]) as server:
        agent = Agent(HTTPChat(server.url, "m", dialect="native"))
        events = [event async for event in agent.run_stream("go")]
    assert events
    first, second = (span for span in seen.spans if span.name == "chat m")
    assert (first.attributes or {})["error.type"] == "CutAnswer"
    assert second.status.is_ok


async def test_a_run_that_waits_for_approval_has_not_failed(seen: Seen) -> None:
    @tool(requires_approval=True)
    def send() -> str:
        """Send."""
        return "sent"

    inner = Agent(ScriptedModel([call("send"), say("sent it")]), tools=[send], name="inner")
    outer = Agent(ScriptedModel([call("inner", task="x"), say("ok")]), tools=[inner.as_tool()])
    result = await outer.run("go")
    assert result.stop_reason == "approval"
    assert [span.name for span in seen.spans if not span.status.is_ok] == []
    assert seen.of("execute_tool inner")["agentcall.stop_reason"] == "approval"
    seen.exporter.clear()
    await outer.resume(result, {each.call.id: True for each in result.pending})
    assert seen.tree == [
        "invoke_agent agent",
        ".execute_tool inner",
        "..invoke_agent inner",
        "...execute_tool send",
        "...chat scripted",
        ".chat scripted",
    ]


async def test_metrics_count_tokens_and_seconds(seen: Seen) -> None:
    result = await scripted(call("add", a=2, b=3), call("fail"), say("5")).run("go")
    tokens = {
        p.attributes["gen_ai.token.type"]: p for p in seen.points("gen_ai.client.token.usage")
    }
    assert tokens["input"].sum == result.usage.input_tokens
    assert tokens["output"].sum == result.usage.output_tokens
    assert tokens["input"].attributes["gen_ai.request.model"] == "scripted"
    [seconds] = seen.points("gen_ai.client.operation.duration")
    assert (seconds.count, seconds.attributes["gen_ai.operation.name"]) == (3, "chat")
    of_tools = {
        (p.attributes["gen_ai.tool.name"], p.attributes.get("error.type"))
        for p in seen.points("gen_ai.execute_tool.duration")
    }
    assert of_tools == {("add", None), ("fail", "tool_error")}
    assert seen.points("gen_ai.invoke_agent.duration")[0].count == 1


async def test_what_is_replayed_of_a_durable_run_makes_no_span(seen: Seen, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    failing = durable(scripted(call("add", a=1, b=2), status(401)), url)
    with failing as runs, pytest.raises(ModelError):
        await runs.run("go", run_id="r")
    seen.exporter.clear()
    with durable(scripted(say("3")), url) as runs:
        await runs.run(run_id="r")
    assert seen.tree == ["invoke_agent agent", ".chat scripted"]


async def test_a_run_in_a_session_has_the_same_spans(seen: Seen, tmp_path: Path) -> None:
    session = SQLiteSession("s", tmp_path / "s.db")
    await scripted(call("add", a=2, b=3), say("5")).run("go", session=session)
    assert seen.tree == [
        "invoke_agent agent",
        ".chat scripted",
        ".execute_tool add",
        ".chat scripted",
    ]


KEY, USER, PASSWORD, QUERY = "canary-key", "canary-user", "canary-password", "canary-query"


def echo(request: RecordedRequest) -> Any:
    return say(f"you sent {json.dumps(dict(request.headers))} to {request.path}")


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_key_that_the_server_repeats_is_in_no_span_and_no_line(
    told: Seen, tmp_path: Path, wrapped: bool
) -> None:
    with FakeServer(echo) as server, write_trace(tmp_path / "t.jsonl", content=True):
        url = f"{server.url}?api-key={QUERY}"
        model: Any = HTTPChat(HTTPEndpoint(url, KEY), "m", dialect="native")
        await Agent(RateLimitedModel(Fallback(model), 100) if wrapped else model).run("go")
        name = server.url.replace("://", f"://{USER}:{PASSWORD}@") + f"?api-key={QUERY}#fake-model"
        await Agent(name).run("go")
    written = "".join(span.to_json() for span in told.spans) + (tmp_path / "t.jsonl").read_text()
    assert "you sent" in written
    for canary in (KEY, USER, PASSWORD, QUERY):
        assert canary not in written


async def test_redact_takes_out_of_texts_what_it_is_told_to() -> None:
    seen = Seen()
    with instrument(
        content=True,
        redact=lambda text: text.replace("4111", "****"),
        tracer_provider=seen.tracers,
        meter_provider=seen.meters,
    ):
        await scripted(call("add", a=4111, b=0), say("4111")).run("my card: 4111")
    written = "".join(span.to_json() for span in seen.spans)
    assert "****" in written
    assert "4111" not in written


async def test_a_redact_that_raises_ends_no_run_and_shows_nothing() -> None:
    def redact(text: str) -> str:
        raise ValueError("no")

    seen = Seen()
    with instrument(
        content=True, redact=redact, tracer_provider=seen.tracers, meter_provider=seen.meters
    ):
        assert (await scripted(say("hi")).run("secret")).output == "hi"
    run = seen.of("invoke_agent agent")
    assert run["gen_ai.input.messages"] == "(left out: redact raised ValueError)"


async def test_half_a_character_is_written_all_the_same(told: Seen, tmp_path: Path) -> None:
    @tool
    def odd() -> str:
        """Odd."""
        return "\ud800 odd"

    with write_trace(tmp_path / "t.jsonl", content=True):
        await Agent(ScriptedModel([call("odd"), say("ok")]), tools=[odd]).run("\ud83d")
    assert told.of("execute_tool odd")["gen_ai.tool.call.result"] == "? odd"
    assert "? odd" in (tmp_path / "t.jsonl").read_text()


async def test_the_environment_may_ask_for_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    seen = Seen()
    with instrument(tracer_provider=seen.tracers, meter_provider=seen.meters):
        await scripted(say("hi")).run("hello there")
    assert "hello there" in seen.of("invoke_agent agent")["gen_ai.input.messages"]


async def test_nobody_watches_before_it_is_turned_on_nor_after_it_was_stopped() -> None:
    assert get_instrumentation() is None
    seen = Seen()
    watch = instrument(tracer_provider=seen.tracers, meter_provider=seen.meters)
    watch.remove()
    assert get_instrumentation() is None
    await scripted(say("hi")).run("go")
    assert seen.spans == []


def test_opentelemetrys_own_command_finds_it() -> None:
    [found] = entry_points(group="opentelemetry_instrumentor", name="agentcall")
    instrumentor = found.load()()
    instrumentor.instrument(skip_dep_check=True)
    instrumentor.instrument(skip_dep_check=True)
    assert get_instrumentation() is not None
    instrumentor.uninstrument()
    assert get_instrumentation() is None


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_file_holds_the_same_spans_as_lines(seen: Seen, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with write_trace(path):
        await scripted(call("add", a=2, b=3), say("5")).run("2+3?")
    lines = lines_of(path)
    assert [line["name"] for line in lines] == [
        "chat scripted",
        "execute_tool add",
        "chat scripted",
        "invoke_agent agent",
    ]
    run = lines[-1]
    assert run["parent_id"] is None
    assert {line["parent_id"] for line in lines[:-1]} == {run["span_id"]}
    assert len({line["trace_id"] for line in lines}) == 1
    assert lines[0]["attributes"].keys() == seen.of("chat scripted").keys()
    assert all(line["seconds"] >= 0 and line["error"] is None for line in lines)
    assert path.stat().st_mode & 0o077 == 0


async def test_runs_at_the_same_time_are_traces_of_their_own(tmp_path: Path) -> None:
    with write_trace(tmp_path / "t.jsonl"):
        await asyncio.gather(
            *(scripted(call("add", a=n, b=1), say("x")).run("go") for n in range(20))
        )
    lines = lines_of(tmp_path / "t.jsonl")
    assert len(lines) == 80
    for run in (line for line in lines if line["parent_id"] is None):
        inside = [line for line in lines if line["trace_id"] == run["trace_id"]]
        assert len(inside) == 4


def test_a_trace_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "none" / "t.jsonl"
    with pytest.raises(UsageError, match="cannot be written: No such file"), write_trace(path):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full")
async def test_a_full_disk_ends_no_run_and_is_said_at_the_end() -> None:
    with pytest.raises(UsageError, match="is incomplete: No space left"), write_trace("/dev/full"):
        assert (await scripted(say("hi")).run("go")).output == "hi"


def test_the_command_writes_a_trace_without_opentelemetry(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TOOLS)
    with model_of(call("add", a=3, b=5), say("It is 8.")) as server:
        model = f"{server.url}#fake-model"
        words = ("run", "3+5?", "-t", "mine.py:add", "-m", model, "--trace", "t.jsonl")
        done = agentcall(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "It is 8.\n"), done.stderr
    names = [line["name"] for line in lines_of(tmp_path / "t.jsonl")]
    assert sorted(names) == [
        "chat fake-model",
        "chat fake-model",
        "execute_tool add",
        "invoke_agent agent",
    ]
    assert "3+5" not in (tmp_path / "t.jsonl").read_text()


def test_the_command_writes_content_when_asked_and_a_variable_does_for_all(tmp_path: Path) -> None:
    with model_of(say("It is 8.")) as server:
        words = ("run", "3+5?", "-m", f"{server.url}#fake-model")
        more = ("--trace", "t.jsonl", "--trace-content")
        done = agentcall(*words, *more, cwd=tmp_path, env={"AGENTCALL_TRACE": "all.jsonl"})
    assert done.returncode == 0, done.stderr
    assert "It is 8." in (tmp_path / "t.jsonl").read_text()
    assert "It is 8." not in (tmp_path / "all.jsonl").read_text()
    assert len(lines_of(tmp_path / "all.jsonl")) == 2


def test_content_without_a_file_is_a_wrong_command(tmp_path: Path) -> None:
    done = agentcall("run", "x", "--trace-content", cwd=tmp_path)
    assert done.returncode == 2
    assert "--trace FILE" in done.stderr


def test_without_opentelemetry_a_file_is_written_and_the_extra_is_named(tmp_path: Path) -> None:
    code = f"""
        import sys
        sys.modules["opentelemetry"] = None
        from agentcall import Agent
        from agentcall.testing import ScriptedModel, say
        from agentcall.tracing import instrument, write_trace
        with write_trace({str(tmp_path / "t.jsonl")!r}):
            Agent(ScriptedModel([say("hi")])).run_sync("go")
        try:
            instrument()
        except ImportError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert "instrument needs opentelemetry" in done.stdout
    assert "Install the extra 'otel': pip install" in done.stdout
    assert len(lines_of(tmp_path / "t.jsonl")) == 2

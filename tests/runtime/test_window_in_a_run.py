"""Conversations that are compared with the context window, and the rules that compact them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agentcall import Agent, Limits, ModelSettings, RunContext, SQLiteSession, tool
from agentcall.durable import durable
from agentcall.errors import ContextOverflow, ModelRefused, UsageError
from agentcall.events import (
    ContextCompacted,
    ContextTrimmed,
    Event,
    MessagesOmitted,
    Nested,
    RunFinished,
)
from agentcall.messages import (
    Assistant,
    Message,
    System,
    ToolCall,
    ToolResult,
    Usage,
    User,
    fill_missing_results,
    is_tainted,
    to_json,
)
from agentcall.runtime.compaction import RunningModel, compact_view
from agentcall.runtime.context_trimming import ContextView
from agentcall.runtime.hooks import Hooks, ModelStep
from agentcall.runtime.prompts import SUMMARY_INSTRUCTIONS, SUMMARY_QUESTION
from agentcall.runtime.turn import ModelTurn
from agentcall.sessions import CompactionPlan, Summary, Window
from agentcall.testing import (
    FakeServer,
    RecordedRequest,
    ScriptedModel,
    call,
    overflow,
    say,
    status,
)
from agentcall.testing.chat_rules import GEMMA, MISTRAL, QWEN

WORDS = "The quick brown fox jumps over the lazy dog, again and again. "
"""62 characters: about 15 tokens."""


@tool(read_only=True)
def read_log() -> str:
    """Read the log."""
    return WORDS * 600


@tool(read_only=True)
def read_page(number: int) -> str:
    """Read a page."""
    return f"page {number} " + WORDS * 10


@tool(read_only=True, untrusted=True)
def read_mail() -> str:
    """Read the mail."""
    return WORDS * 10


def is_summary(request: RecordedRequest) -> bool:
    return str(request.messages[0]["content"]).startswith(SUMMARY_INSTRUCTIONS[:40])


def refuse_above(tokens: int, answer: Any = None) -> Any:
    """A model of a server that refuses a longer prompt, and names its window."""

    def brain(request: RecordedRequest) -> Any:
        if request.prompt_tokens > tokens:
            return overflow("vllm", context=tokens)
        if is_summary(request):
            return say("Ann goes to Oslo. " * 3)
        return say("fine " * 30) if answer is None else answer(request)

    return brain


def sent(model: ScriptedModel) -> list[RecordedRequest]:
    """The requests without those for summaries."""
    return [request for request in model.requests if not is_summary(request)]


async def collect(agent: Agent[Any, Any], prompt: str, **options: Any) -> tuple[Any, list[Event]]:
    events: list[Event] = [event async for event in agent.run_stream(prompt, **options)]
    assert isinstance(events[-1], RunFinished)
    return events[-1].result, events


def are_paired(messages: list[dict[str, Any]]) -> bool:
    """Every result is behind its call, and every call has its result."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return False
            waiting.remove(message["tool_call_id"])
        elif waiting:
            return False
        waiting += [each["id"] for each in message.get("tool_calls") or ()]
    return not waiting


# The comparison.


async def test_what_does_not_fit_the_window_of_the_limits_is_not_sent() -> None:
    model = ScriptedModel([call("read_log"), say("done")])
    agent = Agent(model, tools=[read_log], limits=Limits(context=4_096))
    result, events = await collect(agent, "What does it say?")
    assert result.output == "done"
    assert result.tool_calls[0][1].text == WORDS * 600
    assert any(isinstance(event, ContextTrimmed) for event in events)
    assert max(request.prompt_tokens for request in model.requests) < 4_096


@pytest.mark.parametrize("usage", [None, "real"])
@pytest.mark.parametrize("server", ["vllm", "ollama"])
async def test_what_does_not_fit_the_window_of_the_server_is_not_sent(
    server: str, usage: Any
) -> None:
    def answer(request: RecordedRequest) -> Any:
        reply = say("done") if request.messages[-1]["role"] == "tool" else call("read_log")
        return reply.replace(usage=None) if usage is None else reply

    pages: dict[str, Any] = {
        "vllm": {"/v1/models": {"data": [{"id": "m:latest", "max_model_len": 4096}]}},
        "ollama": {"/api/ps": {"models": [{"name": "m:latest", "context_length": 4096}]}},
    }
    owner = {"vllm": "vllm", "ollama": "library"}[server]
    with FakeServer(answer, models=("m:latest",), owned_by=owner, pages=pages[server]) as fake:
        agent = Agent(f"{fake.url}#m", tools=[read_log])
        result, _ = await collect(agent, "What does it say?")
        assert (result.output, result.usage.requests) == ("done", 2)
        assert max(request.prompt_tokens for request in fake.requests) < 4_096


async def test_the_window_is_asked_for_once_and_not_for_a_small_conversation() -> None:
    pages = {"/api/ps": {"models": [{"name": "m:latest", "context_length": 8192}]}}
    with FakeServer(
        lambda _: say("ok"), models=("m:latest",), owned_by="library", pages=pages
    ) as fake:
        agent = Agent(f"{fake.url}#m")

        def count() -> int:
            return sum(request.path == "/api/ps" for request in fake.all_requests)

        await agent.run("Hi")
        assert count() == 0
        for _ in range(3):
            await agent.run(WORDS * 200)
        assert count() == 1


async def test_room_is_left_for_the_answer() -> None:
    def count(max_tokens: int | None) -> int:
        history = [User(WORDS * 4), Assistant(WORDS * 4)] * 12
        model = ScriptedModel([say("done")])
        agent = Agent(model, limits=Limits(context=2_000))
        settings = None if max_tokens is None else ModelSettings(max_tokens=max_tokens)
        agent.run_sync("Go on", messages=history, settings=settings)
        return model.requests[0].prompt_tokens

    assert count(None) < 1_800
    assert count(900) < 1_100


@pytest.mark.parametrize("text", ["看一下这个文件里写了什么。", "Что написано в этом файле? "])
async def test_other_scripts_than_latin_have_more_tokens(text: str) -> None:
    history = [User(text * 10), Assistant(text * 10)] * 20
    model = ScriptedModel([say("done")])
    await Agent(model, limits=Limits(context=4_096)).run("Go on", messages=history)
    characters = sum(len(str(message["content"])) for message in model.requests[0].messages)
    assert 1_500 < characters < 4_096 * 2


async def test_a_count_of_the_server_corrects_the_estimate() -> None:
    """This text has a token for 8 characters, so that twice as much fits as it seems."""

    def brain(request: RecordedRequest) -> Any:
        counts = {"prompt_tokens": request.prompt_tokens // 2, "completion_tokens": 5}
        return say("ok").replace(usage=counts)

    model, history = ScriptedModel(brain), ()
    agent = Agent(model, limits=Limits(context=4_000))
    for _ in range(3):
        history = (await agent.run(WORDS * 110, messages=history)).messages
    _, events = await collect(agent, "And?", messages=history)
    assert any(isinstance(event, MessagesOmitted) for event in events)  # each run begins anew

    @tool
    def more() -> str:
        """More."""
        return WORDS * 90

    steps = iter([call("more")] * 4)
    counted = ScriptedModel(
        lambda r: next(steps, say("done")).replace(
            usage={"prompt_tokens": r.prompt_tokens // 2, "completion_tokens": 5}
        )
    )
    looser = Agent(counted, tools=[more], limits=Limits(context=4_000))
    _, events = await collect(looser, "Read")
    assert not any(isinstance(event, ContextTrimmed) for event in events)


async def test_the_window_that_a_refusal_names_is_learned() -> None:
    model = ScriptedModel(refuse_above(2_000))
    result = await Agent(model).run("And now?", messages=[User(WORDS * 5), Assistant("x")] * 60)
    assert result.output
    refused = [request for request in model.requests if request.prompt_tokens > 2_000]
    assert len(refused) == 1


# Sessions.


def talk(session: SQLiteSession, agent: Agent, rounds: int) -> list[Event]:
    events: list[Event] = []
    for number in range(rounds):
        events += agent.run_stream_sync(f"question {number}: {WORDS * 3}", session=session)
    return events


@pytest.mark.parametrize("known", [True, False], ids=["known", "refused"])
async def test_a_session_is_summarized_when_its_window_is_full(tmp_path: Path, known: bool) -> None:
    model = ScriptedModel(refuse_above(1_500))
    limits = Limits(context=1_500 if known else None)
    agent = Agent(model, instructions="Be brief.", limits=limits)
    session = SQLiteSession("chat", tmp_path / "s.db", compact=Summary(keep=6))
    events: list[Event] = []
    usage = 0
    for number in range(20):
        result, new = await collect(agent, f"question {number}: {WORDS * 3}", session=session)
        events += new
        usage += result.usage.requests
    compacted = [event for event in events if isinstance(event, ContextCompacted)]
    assert 1 <= len(compacted) < 8
    assert all(event.after < event.before for event in compacted)
    assert not any(isinstance(event, MessagesOmitted) for event in events)
    refused = sum(request.prompt_tokens > 1_500 for request in model.requests)
    assert refused == (0 if known else len(compacted))
    assert usage == len(model.requests) - refused
    first = sent(model)[-1].messages[1]["content"]
    assert first == SUMMARY_QUESTION
    assert len(session.messages) == 40
    assert session.snapshot.messages[0] == User(SUMMARY_QUESTION)
    assert len(session.snapshot.messages) < 20


async def test_a_window_as_the_rule_of_a_session_keeps_its_last_messages(tmp_path: Path) -> None:
    model = ScriptedModel(refuse_above(1_200))
    agent = Agent(model, limits=Limits(context=1_200))
    session = SQLiteSession("chat", tmp_path / "s.db", compact=Window(4))
    for number in range(12):
        await agent.run(f"question {number}: {WORDS * 3}", session=session)
    assert len(session.messages) == 24
    assert len(session.snapshot.messages) < 16
    assert all(request.messages[0]["role"] == "user" for request in model.requests)


async def test_a_question_longer_than_the_window_leaves_the_session_as_it_was(
    tmp_path: Path,
) -> None:
    model = ScriptedModel(refuse_above(800))
    agent = Agent(model)
    session = SQLiteSession("chat", tmp_path / "s.db")
    with pytest.raises(ContextOverflow, match=r"800 tokens.* message of the user about 1,"):
        await agent.run(WORDS * 100, session=session)
    assert session.list_sessions() == ()
    await agent.run("Hi", session=session)
    before = session.messages
    for _ in range(3):
        with pytest.raises(ContextOverflow):
            await agent.run(WORDS * 100, session=session)
        assert session.messages == before
        assert len(session.history) == 1
    assert (await agent.run("Still there?", session=session)).output
    assert len(session.messages) == 4


async def test_a_question_that_a_server_would_cut_is_an_error() -> None:
    def answer(request: RecordedRequest) -> Any:
        tokens = min(request.prompt_tokens, 4096)
        return say("half").replace(usage={"prompt_tokens": tokens, "completion_tokens": 9})

    pages = {"/api/ps": {"models": [{"name": "m:latest", "context_length": 4096}]}}
    server = FakeServer(answer, models=("m:latest",), owned_by="library", pages=pages)
    with server, pytest.raises(ContextOverflow, match="left a part of it out"):
        await Agent(f"{server.url}#m").run(WORDS * 500)


async def test_a_summary_that_fails_leaves_the_oldest_messages_out(tmp_path: Path) -> None:
    def brain(request: RecordedRequest) -> Any:
        return status(500) if is_summary(request) else refuse_above(1_000)(request)

    agent = Agent(ScriptedModel(brain), limits=Limits(context=1_000))
    session = SQLiteSession("chat", tmp_path / "s.db", compact=Summary(keep=4))
    events: list[Event] = []
    for number in range(10):
        events += (await collect(agent, f"{number}: {WORDS * 3}", session=session))[1]
    assert any(isinstance(event, MessagesOmitted) for event in events)
    assert not any(isinstance(event, ContextCompacted) for event in events)
    assert len(session.messages) == 20


async def test_a_session_goes_on_with_a_model_of_a_smaller_window(tmp_path: Path) -> None:
    session = SQLiteSession("chat", tmp_path / "s.db", compact=Summary(keep=2))
    large = Agent(ScriptedModel(refuse_above(50_000)))
    for number in range(6):
        await large.run(f"{number}: {WORDS * 30}", session=session)
    model = ScriptedModel(refuse_above(700))
    result, events = await collect(Agent(model), "In short?", session=session)
    assert result.output
    assert any(isinstance(event, ContextCompacted) for event in events)
    assert len(session.messages) == 14


async def test_untrusted_content_that_was_compacted_stays_known(tmp_path: Path) -> None:
    def answer(request: RecordedRequest) -> Any:
        asks = str(request.messages[-1]["content"]).startswith("Read")
        return call("read_mail") if asks else say("ok " * 40)

    model = ScriptedModel(refuse_above(900, answer))
    agent = Agent(model, tools=[read_mail], limits=Limits(context=900))
    session = SQLiteSession("chat", tmp_path / "s.db", compact=Summary(keep=2))
    await agent.run("Read it", session=session)
    for number in range(6):
        await agent.run(f"{number}: {WORDS * 2}", session=session)
    shown = session.snapshot.messages
    assert not any(isinstance(message, ToolResult) for message in shown)
    assert is_tainted(shown)


# Agents.


async def test_an_agent_compacts_a_long_run_and_keeps_its_question() -> None:
    def answer(request: RecordedRequest) -> Any:
        roles = [message["role"] for message in request.messages]
        assert any("Read all pages" in str(m["content"]) for m in request.messages)
        assert are_paired(request.messages)
        done = sum(role == "tool" for role in roles)
        number = int(str(request.messages[-1]["content"]).split()[1]) + 1 if done else 0
        return call("read_page", number=number) if number < 25 else say("done")

    model = ScriptedModel(refuse_above(2_000, answer))
    limits = Limits(requests=None, context=2_000)
    agent = Agent(model, tools=[read_page], limits=limits, compact=Summary(keep=4))
    result, events = await collect(agent, "Read all pages")
    assert result.output == "done"
    assert [int(each.result.text.split()[1]) for each in result.tool_calls] == list(range(25))
    compacted = [event for event in events if isinstance(event, ContextCompacted)]
    assert len(compacted) > 1
    assert result.usage.requests == len(model.requests)
    assert max(request.prompt_tokens for request in model.requests) <= 2_000


@pytest.mark.parametrize("keep", [0, 1, 3])
@pytest.mark.parametrize("rule", [Summary, Window])
async def test_every_rule_leaves_a_conversation_that_templates_accept(
    rule: type[Summary] | type[Window], keep: int
) -> None:
    def answer(request: RecordedRequest) -> Any:
        assert are_paired(request.messages)
        assert request.messages[0]["role"] == "user"
        if request.number > 30:
            return say("done")
        return call("read_page", number=request.number)

    model = ScriptedModel(refuse_above(1_500, answer))
    limits = Limits(requests=None, context=1_500)
    compact = Summary(keep=keep) if rule is Summary else Window(max(keep, 1))
    agent = Agent(model, tools=[read_page], limits=limits, compact=compact)
    history = [User("before"), Assistant("yes")] * 4
    result = await agent.run("Read all pages", messages=history)
    assert result.output == "done"
    assert result.messages[:8] == tuple(history)


async def test_a_rule_of_ones_own_may_fail_or_keep_everything() -> None:
    class Broken:
        async def plan_compaction(self, messages: list[Message]) -> CompactionPlan:
            raise ZeroDivisionError

    class Useless:
        async def plan_compaction(self, messages: list[Message]) -> CompactionPlan:
            return CompactionPlan(len(messages) + 5)

    history = [User(WORDS * 5), Assistant("x")] * 30
    for rule in (Broken(), Useless()):
        model = ScriptedModel(refuse_above(1_000))
        agent = Agent(model, compact=rule)  # type: ignore[arg-type]  # a list for a sequence
        assert (await agent.run("And?", messages=history)).output
    with pytest.raises(UsageError, match="compact='Summary' is not a rule"):
        Agent(ScriptedModel(), compact="Summary")  # type: ignore[arg-type]


async def test_a_summary_takes_no_request_that_the_answer_needs() -> None:
    model = ScriptedModel(refuse_above(1_000))
    agent = Agent(model, limits=Limits(requests=2, context=1_000), compact=Summary(keep=2))
    result = await agent.run("And?", messages=[User(WORDS * 5), Assistant("x")] * 30)
    assert (result.stop_reason, result.usage.requests) == ("final", 1)


async def test_an_agent_as_a_tool_and_one_that_takes_over_compact_by_their_own_rules() -> None:
    def answer(request: RecordedRequest) -> Any:
        if str(request.messages[-1]["content"]).startswith("page"):
            return call("read_page", number=request.number) if request.number < 16 else say("read")
        return call("read_page", number=0)

    nested = ScriptedModel(refuse_above(1_500, answer))
    reader = Agent(
        nested,
        tools=[read_page],
        name="reader",
        limits=Limits(context=1_500),
        compact=Summary(keep=2),
    )
    outer = ScriptedModel([call("reader", task="Read"), say("done")])
    result, events = await collect(Agent(outer, tools=[reader.as_tool()]), "Go")
    assert result.output == "done"
    inner = [event.event for event in events if isinstance(event, Nested)]
    assert any(isinstance(event, ContextCompacted) for event in inner)
    assert result.usage.requests == len(nested.requests) + 2

    nested = ScriptedModel(refuse_above(1_500, answer))
    second = Agent(nested, name="second", limits=Limits(context=1_500))
    first = Agent(
        ScriptedModel([call("transfer_to_second")]),
        handoffs=[second],
        compact=Summary(ScriptedModel([say("so far")] * 9), keep=2),
    )
    history = [User(WORDS * 9), Assistant("x")] * 12
    result, events = await collect(first, "Go", messages=history)
    assert any(isinstance(event, ContextCompacted) for event in events)


# Durable runs, and what is read later.


async def test_a_durable_run_continues_with_the_same_compacted_conversation(tmp_path: Path) -> None:
    def answer(request: RecordedRequest) -> Any:
        last = str(request.messages[-1]["content"])
        number = int(last.split()[1]) + 1 if last.startswith("page") else 0
        if number == broken_at:
            return status(401)
        return call("read_page", number=number) if number < 12 else say("done")

    limits = Limits(requests=None, context=1_500)

    def make(model: ScriptedModel) -> Agent:
        return Agent(model, tools=[read_page], limits=limits, compact=Summary(keep=4))

    broken_at = 9
    first = ScriptedModel(refuse_above(1_500, answer))
    url = f"sqlite:///{tmp_path}/runs.db"
    with durable(make(first), url) as runs, pytest.raises(ModelRefused):
        await runs.run("Read all pages", run_id="r")
    broken_at = -1
    second = ScriptedModel(refuse_above(1_500, answer))
    with durable(make(second), url) as runs:
        result = await runs.run(run_id="r")
    assert second.requests[0].messages == first.requests[-1].messages
    assert result.output == "done"
    pages = [int(each.text.split()[1]) for _, each in result.tool_calls if each is not None]
    assert pages == list(range(12))
    assert result.usage.requests == len(first.requests) + len(second.requests) - 1


async def test_a_summary_that_was_recorded_is_not_requested_again(tmp_path: Path) -> None:
    history = [User(WORDS * 5), Assistant("x")] * 30
    url = f"sqlite:///{tmp_path}/runs.db"

    def make(model: ScriptedModel) -> Agent:
        return Agent(model, limits=Limits(context=1_000), compact=Summary(keep=2))

    first = ScriptedModel(refuse_above(1_000, lambda _: status(401)))
    with durable(make(first), url) as runs, pytest.raises(ModelRefused):
        await runs.run("And?", messages=history, run_id="r")
    assert any(is_summary(request) for request in first.requests)
    second = ScriptedModel(refuse_above(1_000))
    with durable(make(second), url) as runs:
        result = await runs.run(run_id="r")
    assert [is_summary(request) for request in second.requests] == [False]
    assert second.requests[0].messages == first.requests[-1].messages
    assert result.usage.requests == len(first.requests)


async def test_a_result_is_read_in_the_next_run_of_a_session(tmp_path: Path) -> None:
    limits = Limits(result_chars=2_000)
    session = SQLiteSession("chat", tmp_path / "s.db")
    model = ScriptedModel([call("read_log"), status(401)])
    with pytest.raises(ModelRefused):  # as after a kill: the result is stored
        await Agent(model, tools=[read_log], limits=limits).run("Look", session=session)

    def brain(request: RecordedRequest) -> Any:
        results = [m for m in request.messages if m["role"] == "tool"]
        if len(results) == 1:
            return call("read_result", call_id=results[0]["tool_call_id"], page=10)
        return say("done")

    result = await Agent(ScriptedModel(brain), tools=[read_log], limits=limits).run(
        "And the end?", session=session
    )
    assert result.tool_calls[0][1] is not None
    assert result.tool_calls[0][1].text.endswith((WORDS * 600)[36_000:])


@tool(requires_approval=True)
def pay(to: str) -> str:
    """Pay."""
    return f"paid {to}"


@pytest.mark.parametrize("kind", ["plain", "session", "durable"])
async def test_a_run_that_waited_continues_with_its_compacted_conversation(
    tmp_path: Path, kind: str
) -> None:
    def answer(request: RecordedRequest) -> Any:
        last = str(request.messages[-1]["content"])
        return say("done") if last.startswith("paid") else call("pay", to="Bo")

    history = [User(WORDS * 5), Assistant("x")] * 30
    model = ScriptedModel(refuse_above(1_000, answer))
    limits = Limits(context=1_000)
    agent = Agent(model, tools=[pay], limits=limits, compact=Summary(keep=2))
    if kind == "durable":
        with durable(agent, f"sqlite:///{tmp_path}/runs.db") as runs:
            waiting = await runs.run("Pay Bo", messages=history, run_id="r")
            result = await runs.resume("r", {waiting.pending[0].call.id: True})
    elif kind == "session":
        session = SQLiteSession("chat", tmp_path / "s.db", compact=Summary(keep=2))
        for _ in range(15):
            await Agent(ScriptedModel([say("x " * 60)])).run(WORDS * 5, session=session)
        waiting = await agent.run("Pay Bo", session=session)
        decisions = {waiting.pending[0].call.id: True}
        result = await agent.resume(waiting.to_json(), decisions, session=session)
        assert len(session.messages) == 34
    else:
        waiting = await agent.run("Pay Bo", messages=history)
        result = await agent.resume(waiting.to_json(), {waiting.pending[0].call.id: True})
    assert result.output == "done"
    first, second = sent(model)
    assert second.messages[: len(first.messages)] == first.messages
    assert result.usage.requests == len(model.requests)
    assert len(result.messages) == (34 if kind == "session" else 64)


# Odd conversations.


async def test_long_ids_of_calls_and_a_tiny_window_end() -> None:
    long_id = "call_" + "x" * 120

    history: list[Message] = [User("Look")]
    for number in range(6):
        made = ToolCall(f"{long_id}{number}", "read_log", "{}")
        history += [Assistant("", (made,)), ToolResult(made.id, "read_log", WORDS * 20)]
    model = ScriptedModel(lambda _: say("done"))
    agent = Agent(model, tools=[read_log], limits=Limits(context=10))
    result = await agent.run("And?", messages=history)
    assert result.output == "done"
    assert len(result.messages) == 15


@pytest.mark.parametrize("rules", [MISTRAL, GEMMA, QWEN])
async def test_strict_templates_accept_what_is_left(rules: Any) -> None:
    def brain(request: RecordedRequest) -> Any:
        if is_summary(request):
            return say("so far")
        if request.number > 40:
            return say("done")
        return call("read_page", number=request.number)

    with FakeServer(brain, rules=rules, context=1_500, like="vllm") as server:
        for compact in (Summary(keep=3), Window(3), Summary(keep=0)):
            agent = Agent(
                server.url, tools=[read_page], limits=Limits(requests=40), compact=compact
            )
            result, events = await collect(agent, "Read all pages")
            assert result.stop_reason in ("final", "max_requests")
            assert any(isinstance(event, ContextCompacted) for event in events)
            server.reset(brain)


async def test_a_summary_longer_than_the_window_leaves_room() -> None:
    def brain(request: RecordedRequest) -> Any:
        if request.prompt_tokens > 1_000:
            return overflow("vllm", context=1_000)
        return say(WORDS * 200 if is_summary(request) else "fine")

    model = ScriptedModel(brain)
    agent = Agent(model, limits=Limits(context=1_000), compact=Summary(keep=2))
    result = await agent.run("And?", messages=[User(WORDS * 5), Assistant("x")] * 30)
    assert result.output == "fine"


async def test_system_messages_of_a_history_stay() -> None:
    history: list[Message] = [System("Be brief."), *[User(WORDS * 5), Assistant("x")] * 30]
    for compact in (None, Window(4), Summary(keep=4)):
        model = ScriptedModel(refuse_above(1_000))
        agent = Agent(model, limits=Limits(context=1_000), compact=compact)
        result = await agent.run("And?", messages=history)
        assert result.output
        assert sent(model)[0].messages[0]["content"] == "Be brief."
        assert len(result.messages) == 63


async def test_a_run_that_waits_in_a_nested_agent_keeps_what_both_compacted() -> None:
    def nested(request: RecordedRequest) -> Any:
        last = str(request.messages[-1]["content"])
        number = int(last.split()[1]) + 1 if last.startswith("page") else 0
        if last.startswith("paid"):
            return say("done")
        return call("read_page", number=number) if number < 10 else call("pay", to="Bo")

    inner = ScriptedModel(refuse_above(1_200, nested))
    payer = Agent(
        inner,
        tools=[read_page, pay],
        name="payer",
        limits=Limits(requests=None, context=1_200),
        compact=Summary(keep=2),
    )
    agent = Agent(
        ScriptedModel([call("payer", task="Pay"), say("ok")]),
        tools=[payer.as_tool()],
        limits=Limits(requests=None),
    )
    waiting = await agent.run("Go")
    before = len(inner.requests)
    result = await agent.resume(waiting.to_json(), {waiting.pending[0].call.id: True})
    assert result.output == "ok"
    last, resumed = sent(inner)[-2:]
    assert resumed.messages[: len(last.messages)] == last.messages
    assert len(inner.requests) == before + 1


async def test_what_hooks_send_is_compared_and_not_what_is_kept() -> None:
    class KeepLast(Hooks[None]):
        def before_model(self, context: RunContext[None], step: ModelStep) -> ModelStep:
            return replace(step, messages=step.messages[-3:])

    class Lengthen(Hooks[None]):
        def before_model(self, context: RunContext[None], step: ModelStep) -> ModelStep:
            return replace(step, messages=(User(WORDS * 40), *step.messages))

    history = [User(WORDS * 5), Assistant("x")] * 30
    model = ScriptedModel(refuse_above(1_000))
    limits = Limits(context=1_000)
    agent = Agent(model, limits=limits, hooks=[KeepLast()], compact=Summary(keep=4))
    _, events = await collect(agent, "And?", messages=history)
    assert not any(isinstance(event, (ContextCompacted, MessagesOmitted)) for event in events)
    assert len(model.requests) == 1

    model = ScriptedModel(refuse_above(1_000))
    agent = Agent(model, limits=limits, hooks=[Lengthen()], compact=Summary(keep=2))
    result, events = await collect(agent, "And?", messages=history[:10])
    assert result.output
    assert any(isinstance(event, ContextCompacted) for event in events)
    assert all(request.prompt_tokens <= 1_000 for request in model.requests)


async def test_leaving_a_stream_begins_no_summary() -> None:
    model = ScriptedModel(refuse_above(1_000))
    agent = Agent(model, limits=Limits(context=1_000), compact=Summary(keep=2))
    history = [User(WORDS * 5), Assistant("x")] * 30
    events = agent.run_stream("And?", messages=history)
    async for _ in events:
        break
    await events.aclose()
    assert not model.requests


async def test_text_of_few_tokens_is_no_error_though_it_looks_too_long() -> None:
    def answer(request: RecordedRequest) -> Any:
        return say("read").replace(usage={"prompt_tokens": 3_000, "completion_tokens": 9})

    pages = {"/api/ps": {"models": [{"name": "m:latest", "context_length": 4096}]}}
    with FakeServer(answer, models=("m:latest",), owned_by="library", pages=pages) as server:
        assert (await Agent(f"{server.url}#m").run("-" * 20_000)).output == "read"


# What is shown of a conversation, over conversations and changes of any kind.


def make_step(random: Random, number: int) -> list[Message]:
    made = tuple(ToolCall(f"c{number}_{i}", "f", "{}") for i in range(random.randint(1, 3)))
    sizes = [random.choice([10, 500, 3_000]) for _ in made]
    results = [ToolResult(call.id, "f", "x" * size) for call, size in zip(made, sizes, strict=True)]
    return [Assistant("t", made), *results]


async def ask_for_summary(_model: object, _request: object) -> ModelTurn:
    return ModelTurn("a summary", "", (), (), "stop", Usage(1))


async def test_whatever_is_cut_the_rest_is_whole_and_can_be_restored() -> None:
    for seed in range(150):
        await cut_at_random(Random(seed))


async def cut_at_random(random: Random) -> None:
    steps = iter(range(1_000))
    whole: list[Message] = [System("s")] if random.random() < 0.3 else []
    for _ in range(random.randint(0, 8)):
        whole.append(User("u" * random.randint(1, 50)))
        for _ in range(random.randint(0, 3)):
            whole += make_step(random, next(steps))
        whole.append(Assistant("a"))
    question = len(whole)
    whole.append(User("Q"))
    view, shown = ContextView(), list(whole)
    running = RunningModel(ask_for_summary, 2_000)
    for _ in range(20):
        match random.choice(["append", "append", "omit", "shorten", "window", "summary", "long"]):
            case "append":
                new = make_step(random, next(steps))
                whole, shown = [*whole, *new], [*shown, *new]
            case "long":
                made = ToolCall(f"c{next(steps)}", "f", "{}")
                result = ToolResult(made.id, "f", "y" * 9_000)
                whole += [Assistant("t", (made,)), result]
                shown += [Assistant("t", (made,)), view.offload(result, 1_000)[0]]
            case "omit":
                view.omit(whole, question)
                shown = list(view.show(whole))
            case "shorten":
                view.shorten(shown)
                shown = list(view.show(whole))
            case name:
                keep = random.randint(1, 8)
                rule = Window(keep) if name == "window" else Summary(keep=keep - 1)
                await compact_view(view, rule, whole, question, running)
                shown = list(view.show(whole))
        assert list(view.restore(shown)) == whole
        assert User("Q") in shown
        assert fill_missing_results(shown) == tuple(shown)
        assert are_paired([to_json(message) for message in shown])
        first = next(message for message in shown if not isinstance(message, System))
        assert isinstance(first, User)
        again = ContextView()  # as a checkpoint has it
        again.cuts, again.lengths = view.cuts, dict(view.lengths)
        assert again.show(whole) == view.show(whole)
    for _ in range(60):
        if not (view.shorten(tuple(view.show(whole))) or view.omit(whole, question)):
            return
    raise AssertionError("it does not end")

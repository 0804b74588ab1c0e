from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcall import Agent, ModelError, tool
from agentcall.errors import BadAnswer, SessionBusy, UsageError
from agentcall.messages import (
    Assistant,
    Message,
    ToolCall,
    ToolResult,
    Usage,
    User,
    fill_missing_results,
    is_tainted,
    to_json,
)
from agentcall.result import RunResult
from agentcall.runtime.compaction import count_tail
from agentcall.runtime.prompts import OMITTED_NOTICE, SUMMARY_QUESTION
from agentcall.sessions import SQLiteSession, Summary, Window
from agentcall.testing import FakeServer, ScriptedModel, call, overflow, say


@tool
def look(at: str = "it") -> str:
    """Look."""
    return f"saw {at}"


@pytest.fixture
def session(tmp_path: Path) -> SQLiteSession:
    return SQLiteSession("chat", tmp_path / "s.db")


def agent(*script: object) -> Agent:
    return Agent(ScriptedModel(script), tools=[look])  # type: ignore[arg-type]


def chat(session: SQLiteSession, rounds: int) -> None:
    """Four messages a round."""
    for n in range(rounds):
        agent(call("look", at=f"at {n}"), say(f"answer {n}")).run_sync(f"n {n}", session=session)


# What is kept, over conversations of any kind.

texts = st.text("ab 看\n", max_size=5)
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Messages as runs leave them: results right behind their calls."""
    messages: list[Message] = []
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["user", "answer", "calls"]))
        if kind == "user":
            messages.append(User(draw(texts)))
        elif kind == "answer":
            messages.append(Assistant(draw(texts)))
        else:
            ids = [f"c{number}_{place}" for place in range(draw(st.integers(1, 3)))]
            messages.append(Assistant("", tuple(ToolCall(each, "f", "{}") for each in ids)))
            messages += [ToolResult(each, "f", draw(texts)) for each in ids]
    return messages


def whole(messages: Sequence[Message]) -> bool:
    """Every call has its result behind it, and every result its call before it."""
    asked: set[str] = set()
    for message in messages:
        if isinstance(message, Assistant):
            asked = {each.id for each in message.calls}
        elif isinstance(message, ToolResult) and message.call_id not in asked:
            return False
    return fill_missing_results(messages) == tuple(messages)


@relaxed
@given(conversations(), st.integers(1, 20))
def test_a_window_never_tears_a_tool_pair(messages: list[Message], most: int) -> None:
    kept = count_tail(messages, most)
    assert kept <= most
    assert whole(messages[len(messages) - kept :])
    if kept < len(messages):
        shorter = asyncio.run(Window(most).plan_compaction(messages))
        given_next = [*shorter.head, *messages[len(messages) - shorter.keep_last :]]
        assert isinstance(given_next[0], User)


@relaxed
@given(conversations(), st.integers(1, 20))
def test_a_window_keeps_all_there_is_room_for(messages: list[Message], most: int) -> None:
    kept = count_tail(messages, most)
    better = [n for n in range(kept + 1, min(most, len(messages)) + 1)
              if isinstance(messages[len(messages) - n], User)]  # fmt: skip
    assert better == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(conversations(), min_size=1, max_size=4), st.lists(st.integers(1, 12), max_size=3))
def test_a_session_that_is_compacted_has_it_all_and_gives_whole_pairs(
    runs: list[list[Message]], windows: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        session = SQLiteSession("chat", Path(folder) / "s.db")
        everything: list[Message] = []
        for number, run in enumerate(runs):
            result = RunResult("x", tuple(run), 0, Usage(), "final", f"r{number}")
            asyncio.run(session.save(result))
            everything += run
            for window in windows:
                before = session.snapshot.messages
                done = asyncio.run(session.compact(Window(window)))
                after = session.snapshot.messages
                assert (done.before, done.after) == (len(before), len(after))
                assert whole(after)
                assert len(after) <= max(window + 1, 1) or after == before
        assert list(session.messages) == everything


# In a session.


async def test_a_window_is_what_the_next_run_is_given(session: SQLiteSession) -> None:
    await asyncio.to_thread(chat, session, 4)
    done = await session.compact(Window(6))
    assert (done.before, done.after) == (16, 4)
    one = agent(say("x"))
    await one.run("next", session=session)
    assert [m["content"] for m in one.model.requests[0].messages if m["role"] == "user"] == [  # type: ignore[union-attr]
        "n 3", "next"
    ]  # fmt: skip
    assert len(session.messages) == 18
    shown = session.store.load_session("chat")
    assert (shown.compacted, shown.head) == (12, ())


async def test_a_run_longer_than_the_window_is_cut_between_its_turns(
    session: SQLiteSession,
) -> None:
    script = [*(call("look", at=str(n)) for n in range(5)), say("done")]
    await agent(*script).run("go", session=session)
    await session.compact(Window(4))
    messages = session.snapshot.messages
    assert messages[0] == User(OMITTED_NOTICE)
    assert [to_json(m)["role"] for m in messages] == ["user", "assistant", "tool", "assistant"]
    again = await session.compact(Window(4))
    assert again.before == again.after
    assert session.snapshot.messages == messages


async def test_what_is_short_enough_stays_as_it_is(session: SQLiteSession) -> None:
    assert (await session.compact(Window(5))).after == 0
    await asyncio.to_thread(chat, session, 1)
    before = session.snapshot
    assert (await session.compact(Window(4))).after == 4
    assert (await session.compact(Summary(ScriptedModel(), keep=4))).after == 4
    assert session.snapshot == before


async def test_a_summary_stands_before_the_last_messages(session: SQLiteSession) -> None:
    await asyncio.to_thread(chat, session, 3)
    model = ScriptedModel([say("Ann looked at 0 and 1.")])
    done = await session.compact(Summary(model, keep=4))
    assert (done.before, done.after) == (12, 6)
    assert session.snapshot.messages[:2] == (
        User(SUMMARY_QUESTION),
        Assistant("Ann looked at 0 and 1."),
    )
    assert session.snapshot.messages[2] == User("n 2")
    (asked,) = model.requests
    told = str(asked.messages[-1]["content"])
    assert 'User: n 0\n\nAssistant: \n(calls look {"at": "at 0"})' in told
    assert "look returned: saw at 1" in told
    assert "n 2" not in told
    assert len(session.messages) == 12


async def test_a_summary_may_be_all_that_is_left_and_be_summed_up_again(
    session: SQLiteSession,
) -> None:
    await asyncio.to_thread(chat, session, 2)
    await session.compact(Summary(ScriptedModel([say("first summary")]), keep=0))
    assert session.snapshot.messages == (User(SUMMARY_QUESTION), Assistant("first summary"))
    await asyncio.to_thread(chat, session, 1)
    model = ScriptedModel([say("second summary")])
    await session.compact(Summary(model, keep=0))
    assert "first summary" in str(model.requests[0].messages[-1]["content"])
    assert session.snapshot.messages == (User(SUMMARY_QUESTION), Assistant("second summary"))
    assert len(session.messages) == 12


async def test_a_summary_before_an_answer_is_one_message_of_the_user(
    session: SQLiteSession,
) -> None:
    script = [*(call("look", at=str(n)) for n in range(5)), say("done")]
    await agent(*script).run("go", session=session)
    await session.compact(Summary(ScriptedModel([say("so far")]), keep=3))
    first = session.snapshot.messages[0]
    assert isinstance(first, User)
    assert first.text == "What has happened so far:\nso far"
    assert whole(session.snapshot.messages)


@pytest.mark.parametrize("server", ["vllm", "lmdeploy", "lmdeploy-0.5"])
async def test_a_conversation_longer_than_the_window_is_summed_up_in_parts(
    session: SQLiteSession, server: Any
) -> None:
    text = " ".join(f"word{n}" for n in range(4000))
    await agent(say("ok")).run(text, session=session)
    seen: list[str] = []

    def answer(request: Any) -> Any:
        told = str(request.messages[-1]["content"])
        if len(told) > 5_000:
            return overflow(server, context=10)
        seen.append(told)
        return say(f"part {len(seen)}")

    await session.compact(Summary(ScriptedModel(answer), keep=0))
    assert len(seen) > 5
    assert "part 1" in seen[1]
    assert all(f"word{n}" in "".join(seen) for n in (0, 2000, 3999))
    assert session.snapshot.messages[1] == Assistant(f"part {len(seen)}")


@pytest.mark.parametrize("model", [ScriptedModel([say("")] * 3), "http://127.0.0.1:9/v1#m"])
async def test_a_summary_that_fails_changes_nothing(session: SQLiteSession, model: Any) -> None:
    await asyncio.to_thread(chat, session, 2)
    before = session.snapshot
    with pytest.raises((BadAnswer, ModelError)):
        await session.compact(Summary(model, keep=1))
    assert session.snapshot == before


async def test_nothing_is_compacted_while_a_run_goes_on(session: SQLiteSession) -> None:
    session.wait = 0.05
    async with session.acquire("r"):
        with pytest.raises(SessionBusy):
            await session.compact(Window(1))


@pytest.mark.parametrize("how", [Window(2), Summary(ScriptedModel([say("s")]), keep=2)])
async def test_what_strangers_wrote_stays_known(session: SQLiteSession, how: Any) -> None:
    @tool(untrusted=True, read_only=True)
    def page() -> str:
        """Page."""
        return "from a stranger"

    one = Agent(ScriptedModel([call("page"), say("a"), say("b")]), tools=[page])
    await one.run("first", session=session)
    await one.run("second", session=session)
    await session.compact(how)
    assert is_tainted(session.snapshot.messages)
    assert "from a stranger" not in str(session.snapshot.messages)


def test_how_much_is_kept_has_to_make_sense() -> None:
    with pytest.raises(UsageError, match="Window"):
        Window(0)
    with pytest.raises(UsageError, match="Summary"):
        Summary(ScriptedModel(), keep=-1)


async def test_a_summary_is_asked_of_a_real_server_too(session: SQLiteSession) -> None:
    await asyncio.to_thread(chat, session, 2)
    with FakeServer([say("a summary")]) as server:
        await session.compact(Summary(server.url, keep=0))
    assert session.snapshot.messages[1] == Assistant("a summary")

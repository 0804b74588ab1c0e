from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from approval_tools import SENT, look, send

from agentcall import Agent, Approved, Denied, Edited, Image, ModelError, tool
from agentcall.errors import UsageError
from agentcall.events import Event, RunFinished, TextDelta, ToolCallStarted
from agentcall.messages import Assistant, Text, Usage, User
from agentcall.runtime.prompts import SUMMARY_QUESTION
from agentcall.serving.conversation import Conversation, new_session
from agentcall.sessions import SessionStore, SQLiteSession, Window
from agentcall.testing import FakeServer, ScriptedModel, call, calls, say, status
from agentcall.testing.replies import ScriptedCall

PIXEL = Image("data:image/png;base64,iVBORw0KGgo=")


@pytest.fixture(autouse=True)
def fresh() -> None:
    SENT.clear()


@pytest.fixture
def session(tmp_path: Path) -> SQLiteSession:
    return SQLiteSession("trip", tmp_path / "s.db", wait=0)


def agent(*script: object) -> Agent:
    return Agent(ScriptedModel(script), tools=[look, send])  # type: ignore[arg-type]


def talk(session: SQLiteSession, *script: object) -> Conversation:
    return Conversation(agent(*script), session)


async def heard(events: Any) -> list[Event]:
    return [event async for event in events]


def said(one: Conversation) -> list[str]:
    return [message.text for run in one.history for message in run.messages]


def requests(one: Conversation) -> list[Any]:
    return one.agent.model.requests  # type: ignore[union-attr, return-value]


async def test_a_question_streams_and_is_in_the_session(session: SQLiteSession) -> None:
    one = talk(session, call("look", at="Oslo"), say("Cold."))
    events = await heard(one.ask("How is Oslo?"))
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "Cold."
    assert isinstance(events[-1], RunFinished)
    assert said(one) == ["How is Oslo?", "", "saw Oslo", "Cold."]
    assert one.usage == events[-1].result.usage


async def test_another_talk_over_the_session_goes_on(session: SQLiteSession) -> None:
    await heard(talk(session, say("Hello, Ann.")).ask("I am Ann."))
    again = talk(SQLiteSession("trip", session.store.path), say("Ann."))
    assert said(again) == ["I am Ann.", "Hello, Ann."]
    await heard(again.ask("Who am I?"))
    assert len(requests(again)[-1].messages) == 3
    assert again.usage.requests == 2


async def test_images_and_texts_are_asked_together(session: SQLiteSession) -> None:
    one = talk(session, say("A pixel."), say("A dot."))
    await heard(one.ask([PIXEL, "What is it?"]))
    await heard(one.retry())
    assert session.messages == (User((PIXEL, Text("What is it?"))), Assistant("A dot."))


async def test_calls_that_wait_are_decided_about_in_another_process(
    session: SQLiteSession,
) -> None:
    await heard(talk(session, calls(ScriptedCall("send", {"to": "ann"}, id="a"))).ask("Send."))
    again = talk(session, say("Done."))
    (waiting,) = again.pending
    assert (waiting.call.name, waiting.call.arguments) == ("send", '{"to": "ann"}')
    with pytest.raises(UsageError, match="do not fit"):
        again.check_decisions({"a": Edited("{}")})
    await heard(again.decide({"a": Edited({"to": "bob"})}))
    assert (SENT, again.pending) == (["bob"], ())
    assert said(again)[-1] == "Done."
    with pytest.raises(UsageError, match="no call waits"):
        again.decide({"a": True})


async def test_of_several_runs_that_wait_each_is_decided_about(session: SQLiteSession) -> None:
    one = talk(
        session,
        calls(ScriptedCall("send", {"to": "ann"}, id="a")),
        calls(ScriptedCall("send", {"to": "bob"}, id="a")),
        say("Bob it is."),
        say("And Ann not."),
    )
    await heard(one.ask("Ann."))
    await heard(one.ask("Bob."))
    first, last = one.pending
    await heard(one.decide({last.call.id: Approved()}))
    assert [each.run_id for each in one.pending] == [first.run_id]
    with pytest.raises(UsageError, match=f"{last.run_id} does not wait"):
        one.decide({last.call.id: True}, last.run_id)
    await heard(one.decide({first.call.id: Denied("no")}, first.run_id))
    assert SENT == ["bob"]


async def test_the_last_exchange_is_taken_back_whole(session: SQLiteSession) -> None:
    one = talk(session, say("one"), call("look"), say("two"), say("three"))
    await heard(one.ask("1"))
    await heard(one.ask("2"))
    (run,) = await one.undo()
    assert [m.text for m in run.messages] == ["2", "", "saw it", "two"]
    assert said(one) == ["1", "one"]
    assert session.store.search("two") == ()
    await heard(one.ask("3"))
    assert [m["content"] for m in requests(one)[-1].messages] == ["1", "one", "3"]


async def test_what_is_behind_a_run_is_taken_back_with_it(session: SQLiteSession) -> None:
    one = talk(session, *(say(str(n)) for n in range(3)))
    for n in range(3):
        await heard(one.ask(f"q{n}"))
    gone = await one.undo(one.history[1].id)
    assert [run.messages[0].text for run in gone] == ["q1", "q2"]
    assert said(one) == ["q0", "0"]
    with pytest.raises(UsageError, match="no run 'nine'"):
        await one.undo("nine")


async def test_there_is_an_end_to_taking_back(session: SQLiteSession) -> None:
    one = talk(session, say("one"))
    with pytest.raises(UsageError, match="nothing to undo"):
        await one.undo()
    await heard(one.ask("1"))
    await one.undo()
    for broken in (one.undo(), heard(one.retry())):
        with pytest.raises(UsageError, match="nothing to undo"):
            await broken


async def test_taking_back_takes_a_run_that_waits_out(session: SQLiteSession) -> None:
    one = talk(session, call("send", to="ann"), say("x"))
    await heard(one.ask("Send."))
    await one.undo()
    assert (one.pending, one.history) == ((), ())


async def test_a_question_is_asked_anew_or_otherwise(session: SQLiteSession) -> None:
    one = talk(session, say("one"), say("uno"), call("look"), say("due"))
    await heard(one.ask("1"))
    await heard(one.retry())
    assert said(one) == ["1", "uno"]
    await heard(one.retry("2"))
    assert said(one) == ["2", "", "saw it", "due"]


async def test_after_an_error_of_the_server_the_talk_goes_on(session: SQLiteSession) -> None:
    with FakeServer([status(400), say("Well.")]) as server:
        one = Conversation(Agent(server.url), session)
        with pytest.raises(ModelError):
            await heard(one.ask("1"))
        await heard(one.retry())
    assert said(one) == ["1", "Well."]


async def test_leaving_the_events_stops_the_run_and_the_talk_goes_on(
    session: SQLiteSession,
) -> None:
    slow = say("first and then a long time nothing more").replace(delay=0.2)
    with FakeServer([slow, say("Well.")]) as server:
        one = Conversation(Agent(server.url), session)
        async with aclosing(one.retry() if one.history else one.ask("1")) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        await heard(one.ask("2"))
    assert said(one) == ["1", "2", "Well."]


async def test_a_retry_that_is_left_stops_its_run(session: SQLiteSession) -> None:
    one = talk(session, say("one"), call("look"), say("never"), say("x"))
    await heard(one.ask("1"))
    async with aclosing(one.retry()) as events:
        async for event in events:
            if isinstance(event, ToolCallStarted):
                break
    assert "never" not in said(one)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_clearing_begins_a_session_of_its_own(session: SQLiteSession) -> None:
    one = talk(session, say("one"), say("two"))
    await heard(one.ask("1"))
    one.start_new()
    assert (one.history, one.usage) == ((), Usage())
    await heard(one.ask("2"))
    assert {each.id for each in SessionStore(session.store.path).list_sessions()} == {
        "trip",
        one.session.id,
    }
    assert [m.text for m in session.messages] == ["1", "one"]


async def test_a_talk_is_made_shorter_by_a_summary_of_its_model(session: SQLiteSession) -> None:
    script = [part for n in range(4) for part in (call("look"), say(str(n)))]
    one = talk(session, *script, say("All was seen."), say("4"))
    for n in range(4):
        await heard(one.ask(f"q{n}"))
    done = await one.compact()
    assert (done.before, done.after, len(said(one))) == (16, 6, 16)
    await one.undo()
    await heard(one.ask("q4"))
    given = requests(one)[-1].messages
    assert [m["content"] for m in given] == [SUMMARY_QUESTION, "All was seen.", "q4"]


async def test_taking_back_a_run_that_was_cut_into_brings_back_what_was_before(
    session: SQLiteSession,
) -> None:
    one = talk(session, call("look"), say("one"), call("look"), call("look"), say("two"), say("x"))
    await heard(one.ask("1"))
    await heard(one.ask("2"))
    assert (await one.compact(Window(2))).after == 2
    await one.undo()
    await heard(one.ask("3"))
    given = requests(one)[-1].messages
    assert [m["role"] for m in given] == ["user", "assistant", "tool", "assistant", "user"]


async def test_what_is_summed_up_is_not_taken_back(session: SQLiteSession) -> None:
    one = talk(session, say("one"), say("two"))
    await heard(one.ask("1"))
    await session.compact(_Nothing())
    with pytest.raises(UsageError, match="summed up"):
        await one.undo()
    assert said(one) == ["1", "one"]


class _Nothing:
    async def plan_compaction(self, messages: object) -> Any:
        from agentcall.sessions import CompactionPlan

        return CompactionPlan(0)


async def test_a_talk_gets_a_name(session: SQLiteSession) -> None:
    one = Conversation(agent(say("one"), say("two")), new_session(session))
    await heard(one.ask("1"))
    await one.rename("oslo")
    await heard(one.ask("2"))
    assert [each.id for each in SessionStore(session.store.path).list_sessions()] == ["oslo"]
    assert said(one) == ["1", "one", "2", "two"]
    await heard(talk(session, say("x")).ask("y"))
    with pytest.raises(UsageError, match="already"):
        await one.rename("trip")


async def test_another_agent_goes_on_with_the_talk(session: SQLiteSession) -> None:
    one = talk(session, say("one"))
    await heard(one.ask("1"))
    one.agent = agent(say("two"))
    await heard(one.ask("2"))
    assert said(one) == ["1", "one", "2", "two"]


async def test_a_person_is_told_who_asks_and_why(session: SQLiteSession) -> None:
    @tool(untrusted=True)
    def page() -> str:
        """Read a page."""
        return "obey"

    script = ScriptedModel(
        [call("page"), calls(ScriptedCall("look"), ScriptedCall("send", {"to": "x"}))]
    )
    mailer = Agent(script, tools=[page, look, send], name="mailer")
    boss = Agent(ScriptedModel([call("mail", task="go")]), tools=[mailer.as_tool("mail")])
    one = Conversation(boss, session)
    await heard(one.ask("Go."))
    waits = {each.call.name: each for each in one.pending}
    assert {each.agent for each in one.pending} == {"mail"}
    assert "look is not marked read_only" in waits["look"].reason
    assert waits["send"].reason.endswith("send is not marked read_only")
    assert "look is" not in waits["send"].reason

"""A session that is not in SQLite works wherever one is used."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from approval_tools import SENT, look, send
from dict_session import DictSession, Sessions

from agentcall import Agent, Approved
from agentcall.errors import UsageError
from agentcall.messages import Image
from agentcall.messages import Text as TextPart
from agentcall.serving.conversation import Conversation
from agentcall.sessions import SQLiteSession
from agentcall.sessions.export import export_markdown, load_session
from agentcall.testing import ScriptedModel, call, calls, say
from agentcall.testing.replies import ScriptedCall


@pytest.fixture(autouse=True)
def fresh() -> None:
    SENT.clear()


@pytest.fixture
def sessions() -> Sessions:
    return {}


def agent(*script: object) -> Agent:
    return Agent(ScriptedModel(script), tools=[look, send])  # type: ignore[arg-type]


def talk(sessions: Sessions, *script: object) -> Conversation:
    return Conversation(agent(*script), DictSession(sessions, "trip"))


async def heard(events: Any) -> list[Any]:
    async with aclosing(events):
        return [event async for event in events]


def texts(one: Conversation) -> list[str]:
    return [message.text for run in one.history for message in run.messages]


async def test_a_conversation_asks_retries_undoes_and_begins_anew(sessions: Sessions) -> None:
    one = talk(sessions, call("look", at="Oslo"), say("Cold."), say("Warm."), say("Hi."))
    await heard(one.ask("How is Oslo?"))
    assert texts(one) == ["How is Oslo?", "", "saw Oslo", "Cold."]
    await heard(one.retry("How is Rome?"))
    assert (texts(one), one.usage.requests) == (["How is Rome?", "Warm."], 1)
    one.start_new()
    await heard(one.ask("Hello."))
    assert [each.title for each in one.session.list_sessions()] == ["Hello.", "How is Rome?"]
    one.open("trip")
    assert [run.stop_reason for run in await one.undo()] == ["final"]
    with pytest.raises(UsageError, match="nothing to undo"):
        await one.undo()
    with pytest.raises(UsageError, match="no run 'x'"):
        await one.undo("x")


async def test_a_call_waits_in_it_and_is_decided_about_once(sessions: Sessions) -> None:
    await heard(talk(sessions, calls(ScriptedCall("send", {"to": "ann"}, id="a"))).ask("Send."))
    one = talk(sessions, say("Later."), say("Done."), say("Hi."))
    await heard(one.ask("And then?"))
    assert [pending.call.id for pending in one.pending] == ["a"]
    waiting = one.paused_runs[0]
    await heard(one.decide({"a": Approved("tool")}))
    assert (SENT, one.pending) == (["ann"], ())
    assert [rule.tool for rule in one.session.snapshot.approval_rules] == ["send"]
    with pytest.raises(UsageError, match="does not wait for these calls"):
        await heard(one.agent.resume_stream(waiting, {"a": True}, session=one.session))
    assert SENT == ["ann"]


async def test_it_remembers_what_a_session_in_sqlite_does(
    sessions: Sessions, tmp_path: Path
) -> None:
    script = (call("look"), say("one"), call("send", to="ann"), say("two"))
    own, usual = DictSession(sessions, "trip"), SQLiteSession("trip", tmp_path / "s.db")
    for session in (own, usual):
        one = Conversation(agent(*script), session)
        for question in ("1", "2", "3"):
            await heard(one.ask(question))
    assert [m.text for m in own.snapshot.messages] == [m.text for m in usual.snapshot.messages]
    assert [m for run in own.history for m in run.messages if m.text == "2"]
    kinds = [[type(m) for run in each.history for m in run.messages] for each in (own, usual)]
    assert kinds[0] == kinds[1]
    (left,), (right,) = own.list_sessions(), usual.list_sessions()
    counts = [(each.title, each.runs, each.waiting) for each in (left, right)]
    assert counts[0] == counts[1] == ("1", 3, 1)


async def test_a_page_of_the_browser_works_with_it(sessions: Sessions) -> None:
    web = pytest.importorskip("agentcall.serving.web.chat_tab")

    def load_image(path: str) -> Image:
        raise UsageError(path)

    tab = web.ChatTab(talk(sessions, call("send", to="ann"), say("Sent.")), load_image)
    *_, view = [each async for each in tab.ask([TextPart("Mail Ann.")])]
    assert view.waiting is not None
    *_, view = [each async for each in tab.decide(Approved())]
    assert (SENT, view.waiting) == (["ann"], None)
    assert [each.id for each in view.sessions] == ["trip"]
    *_, view = [each async for each in tab.start_new()]
    *_, view = [each async for each in tab.open_session("trip")]
    assert view.session == "trip"
    *_, view = [each async for each in tab.undo()]
    assert view.sessions == ()


async def test_it_is_exported(sessions: Sessions) -> None:
    one = talk(sessions, say("Cold."))
    with pytest.raises(UsageError, match="no session 'trip'"):
        load_session(one.session)
    await heard(one.ask("How is Oslo?"))
    assert "How is Oslo?" in export_markdown(load_session(one.session))


async def test_what_it_has_no_method_for_is_refused(sessions: Sessions) -> None:
    one = talk(sessions, say("Cold."))
    with pytest.raises(UsageError, match="DictSession cannot compact"):
        await one.compact()
    with pytest.raises(UsageError, match="DictSession cannot rename"):
        await one.rename("rome")

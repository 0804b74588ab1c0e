from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from approval_tools import SENT, look, send

from agentcall import Agent, Approved, Denied, ModelError, RunResult, tool
from agentcall.errors import SessionBusy, SessionError, UsageError
from agentcall.events import RunFinished
from agentcall.messages import (
    NO_RESULT,
    Assistant,
    Image,
    Message,
    Text,
    ToolResult,
    User,
    fill_missing_results,
    to_json,
)
from agentcall.runtime.session import AWAITING_APPROVAL, SessionSnapshot
from agentcall.sessions import SessionStore, SQLiteSession, Window, default_path
from agentcall.testing import FakeServer, ScriptedModel, call, calls, forever, say, status


@pytest.fixture(autouse=True)
def fresh() -> None:
    SENT.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def agent(*script: object, tools: object = (look, send)) -> Agent:
    return Agent(ScriptedModel(script), tools=tools)  # type: ignore[arg-type]


def requests(one: Agent) -> list[Any]:
    return one.model.requests  # type: ignore[union-attr, return-value]


def roles(messages: Collection[Message]) -> list[str]:
    return [str(to_json(message)["role"]) for message in messages]


def is_whole(messages: Collection[Message]) -> bool:
    return fill_missing_results(messages) == tuple(messages)


# A file that has changed.


async def test_a_flipped_bit_in_the_id_of_a_session_is_reported(path: Path) -> None:
    """The id stands in the table and in its index; neither makes the session look empty."""
    session = SQLiteSession("trip to oslo", path)
    await agent(say("hi")).run("hello", session=session)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole, known = path.read_bytes(), b"trip to oslo"
    places = [at for at in range(len(whole)) if whole.startswith(known, at)]
    assert len(places) == 2
    for at in places:
        for offset, bit in ((0, 0), (3, 1), (7, 5), (11, 6)):
            changed = bytearray(whole)
            changed[at + offset] ^= 1 << bit
            path.write_bytes(changed)
            for ask in (
                lambda: session.snapshot,
                lambda: session.messages,
                lambda: session.paused_runs,
                lambda: session.history,
                session.store.list_sessions,
            ):
                with pytest.raises(SessionError, match="damaged"):
                    ask()
            with pytest.raises(SessionError, match="damaged"):
                await agent(say("who are you?")).run("again", session=session)
            path.write_bytes(whole)
    assert len(session.messages) == 2
    assert SQLiteSession("another", path).messages == ()


# Remembering.


async def test_a_run_goes_on_with_the_conversation_of_the_session(path: Path) -> None:
    one = agent(say("Hello Ann."), call("look"), say("You are Ann."))
    session = SQLiteSession("chat", path)
    await one.run("I am Ann.", session=session)
    result = await one.run("Who am I?", session=SQLiteSession("chat", path))
    assert result.output == "You are Ann."
    assert [m["content"] for m in requests(one)[1].messages] == [
        "I am Ann.", "Hello Ann.", "Who am I?"
    ]  # fmt: skip
    assert roles(session.messages) == [
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert roles(result.new_messages) == ["user", "assistant", "tool", "assistant"]


async def test_sessions_of_one_file_know_nothing_of_each_other(path: Path) -> None:
    one = agent(say("a"), say("b"))
    await one.run("first", session=SQLiteSession("one", path))
    await one.run("second", session=SQLiteSession("two", path))
    assert [m["content"] for m in requests(one)[1].messages] == ["second"]


def test_sync_and_streamed_runs_remember_too(path: Path) -> None:
    session = SQLiteSession("chat", path)
    one = agent(say("a"), say("b"))
    one.run_sync("first", session=session)

    async def streamed() -> None:
        async for event in one.run_stream("second", session=session):
            if isinstance(event, RunFinished):
                assert len(session.messages) == 4  # it is put down when it is told
                break

    asyncio.run(streamed())
    assert [m.text for m in session.messages if isinstance(m, (User, Assistant))] == [
        "first", "a", "second", "b"
    ]  # fmt: skip


async def test_whatever_a_message_holds_comes_back_as_it_was(path: Path) -> None:
    parts = (Text("看 \x00 \U0001f600 'quote' \"q\""), Image("data:image/png;base64,AAAA", "low"))
    one = agent(say("héllo", thinking="hm"), call("look", at="\u202e"), say("b"))
    session = SQLiteSession("会话 1", path)
    first = await one.run(list(parts), session=session)
    second = await one.run("go", session=session)
    assert session.messages == (*first.messages, *second.new_messages)
    assert isinstance(session.messages[0], User)
    assert session.messages[0].content == parts


async def test_the_prompt_may_be_left_out_to_go_on(path: Path) -> None:
    session = SQLiteSession("chat", path)
    with pytest.raises(UsageError, match="this session has none yet"):
        await agent(say("a")).run(session=session)
    one = agent(say("a"), say("b"))
    await one.run("first", session=session)
    await one.run(session=session)
    assert [m["content"] for m in requests(one)[1].messages] == ["first", "a"]


async def test_messages_and_a_session_are_one_too_many(path: Path) -> None:
    with pytest.raises(UsageError, match="pass one"):
        await agent().run("a", messages=[User("x")], session=SQLiteSession("chat", path))


@pytest.mark.parametrize("identity", ["", "  ", "a\nb", "a\x00b", "x" * 201])
def test_an_id_that_is_none_is_refused(identity: str) -> None:
    with pytest.raises(UsageError, match="session id"):
        SQLiteSession(identity)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="':memory:'"):
        SQLiteSession("a", ":memory:")
    with pytest.raises(UsageError, match="below 0"):
        SQLiteSession("a", tmp_path / "x", wait=-1)
    with pytest.raises(SessionError, match="cannot be used"):
        agent(say("x")).run_sync("a", session=SQLiteSession("a", tmp_path))


def test_the_default_place_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTCALL_SESSIONS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_path() == Path("/data/agentcall/sessions.db")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_path() == Path.home() / ".local/share/agentcall/sessions.db"
    monkeypatch.setenv("AGENTCALL_SESSIONS", "/else/where.db")
    assert SQLiteSession("a").store.path == Path("/else/where.db")


def test_making_a_session_makes_no_file(path: Path) -> None:
    session = SQLiteSession("a", path)
    assert (session.messages, session.snapshot, session.paused_runs) == ((), SessionSnapshot(), ())
    assert not path.exists()


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    modes: set[int] = set()

    @tool
    def peek() -> str:
        """Peek."""
        modes.update(each.stat().st_mode & 0o777 for each in path.parent.iterdir())
        return "peeked"

    try:
        agent(call("peek"), say("x"), tools=[peek]).run_sync("a", session=SQLiteSession("a", path))
        session = SQLiteSession("a", path.parent / "deep" / "er" / "s.db")
        agent(say("x")).run_sync("a", session=session)
    finally:
        os.umask(before)
    assert modes == {0o600}
    assert session.store.path.stat().st_mode & 0o777 == 0o600
    assert (path.parent / "deep" / "er").stat().st_mode & 0o777 == 0o700
    assert sorted(each.name for each in path.parent.iterdir()) == ["deep", "sessions.db"]


async def test_a_session_of_ones_own_is_enough() -> None:
    class Kept:
        def __init__(self) -> None:
            self.runs: dict[str, RunResult[Any]] = {}

        @asynccontextmanager
        async def acquire(
            self, run_id: str, waiting: Collection[str] = ()
        ) -> AsyncGenerator[SessionSnapshot, None]:
            before = [m for r in self.runs.values() if r.run_id != run_id for m in r.new_messages]
            yield SessionSnapshot(tuple(before))

        async def save(self, result: RunResult[Any]) -> None:
            self.runs[result.run_id] = result

    session = Kept()
    one = agent(say("a"), say("b"))
    await one.run("first", session=session)
    await one.run("second", session=session)
    assert [m["content"] for m in requests(one)[1].messages] == ["first", "a", "second"]


# Runs that end badly.


async def test_a_run_that_fails_is_kept_as_far_as_it_came(path: Path) -> None:
    session = SQLiteSession("chat", path)
    with FakeServer([call("look"), forever(status(400))]) as server, pytest.raises(ModelError):
        await Agent(server.url, tools=[look]).run("go", session=session)
    assert roles(session.messages) == ["user", "assistant", "tool"]
    assert session.store.load_session("chat").runs[0].stop_reason == "error"
    one = agent(say("ok"))
    await one.run("again", session=session)
    assert len(requests(one)[0].messages) == 4


async def test_a_run_that_is_cancelled_is_kept_with_its_tool_pairs_whole(path: Path) -> None:
    entered = asyncio.Event()

    @tool(sequential=True)  # behind `look`, which has ended then
    async def hang() -> str:
        """Hang."""
        entered.set()
        await asyncio.sleep(60)
        return ""

    session = SQLiteSession("chat", path)
    one = agent(calls(call("look"), call("hang")), tools=[look, hang])
    task = asyncio.ensure_future(one.run("go", session=session))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_whole(session.messages)
    texts = [m.text for m in session.messages if isinstance(m, ToolResult)]
    assert texts == ["saw it", NO_RESULT]
    assert session.store.load_session("chat").runs[0].stop_reason == "cancelled"


async def test_leaving_a_stream_early_keeps_what_there_was(path: Path) -> None:
    session = SQLiteSession("chat", path)
    one = agent(call("look"), call("look", at="x"), say("b"))
    stream = one.run_stream("go", session=session)
    async for event in stream:
        if type(event).__name__ == "ToolCallFinished":
            break
    await stream.aclose()
    assert is_whole(session.messages)
    assert roles(session.messages)[:3] == ["user", "assistant", "tool"]


def killed(program: str, path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path), *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


DIES = """
    import os, signal, sys
    from agentcall import Agent, tool
    from agentcall.sessions import SQLiteSession
    from agentcall.testing import ScriptedModel, call, calls, say

    @tool(sequential=True)
    def look(at: str = "it") -> str:
        "Look."
        return f"saw {at}"

    @tool(sequential=True)
    def pay() -> str:
        "Pay."
        os.kill(os.getpid(), signal.SIGKILL)

    script = [call("look", at="first"), calls(call("look"), call("pay")), say("never")]
    agent = Agent(ScriptedModel(script), tools=[look, pay])
    agent.run_sync("Pay the bill.", session=SQLiteSession("chat", sys.argv[1]))
"""


async def test_after_a_kill_the_session_knows_what_was_called(path: Path) -> None:
    assert killed(DIES, path).returncode == -signal.SIGKILL
    session = SQLiteSession("chat", path, wait=0)
    one = agent(say("I do not know whether it was paid."))
    await one.run("Well?", session=session)
    sent = requests(one)[0].messages
    assert [m["role"] for m in sent] == [
        "user", "assistant", "tool", "assistant", "tool", "tool", "user"
    ]  # fmt: skip
    assert [m["content"] for m in sent if m["role"] == "tool"] == [
        "saw first",
        NO_RESULT,
        NO_RESULT,
    ]
    assert session.store.load_session("chat").runs[0].stop_reason == "error"
    assert list(path.parent.glob("*.lock")) == []


async def test_a_disk_that_refuses_starts_no_tool_and_loses_no_result(path: Path) -> None:
    session = SQLiteSession("chat", path)
    ran: list[str] = []

    @tool
    def act() -> str:
        """Act."""
        ran.append("act")
        return "done"

    @tool
    def lock() -> str:
        """Lock."""
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE messages")
        connection.close()
        return "locked"

    one = agent(call("lock"), call("act"), say("x"), tools=[lock, act])
    with pytest.raises(SessionError) as caught:
        await one.run("go", session=session)
    assert ran == []
    assert isinstance(caught.value.result, RunResult)


# Two at once.


async def test_two_runs_of_one_session_take_turns(path: Path) -> None:
    one = Agent(ScriptedModel(lambda request: say(str(len(request.messages)))))
    results = await asyncio.gather(
        *(one.run(f"n {n}", session=SQLiteSession("chat", path)) for n in range(5))
    )
    assert sorted(int(result.output) for result in results) == [1, 3, 5, 7, 9]
    assert roles(SQLiteSession("chat", path).messages) == ["user", "assistant"] * 5


async def test_who_waits_too_long_is_told_who_is_at_work(path: Path) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    @tool
    async def hang() -> str:
        """Hang."""
        entered.set()
        await leave.wait()
        return ""

    one = agent(call("hang"), say("done"), tools=[hang])
    task = asyncio.ensure_future(one.run("go", session=SQLiteSession("chat", path)))
    await entered.wait()
    other = SQLiteSession("chat", path, wait=0.05)
    with pytest.raises(SessionBusy, match=rf"process {os.getpid()} \(this one\).*0.05 seconds"):
        await agent(say("x")).run("hi", session=other)
    with pytest.raises(SessionBusy, match="cannot be deleted"):
        other.delete()
    assert (await agent(say("x")).run("hi", session=SQLiteSession("else", path))).output == "x"
    leave.set()
    assert (await task).output == "done"
    assert (await agent(say("x")).run("hi", session=other)).output == "x"


WRITES = """
    import sys
    from agentcall import Agent, tool
    from agentcall.sessions import SQLiteSession
    from agentcall.testing import ScriptedModel, call, calls, say

    @tool
    def look(at: str = "it") -> str:
        "Look."
        return f"saw {at}"

    path, name, who, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    for n in range(rounds):
        script = [calls(call("look", at="a"), call("look", at="b")), say(f"{who} {n}")]
        agent = Agent(ScriptedModel(script), tools=[look])
        agent.run_sync(f"{who} {n}", session=SQLiteSession(name, path))
"""


@pytest.mark.processes
@pytest.mark.parametrize("sessions", [1, 4], ids=["one session", "a session each"])
def test_processes_write_one_file_and_nothing_is_lost(path: Path, sessions: int) -> None:
    names = [f"s{n % sessions}" for n in range(4)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITES), str(path), name, f"p{n}", "5"],
            stderr=subprocess.PIPE, text=True,
        )
        for n, name in enumerate(names)
    ]  # fmt: skip
    assert [process.communicate(timeout=120)[1] for process in processes] == [""] * 4
    said: list[str] = []
    for name in set(names):
        messages = SQLiteSession(name, path).messages
        assert is_whole(messages)
        assert roles(messages) == ["user", "assistant", "tool", "tool", "assistant"] * (
            len(messages) // 5
        )
        said += [m.text for m in messages if isinstance(m, User)]
        own = {who: [t for t in said if t.startswith(who)] for who in ("p0", "p1", "p2", "p3")}
        assert all(texts == sorted(texts) for texts in own.values())
    assert sorted(said) == sorted(f"p{n} {k}" for n in range(4) for k in range(5))


def test_threads_write_one_session_and_nothing_is_lost(path: Path) -> None:
    def write(who: int) -> None:
        for n in range(4):
            script = [call("look"), say(f"{who} {n}")]
            agent(*script).run_sync(f"{who} {n}", session=SQLiteSession("chat", path))

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = SQLiteSession("chat", path).messages
    assert roles(messages) == ["user", "assistant", "tool", "assistant"] * 16


def test_a_session_of_a_killed_process_is_free_at_once(path: Path) -> None:
    program = """
        import sys, time
        from agentcall import Agent, tool
        from agentcall.sessions import SQLiteSession
        from agentcall.testing import ScriptedModel, call

        @tool
        def hang() -> str:
            "Hang."
            print("in", flush=True)
            time.sleep(60)

        agent = Agent(ScriptedModel([call("hang")]), tools=[hang])
        agent.run_sync("go", session=SQLiteSession("chat", sys.argv[1]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    session = SQLiteSession("chat", path, wait=0)
    with pytest.raises(SessionBusy, match=f"process {process.pid};"):
        agent(say("x")).run_sync("hi", session=session)
    process.kill()
    process.wait()
    process.stdout.close()
    assert agent(say("x")).run_sync("hi", session=session).output == "x"


# Approvals.


async def test_what_waits_is_in_the_session_and_goes_on_from_there(path: Path) -> None:
    session = SQLiteSession("chat", path)
    first = await agent(call("send", to="ann")).run("Mail Ann.", session=session)
    (state,) = SQLiteSession("chat", path).paused_runs
    assert state == first
    other = agent(say("Sent."), say("You are welcome."))
    result = await other.resume(state, {state.pending[0].call.id: True}, session=session)
    assert (result.output, SENT, session.paused_runs) == ("Sent.", ["ann"], ())
    assert roles(session.messages) == ["user", "assistant", "tool", "assistant"]
    await other.run("Thanks.", session=session)
    assert len(requests(other)[1].messages) == 5


async def test_a_run_that_waits_goes_on_once(path: Path) -> None:
    session = SQLiteSession("chat", path)
    state = await agent(call("send", to="ann")).run("Mail Ann.", session=session)
    decisions = {state.pending[0].call.id: True}
    await agent(say("Sent.")).resume(state, decisions, session=session)
    with pytest.raises(UsageError, match="it has continued since"):
        await agent(say("Sent.")).resume(state.to_json(), decisions, session=session)
    with pytest.raises(UsageError, match="not of this session"):
        await agent(say("x")).resume(state, decisions, session=SQLiteSession("other", path))
    assert SENT == ["ann"]


async def test_a_run_that_is_killed_after_an_approval_does_not_wait_again(path: Path) -> None:
    program = """
        import os, signal, sys
        from agentcall import Agent, tool
        from agentcall.sessions import SQLiteSession
        from agentcall.testing import ScriptedModel, call, say

        @tool(requires_approval=True)
        def send(to: str) -> str:
            "Send."
            os.kill(os.getpid(), signal.SIGKILL)

        session = SQLiteSession("chat", sys.argv[1])
        agent = Agent(ScriptedModel([call("send", to="ann"), say("x")]), tools=[send])
        state = agent.run_sync("go", session=session)
        agent.resume_sync(state, {state.pending[0].call.id: True}, session=session)
    """
    assert killed(program, path).returncode == -signal.SIGKILL
    session = SQLiteSession("chat", path)
    assert session.paused_runs == ()
    assert [m.text for m in session.messages if isinstance(m, ToolResult)] == [NO_RESULT]


async def test_the_conversation_may_go_on_while_a_call_waits(path: Path) -> None:
    session = SQLiteSession("chat", path)
    state = await agent(call("send", to="ann")).run("Mail Ann.", session=session)
    meanwhile = agent(say("Later."))
    await meanwhile.run("What time is it?", session=session)
    assert [m["content"] for m in requests(meanwhile)[0].messages if m["role"] == "tool"] == [
        AWAITING_APPROVAL
    ]
    await agent(say("Sent.")).resume(state, {state.pending[0].call.id: True}, session=session)
    texts = [m.text for m in session.messages]
    assert texts == ["Mail Ann.", "", "sent to ann", "Sent.", "What time is it?", "Later."]
    assert is_whole(session.messages)


async def test_what_was_approved_always_is_kept_in_the_session(path: Path) -> None:
    session = SQLiteSession("chat", path)
    one = agent(call("send", to="ann"), say("Sent."), call("send", to="bob"), say("Sent again."))
    state = await one.run("Mail Ann.", session=session)
    always = {state.pending[0].call.id: Approved(always="tool")}
    await one.resume(state, always, session=session)
    result = await one.run("And Bob.", session=SQLiteSession("chat", path))
    assert (result.output, SENT) == ("Sent again.", ["ann", "bob"])
    elsewhere = await agent(call("send", to="eve")).run("x", session=SQLiteSession("else", path))
    assert len(elsewhere.pending) == 1


async def test_a_denial_is_no_grant(path: Path) -> None:
    session = SQLiteSession("chat", path)
    one = agent(call("send", to="ann"), say("Not sent."), call("send", to="bob"))
    state = await one.run("Mail Ann.", session=session)
    await one.resume(state, {state.pending[0].call.id: Denied()}, session=session)
    assert len((await one.run("And Bob.", session=session)).pending) == 1


async def test_an_agent_in_an_agent_waits_in_the_session(path: Path) -> None:
    session = SQLiteSession("chat", path)
    inner = agent(call("send", to="ann"), say("sent"))
    outer = agent(call("mail", task="x"), say("ok"), tools=[inner.as_tool("mail", "Mail.")])
    await outer.run("go", session=session)
    (state,) = session.paused_runs
    result = await outer.resume(state, {state.pending[0].call.id: True}, session=session)
    assert (result.output, SENT) == ("ok", ["ann"])
    assert is_whole(session.messages)


# Files.


def filled(path: Path) -> tuple[Message, ...]:
    session = SQLiteSession("chat", path)
    for n in range(6):
        agent(call("look", at=f"{n} " * 300), say(f"answer {n}")).run_sync(
            f"n {n}", session=session
        )
    return session.messages


def test_a_file_that_was_cut_is_refused_with_words(path: Path) -> None:
    filled(path)
    whole = path.read_bytes()
    for size in (0, 1, 50, 100, 4095, 4096, 5000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(SessionError, match=str(path)):
            SQLiteSession("chat", path).snapshot
        with pytest.raises(SessionError):
            agent(say("x")).run_sync("hi", session=SQLiteSession("chat", path))
        assert path.read_bytes() == whole[:size]


def test_a_file_that_has_changed_is_refused_or_gives_what_was_in_it(path: Path) -> None:
    before = filled(path)
    whole = path.read_bytes()
    wrong: list[int] = []
    for place in range(0, len(whole), len(whole) // 400):
        changed = bytearray(whole)
        changed[place] ^= 0x15
        path.write_bytes(changed)
        try:
            found = SQLiteSession("chat", path).snapshot.messages
        except SessionError:
            continue
        if found != before:
            wrong.append(place)
    assert wrong == []


@pytest.mark.parametrize(
    "content", [b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 200, b"\x00" * 8192]
)
def test_a_foreign_file_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(SessionError, match=r"empty|not a session file"):
            agent(say("x")).run_sync("hi", session=SQLiteSession("chat", path))
        assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE sessions (id TEXT)")
    connection.close()
    with pytest.raises(SessionError, match="of another program; give another path"):
        SQLiteSession("chat", path).snapshot


@pytest.mark.parametrize(("version", "fix"), [(99, "update"), (1, "use the agentcall that wrote")])
def test_a_file_of_another_version_is_refused(path: Path, version: int, fix: str) -> None:
    filled(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(SessionError, match=rf"format {version}, .* reads format 2; {fix}"):
        SQLiteSession("chat", path).snapshot


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "UPDATE messages SET body = replace(body, 'ann', 'eve')",
            "message 0 of run 1",
        ),
        ("UPDATE runs SET waiting = replace(waiting, 'ann', 'eve')", "run [0-9a-f]+ has changed"),
        ("UPDATE runs SET size = 1", "run [0-9a-f]+ has changed"),
        ("UPDATE grants SET body = replace(body, 'look', 'send')", "an approval rule has changed"),
        ("UPDATE compactions SET place = 9", "a compaction has changed"),
    ],
)
async def test_a_row_that_has_changed_is_refused_with_its_place(
    path: Path, change: str, words: str
) -> None:
    session = SQLiteSession("chat", path)
    asking = tool(requires_approval=True)(look.function)
    state = await agent(call("look"), tools=[asking]).run("ann?", session=session)
    one = agent(say("ok"), call("send", to="ann"), tools=[asking, send])
    await one.resume(state, {state.pending[0].call.id: Approved("tool")}, session=session)
    await one.run("Mail ann.", session=session)
    await session.compact(Window(2))
    assert session.snapshot.approval_rules
    connection = sqlite3.connect(path)
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(SessionError, match=f"{path} is damaged .{words}"):
        session.snapshot


# Listing, searching, deleting.


def test_sessions_are_listed_the_last_first(path: Path) -> None:
    assert SessionStore(path).list_sessions() == ()
    agent(say("a")).run_sync("  The first\nquestion ", session=SQLiteSession("one", path))
    agent(call("send", to="x")).run_sync("y" * 200, session=SQLiteSession("two", path))
    two, one = SessionStore(path).list_sessions()
    assert (one.id, one.title, one.runs, one.messages, one.waiting) == (
        "one", "The first question", 1, 2, 0
    )  # fmt: skip
    assert (two.id, two.waiting, len(two.title)) == ("two", 1, 80)
    agent(say("b")).run_sync("again", session=SQLiteSession("one", path))
    assert [each.id for each in SessionStore(path).list_sessions()] == ["one", "two"]


def test_a_session_is_shown_run_by_run(path: Path) -> None:
    session = SQLiteSession("one", path)
    agent(call("look"), say("a")).run_sync("first", session=session)
    agent(say("b")).run_sync("second", session=session)
    shown = session.store.load_session("one")
    assert [len(run.messages) for run in shown.runs] == [4, 2]
    assert shown.runs[0].usage.requests == 2
    assert tuple(shown.messages) == session.messages
    with pytest.raises(UsageError, match="there is no session 'none'"):
        session.store.load_session("none")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("Oslo", ["user"]),
        ("oslo coat", ["user"]),
        ("weath", ["assistant", "tool"]),
        ("cafe", ["assistant"]),
        ("上海", ["tool"]),
        ("海天", ["tool"]),
        ("海上", []),
        ('"; DROP TABLE words; --', []),
        ("OR", []),
        ("it's", ["assistant"]),
        ("look*", []),
        ("umbrella", []),
    ],
)
def test_messages_are_found_by_their_words(path: Path, words: str, found: list[str]) -> None:
    @tool
    def weather(city: str) -> str:
        """Weather."""
        return "上海天气很好"

    one = agent(call("weather", city="x"), say("It's nice at the Café."), tools=[weather])
    one.run_sync("A coat in Oslo?", session=SQLiteSession("one", path))
    hits = SessionStore(path).search(words)
    assert sorted(hit.role for hit in hits) == found
    assert all(hit.session == "one" for hit in hits)
    shown = SessionStore(path).load_session("one").messages
    assert [roles([shown[hit.place]])[0] for hit in hits] == [hit.role for hit in hits]


def test_a_search_may_be_of_one_session_and_needs_a_word(path: Path) -> None:
    for name in ("one", "two"):
        agent(say("a")).run_sync("Oslo", session=SQLiteSession(name, path))
    assert [hit.session for hit in SessionStore(path).search("Oslo", "two")] == ["two"]
    with pytest.raises(UsageError, match="no session 'three'"):
        SessionStore(path).search("Oslo", "three")
    with pytest.raises(UsageError, match="no word"):
        SessionStore(path).search(" -- ")


def test_the_excerpt_is_around_the_word(path: Path) -> None:
    text = "before " * 50 + "NEEDLE" + " behind" * 50
    agent(say("a")).run_sync(text, session=SQLiteSession("one", path))
    (hit,) = SessionStore(path).search("needle")
    assert "NEEDLE" in hit.excerpt
    assert hit.excerpt.startswith("…")
    assert len(hit.excerpt) < 200


def test_what_is_deleted_is_gone_from_the_file(path: Path) -> None:
    canary = "canary-4f1d9"
    session = SQLiteSession("gone", path)
    agent(call("look", at=canary), say(canary)).run_sync(f"{canary} " * 500, session=session)
    agent(say("b")).run_sync("stays", session=SQLiteSession("stays", path))
    assert canary.encode() in path.read_bytes()
    assert session.delete() == 4
    assert all(b"canary" not in each.read_bytes() for each in path.parent.iterdir())
    assert SessionStore(path).search(canary) == ()
    assert [each.id for each in SessionStore(path).list_sessions()] == ["stays"]
    with pytest.raises(UsageError, match="no session 'gone'"):
        session.delete()
    agent(say("c")).run_sync("anew", session=session)
    assert len(session.messages) == 2


# Secrets.


@pytest.mark.parametrize("fails", [False, True])
def test_no_key_and_no_header_is_ever_in_a_session_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setenv("AGENTCALL_API_KEY", "canary-key-1")
    monkeypatch.setenv("OTHER_SECRET", "canary-env-2")
    script = [call("look"), forever(status(401) if fails else say("ok"))]
    with FakeServer(script) as server:
        url = server.url.replace("http://", "http://canary-user-3:canary-password-4@")
        session = SQLiteSession("chat", path)
        one: Agent = Agent(url, tools=[look, send])
        with pytest.raises(ModelError) if fails else nullcontext() as caught:
            one.run_sync("go", session=session)
            one.run_sync("on", session=session)
        sent = [str(request.headers) for request in server.requests]
    assert any("canary-key-1" in headers or "Basic" in headers for headers in sent)
    assert b"go" in path.read_bytes()
    for each in path.parent.iterdir():
        assert b"canary" not in each.read_bytes()
    shown = json.dumps([to_json(message) for message in session.messages])
    assert "canary" not in shown
    assert "canary" not in str(caught)

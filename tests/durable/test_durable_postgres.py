"""A journal in a real PostgreSQL: leases, takeovers, workers, a server that restarts."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Generator
from contextlib import suppress

import psycopg
import pytest
from postgres_server import Server, server

from agentcall import Agent, tool
from agentcall.durable import durable
from agentcall.durable.worker import DurableWorker, WorkerResult
from agentcall.errors import JournalDamaged, JournalError, RunBusy
from agentcall.storage.locks import LeaseOwner
from agentcall.testing import ScriptedModel, call, say

pytestmark = pytest.mark.durable

DONE: list[str] = []


@pytest.fixture(scope="module")
def postgres() -> Generator[Server, None, None]:
    with server() as found:
        yield found


@pytest.fixture
def url(postgres: Server) -> str:
    DONE.clear()
    return postgres.schema()


@tool
async def wait(name: str) -> str:
    """Wait."""
    DONE.append(name)
    await asyncio.sleep(1.0)
    return f"waited {name}"


def agent(*replies: object) -> Agent:
    return Agent(ScriptedModel(replies), tools=[wait])  # type: ignore[arg-type]


async def begun(count: int = 1) -> None:
    for _ in range(3000):
        if len(DONE) >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(DONE)


async def test_a_run_is_recorded_and_its_result_given_again(url: str) -> None:
    with durable(agent(call("wait", name="a"), say("ok")), url) as runs:
        first = await runs.run("go", run_id="x")
    with durable(agent(), url) as runs:
        assert await runs.run("go", run_id="x") == first
    assert DONE == ["a"]


async def test_a_second_runner_is_refused_at_once_and_told_who_is_the_first(url: str) -> None:
    with durable(agent(call("wait", name="a"), say("ok")), url) as runs:
        task = asyncio.ensure_future(runs.run("go", run_id="x"))
        await begun()
        with durable(agent(), url) as others, pytest.raises(RunBusy, match=f"{os.getpid()}"):
            await others.run(run_id="x")
        assert (await task).output == "ok"


async def test_a_hold_is_renewed_as_long_as_its_process_lives(url: str) -> None:
    with (
        durable(agent(call("wait", name="a"), say("ok")), url, lease=0.4) as runs,
        durable(agent(), url) as others,
    ):
        task = asyncio.ensure_future(runs.run("go", run_id="x"))
        await begun()
        await asyncio.sleep(0.7)
        with pytest.raises(RunBusy):
            await others.run(run_id="x")
        assert (await task).output == "ok"


async def test_who_lost_its_hold_writes_nothing_more(url: str) -> None:
    with durable(agent(call("wait", name="a"), call("wait", name="b")), url, lease=30) as runs:
        task = asyncio.ensure_future(runs.run("go", run_id="x"))
        await begun()
        with psycopg.connect(url) as connection:  # as when its lease had run out
            connection.execute("UPDATE agentcall_runs SET until = 0, holder = 'elsewhere:1:ab:1'")
        with durable(agent(say("taken over")), url) as others:
            result = await others.run(run_id="x")
        with pytest.raises(RunBusy, match="taken over"):
            await task
    assert (result.output, DONE) == ("taken over", ["a"])
    assert any("outcome is unknown" in note for note in result.notes)


async def test_a_dead_process_of_this_machine_is_known_before_its_lease_ends(
    url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    holder = LeaseOwner(tmp_path_factory.mktemp("x") / "agentcall")
    host, pid, random = holder.name.split(":")
    assert (host, pid) == (socket.gethostname(), str(os.getpid()))
    other = f"{host}:{pid}:00000000:1"  # another process that had our pid
    assert holder.is_lease_alive(other) is None
    assert holder.is_lease_alive(holder.create_lease()) is True
    holder.close()
    assert random


async def test_a_server_that_restarts_is_waited_for(url: str, postgres: Server) -> None:
    turns = [call("wait", name=str(n)) for n in range(3)]
    with durable(agent(*turns, say("ok")), url) as runs:
        task = asyncio.ensure_future(runs.run("go", run_id="x"))
        await begun(2)
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)
        assert (await task).output == "ok"
    assert DONE == ["0", "1", "2"]


async def test_workers_share_a_queue_and_take_each_run_once(url: str) -> None:
    told: list[WorkerResult] = []
    crews = [durable(agent(*[say(f"ok {n}")] * 40), url, lease=5) for n in range(4)]
    for n in range(40):
        await crews[0].enqueue(f"go {n}", run_id=f"r{n}")
    await asyncio.gather(
        *(DurableWorker(runs, told.append, concurrency=3).run(until_empty=True) for runs in crews)
    )
    for runs in crews:
        runs.close()
    assert sorted(done.run_id for done in told) == sorted(f"r{n}" for n in range(40))
    assert len({str(done.result) for done in told}) > 1  # more than one did some


async def test_a_changed_record_is_refused_and_does_not_hold_up_the_queue(url: str) -> None:
    told: list[WorkerResult] = []
    with durable(agent(say("ok")), url) as runs:
        await runs.enqueue("go", run_id="bad")
        await runs.enqueue("go", run_id="good")
        with psycopg.connect(url) as connection:
            connection.execute(
                "UPDATE agentcall_records SET body = replace(body, 'go', 'no') WHERE run_id = 'bad'"
            )
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(DurableWorker(runs, told.append).run(), 5)
        with pytest.raises(JournalDamaged, match="record 1 of the run bad"):
            await runs.run(run_id="bad")
    assert sorted(type(done.error).__name__ for done in told) == ["JournalDamaged", "NoneType"]


async def test_a_newer_format_is_refused(url: str) -> None:
    with durable(agent(say("ok")), url) as runs:
        await runs.run("go")
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE agentcall_format SET version = 9")
    with durable(agent(), url) as runs, pytest.raises(JournalDamaged, match="the format 9"):
        await runs.run("go")


def test_a_server_that_is_not_there_is_an_error_at_once_without_the_password() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"postgresql://me:canary@127.0.0.1:{port}/x?sslkey=canary"
    with durable(agent(), url) as runs, pytest.raises(JournalError) as error:
        runs.run_sync("go")
    assert f"127.0.0.1:{port}/x" in str(error.value)
    assert "canary" not in str(error.value)

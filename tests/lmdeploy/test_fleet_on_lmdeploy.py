"""Agents on several servers: behind LMDeploy's own proxy, and by a list of URLs."""

import asyncio
import json
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import reference_format as reference
from fleet import AGENTCALL, MODEL, Proxy, kill, nodes
from launch import Server
from stand import Reply, exchange

from agentcall.agent import Agent
from agentcall.models.resolve import resolve_model
from agentcall.result import RunResult
from agentcall.testing import FakeServer, forever, say, status
from agentcall.tools.tool import tool
from agentcall_server.http_client import parse_server_url

RUNS, AT_A_TIME, BEFORE_THE_KILL = 40, 10, 8


@tool
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


def speaks(server: Server) -> None:
    """The model calls `add` and then answers, each in about half a second."""
    call = "I'll add." + reference.call("add", {"a": 3, "b": 5})
    server.stand.script(
        [
            Reply("The sum is 8, no doubt.", match="environment", delay=0.02, repeat=True),
            Reply(call, delay=0.01, repeat=True),
        ]
    )


async def load(
    agent: Agent[str], one: Callable[[int], object], when: int = BEFORE_THE_KILL
) -> list[RunResult[str]]:
    """Many runs, streamed and not; `one` happens once so many have ended."""
    done: list[RunResult[str]] = []
    room = asyncio.Semaphore(AT_A_TIME)

    async def run(number: int) -> None:
        async with room:
            if number % 2:
                done.append(await agent.run(f"Question {number}: 3+5?"))
            else:
                events = [event async for event in agent.run_stream(f"Question {number}: 3+5?")]
                done.append(events[-1].result)  # type: ignore[union-attr]
        if len(done) == when:
            await asyncio.to_thread(one, len(done))

    await asyncio.gather(*map(run, range(RUNS)))
    return done


def all_right(results: list[RunResult[str]]) -> bool:
    outputs = Counter((result.output, len(result.tool_calls)) for result in results)
    reasons = {result.stop_reason for result in results}
    return outputs == {("The sum is 8, no doubt.", 1): RUNS} and reasons == {"final"}


async def test_behind_the_proxy_no_run_is_lost_when_a_node_is_killed(tmp_path: Path) -> None:
    with nodes(tmp_path, 2) as (first, second):
        speaks(first)
        speaks(second)
        words = [word for node in (first, second) for word in ("--node", node.stand.url)]
        with Proxy("--port", "0", *words) as proxy:
            before: list[int] = []

            def end_first(_: int) -> None:
                before.append(len(first.stand.records()))
                kill(first)

            results = await load(Agent(f"{proxy.url}/v1", tools=[add]), end_first)
            assert all_right(results)
            assert before[0] > 2  # it had its share
            await asyncio.to_thread(proxy.wait_for, "does not answer; removed")
            left = json.loads(exchange(f"{proxy.url}/nodes/status").body)
            assert list(left) == [parse_server_url(second.stand.url)]


async def test_with_a_list_of_urls_no_run_is_lost_when_a_node_is_killed(tmp_path: Path) -> None:
    with nodes(tmp_path, 2) as (first, second):
        speaks(first)
        speaks(second)
        before: list[int] = []

        def end_first(_: int) -> None:
            before.append(len(first.stand.records()))
            kill(first)

        urls = [f"{first.stand.url}#{MODEL}", f"{second.stand.url}#{MODEL}"]
        results = await load(Agent(resolve_model(urls), tools=[add]), end_first)
        assert all_right(results)
        assert before[0] > 2


# --- the nodes of the proxy; its nodes are servers that play a script ---


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with Proxy("--port", "0") as running:
        yield running


def agentcall(*words: str, key: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AGENTCALL_API_KEY": key, "COLUMNS": "200"}
    command = [str(AGENTCALL), "server", "nodes", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def listed(proxy: Proxy) -> dict[str, list[str]]:
    done = agentcall("list", "--proxy", proxy.url, "--json")
    assert done.returncode == 0, done.stderr
    return {node["url"]: node["models"] for node in json.loads(done.stdout)}


async def test_nodes_come_are_shown_serve_and_go(proxy: Proxy) -> None:
    with FakeServer([forever(say("from a node"))], models=["m"]) as node:
        added = agentcall("add", node.url, "--proxy", proxy.url)
        assert (added.returncode, added.stdout) == (0, f"added {parse_server_url(node.url)}: m\n")
        assert listed(proxy) == {parse_server_url(node.url): ["m"]}
        assert parse_server_url(node.url) in agentcall("list", "--proxy", proxy.url).stdout
        assert (await Agent(f"{proxy.url}/v1").run("hi")).output == "from a node"
        removed = agentcall("remove", node.url, "--proxy", f"{proxy.url}/v1")
        assert removed.returncode == 0, removed.stderr
        assert listed(proxy) == {}
        assert "has no nodes" in agentcall("list", "--proxy", proxy.url).stdout


def test_a_node_that_does_not_answer_is_not_added(proxy: Proxy) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = agentcall("add", gone, "--proxy", proxy.url)
    assert done.returncode == 3
    assert f"no server answers at {gone}" in done.stderr
    assert listed(proxy) == {}


def test_what_is_wrong_with_a_node_is_told(proxy: Proxy) -> None:
    done = agentcall("remove", "http://127.0.0.1:1", "--proxy", proxy.url)
    assert done.returncode == 3
    assert "has no node http://127.0.0.1:1; its nodes: none" in done.stderr
    refusal = status(401)
    with FakeServer([], pages={"/v1/models": refusal}) as node:
        done = agentcall("add", node.url, "--proxy", proxy.url)
    assert "requires another key" in done.stderr
    assert agentcall("add", "gpu1:nowhere", "--proxy", proxy.url).returncode == 2


def test_something_else_than_a_proxy_is_told() -> None:
    with FakeServer([]) as server:
        done = agentcall("list", "--proxy", server.url)
    assert done.returncode == 3
    assert "is not a proxy of LMDeploy" in done.stderr


def test_a_model_that_one_node_serves_alone_is_noticed(proxy: Proxy) -> None:
    with FakeServer([], models=["m"]) as one, FakeServer([], models=["/data/m"]) as two:
        assert agentcall("add", one.url, "--proxy", proxy.url).stderr == ""
        done = agentcall("add", two.url, "--proxy", proxy.url)
        assert "served by one node only: m, /data/m" in done.stderr
        for node in (one, two):
            agentcall("remove", node.url, "--proxy", proxy.url)


def test_a_node_that_goes_away_is_taken_out_and_comes_back(proxy: Proxy) -> None:
    node = FakeServer([], models=["m"])
    node.start()
    agentcall("add", node.url, "--proxy", proxy.url)
    node.stop()
    proxy.wait_for("does not answer; removed")
    assert listed(proxy) == {}
    node.start()
    proxy.wait_for(f"node {parse_server_url(node.url)} serves m")
    assert list(listed(proxy)) == [parse_server_url(node.url)]
    agentcall("remove", node.url, "--proxy", proxy.url)
    node.stop()


async def test_the_key_of_clients_is_asked_for_and_handed_on() -> None:
    wants = FakeServer([forever(say("hi"))], models=["m"])
    with wants, Proxy("--port", "0", "--node", wants.url, key="sk-fleet") as proxy:
        refused = exchange(f"{proxy.url}/v1/models")
        assert refused.status == 401
        assert agentcall("list", "--proxy", proxy.url).returncode == 0  # LMDeploy guards no nodes
        environment = {**os.environ, "AGENTCALL_API_KEY": "sk-fleet"}
        command = [str(AGENTCALL), "run", "hi", "-m", f"{proxy.url}/v1"]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, env=environment, check=False
        )
        assert done.stdout == "hi\n", done.stderr
        assert wants.requests[-1].headers["authorization"] == "Bearer sk-fleet"


def test_a_port_that_is_taken_is_told_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        running = Proxy("--port", port)
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1 port {port}"):
            running.__enter__()


def test_the_proxy_ends_with_the_command() -> None:
    with Proxy("--port", "0") as running:
        url = running.url
        assert running.stop() == 0
    with pytest.raises(OSError, match="refused"):
        exchange(f"{url}/nodes/status")

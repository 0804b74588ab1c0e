"""MCP against servers in processes of their own: ours, one made with the official package, and one
of the protocol's reference servers; and our server under the official client."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from command_line import SCRIPT, TOOLS, agentcall, environment
from mcp import Client, StdioServerParameters

from agentcall import Agent, RunResult, tool
from agentcall.errors import UsageError
from agentcall.mcp import MCPServer, MCPTools
from agentcall.mcp.connection import MCPConnectionError
from agentcall.serving.http_security import AccessPolicy
from agentcall.testing import ScriptedModel, call, say

pytestmark = pytest.mark.mcp

OFFICIAL = """
import os, sys, time
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

server = MCPServer("official")
print("started", os.environ.get("MCP_TEST", ""), file=sys.stderr)

@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

@server.tool()
def say_env() -> str:
    "What is in the environment."
    return f"{os.environ.get('MCP_TEST')} {os.environ.get('MCP_SECRET')}"

@server.tool()
def fail() -> str:
    "Fail."
    raise ToolError("no disk")

@server.tool()
def die() -> str:
    "End the process."
    os._exit(3)

@server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=True))
def nap() -> str:
    "Sleep for long."
    time.sleep(60)
    return "slept"

server.run("stdio")
"""


@pytest.fixture
def official(tmp_path: Path) -> str:
    (tmp_path / "official.py").write_text(OFFICIAL)
    return f"{sys.executable} {tmp_path / 'official.py'}"


def told(result: RunResult[str]) -> list[str]:
    return [answer.text for _, answer in result.tool_calls if answer]


def test_an_agent_calls_the_tools_of_a_server(official: str) -> None:
    model = ScriptedModel([call("add", a=2, b="3"), call("fail"), say("It is 5.")])
    with MCPTools(official, read_only=True) as tools:
        result = Agent(model, tools=[tools]).run_sync("2+3?")
    assert told(result)[0] == "5"
    assert "no disk" in told(result)[1]
    assert [answer.untrusted for _, answer in result.tool_calls if answer] == [True, True]


def test_what_acts_waits_for_approval_once_a_server_has_said_something(official: str) -> None:
    model = ScriptedModel([call("add", a=2, b=3), call("fail"), say("It is 5.")])
    with MCPTools(official) as tools:
        result = Agent(model, tools=[tools]).run_sync("2+3?")
    assert [each.call.name for each in result.pending] == ["fail"]


async def test_it_works_in_any_event_loop_and_for_many_runs_at_once(official: str) -> None:
    async with MCPTools(official, prefix="far_") as tools:

        async def one(n: int) -> str:
            model = ScriptedModel([call("far_add", a=n, b=1), say("done")])
            return told(await Agent(model, tools=tools).run("?"))[0]

        assert await asyncio.gather(*map(one, range(20))) == [str(n + 1) for n in range(20)]


def test_its_hints_become_marks_unless_they_are_overruled(official: str) -> None:
    with MCPTools(official, timeout=5) as tools:
        add, env, *_, nap = tools
    assert (add.options.egress, env.options.egress, nap.options.egress) == (False, False, True)
    assert (add.options.read_only, add.options.idempotent, add.options.untrusted) == (
        True,
        True,
        True,
    )
    assert (env.options.read_only, env.options.timeout) == (False, 5)
    with MCPTools(official, read_only=False, requires_approval=True) as tools:
        add = next(iter(tools))
    assert (add.options.read_only, add.options.requires_approval) == (False, True)


def test_a_command_finds_what_it_is_given_and_no_more_of_our_environment(
    official: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_SECRET", "canary")
    with MCPTools(official, env={"MCP_TEST": "here"}) as tools:
        model = ScriptedModel([call("say_env"), say("ok")])
        assert told(Agent(model, tools=tools).run_sync("?")) == ["here None"]


def test_a_server_that_ends_during_a_call_is_told_and_started_again(official: str) -> None:
    with MCPTools(official, read_only=True) as tools:
        model = ScriptedModel([call("die"), call("add", a=1, b=1), say("ok")])
        first, second = told(Agent(model, tools=tools).run_sync("?"))
    assert "whether the call was carried out is not known" in first
    assert "started" in first  # what it wrote to its standard error
    assert second == "2"


def test_a_server_that_ended_meanwhile_is_started_again(official: str) -> None:
    with MCPTools(official) as tools:
        agent = Agent(ScriptedModel([call("add", a=1, b=1), say("a")] * 2), tools=tools)
        agent.run_sync("?")
        subprocess.run(["pkill", "-9", "-f", official.split()[1]], check=True)
        time.sleep(1.2)
        assert told(agent.run_sync("?")) == ["2"]


def test_a_deadline_ends_a_call(official: str) -> None:
    with MCPTools(official, timeout=0.5, read_only=True) as tools:
        model = ScriptedModel([call("nap"), call("add", a=1, b=1), say("ok")])
        first, second = told(Agent(model, tools=tools).run_sync("?"))
    assert "did not end within 0.5 seconds" in first
    assert second == "2"


def test_closing_ends_the_server(official: str) -> None:
    with MCPTools(official) as tools:
        assert len(tools.tools) == 5
        assert subprocess.run(["pgrep", "-f", official.split()[1]], check=False).returncode == 0
    assert subprocess.run(["pgrep", "-f", official.split()[1]], check=False).returncode == 1


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("", "a command that starts it"),
        ("no-such-program --stdio", "'no-such-program' is neither an executable program"),
    ],
)
def test_what_is_no_server_is_refused(server: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MCPTools(server)


def test_options_of_the_other_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="headers="):
        MCPTools("http://127.0.0.1:1/mcp", env={"A": "b"})
    with pytest.raises(UsageError, match="env="):
        MCPTools(sys.executable, headers={"A": "b"})


def test_a_command_that_does_not_start_says_what_it_wrote(tmp_path: Path) -> None:
    with pytest.raises(MCPConnectionError, match="can't open file"):
        list(MCPTools(f"{sys.executable} {tmp_path / 'none.py'}"))


def test_an_address_where_nobody_listens_is_told_without_its_secrets() -> None:
    with pytest.raises(MCPConnectionError) as caught:
        list(MCPTools("http://user:canary@127.0.0.1:9/mcp?key=canary"))
    assert "http://127.0.0.1:9/mcp cannot be used" in str(caught.value)
    assert "canary" not in str(caught.value)


@contextmanager
def served(tmp_path: Path, *words: str, **env: str) -> Iterator[str]:
    """`agentcall mcp --http` on a free port; its URL."""
    (tmp_path / "tools.py").write_text(TOOLS)
    process = subprocess.Popen(
        [SCRIPT, "mcp", "-t", "tools.py", "--http", "127.0.0.1:0", *words],
        cwd=tmp_path,
        env=environment(**env),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://\S+", line):
                yield found[0]
                return
    finally:
        process.terminate()
        process.wait(10)
        if process.stderr:
            process.stderr.close()


def test_agentcall_mcp_serves_its_tools_to_agentcall(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    with MCPTools(f"{SCRIPT} mcp -t {tmp_path / 'tools.py'}", read_only=True) as tools:
        assert "delete" not in [found.name for found in tools]  # it needs approval
        model = ScriptedModel([call("mul", a=3, b=4), call("fail"), call("mul", a=1), say("ok")])
        results = told(Agent(model, tools=tools).run_sync("?"))
    assert results[:2] == ["12", "ValueError: no disk"]
    assert "b: missing" in results[2]


def test_agentcall_mcp_serves_by_http(tmp_path: Path) -> None:
    with served(tmp_path) as url, MCPTools(url) as tools:
        model = ScriptedModel([call("add", a=3, b=4), say("ok")])
        assert told(Agent(model, tools=tools).run_sync("?")) == ["7"]


def test_a_server_on_this_machine_is_not_reached_through_the_environments_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path) as url:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        with MCPTools(url) as tools:
            assert len(tools.tools) > 3


def test_a_token_is_asked_for_and_taken(tmp_path: Path) -> None:
    with served(tmp_path, AGENTCALL_SERVE_KEYS="canary") as url:
        with pytest.raises(MCPConnectionError, match="401"):
            list(MCPTools(url))
        with MCPTools(url, headers={"Authorization": "Bearer canary"}) as tools:
            assert len(tools.tools) > 3
        assert httpx.post(url, json={}).status_code == 401


def test_strangers_are_turned_away(tmp_path: Path) -> None:
    with served(tmp_path) as url:
        assert httpx.post(url, json={}, headers={"Host": "evil.example"}).status_code == 403
        assert (
            httpx.post(url, json={}, headers={"Origin": "http://evil.example"}).status_code == 403
        )
        assert httpx.post(url, content=b" " * 100_000_000).status_code == 413


def test_a_page_of_another_server_of_this_machine_may_not_ask(tmp_path: Path) -> None:
    with served(tmp_path) as url:
        for origin in ("http://localhost:3000", "http://127.0.0.1", "null"):
            assert httpx.post(url, json={}, headers={"Origin": origin}).status_code == 403
        assert (
            httpx.post(url, content=b"{}", headers={"Content-Type": "text/plain"}).status_code
            == 415
        )


def test_a_message_that_is_too_deep_or_too_long_is_refused(tmp_path: Path) -> None:
    head = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    nested, values = "[" * 500 + "]" * 500, "[" + "1," * 200_000 + "1]"
    asked = '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": %s}'
    call = '{"name": "add", "arguments": {"a": %s, "b": 1}}'
    with served(tmp_path) as url:
        for body in (asked % nested, asked % (call % nested), asked % (call % values), nested):
            assert httpx.post(url, content=body, headers=head).status_code == 400
        shallow = asked % (call % ("[" * 50 + "]" * 50))
        assert httpx.post(url, content=shallow, headers=head).status_code < 500
        with MCPTools(url) as tools:
            assert len(tools.tools) > 3


def test_the_tools_of_a_server_go_on_the_command_line(official: str, tmp_path: Path) -> None:
    done = agentcall(
        "tools", "call", "add", '{"a": 2, "b": 3}', "-t", f"mcp:{official}", cwd=tmp_path
    )
    assert (done.stdout.strip(), done.returncode) == ("5", 0)


async def test_what_is_called_has_its_deps() -> None:
    from agentcall import RunContext

    def whose(context: RunContext[str]) -> str:
        """Whose this is."""
        return context.deps

    async with Client(MCPServer(whose, deps="Ann")._server) as client:
        result = await client.call_tool("whose", {})
        assert result.content[0].text == "Ann"
        unknown = await client.call_tool("nobody", {})
        assert unknown.is_error
    assert AccessPolicy().keys == {}
    assert os.environ.get("AGENTCALL_SERVE_KEYS") is None


ZONES = "Europe/Oslo", "Asia/Shanghai"


def test_an_agent_uses_the_tools_of_a_server_of_others(tmp_path: Path) -> None:
    """`mcp-server-time`, of the protocol's own reference servers."""
    script = [
        call("clock_get_current_time", timezone=ZONES[1]),
        call(
            "clock_convert_time", source_timezone=ZONES[0], time="12:00", target_timezone=ZONES[1]
        ),
        call(
            "clock_convert_time", source_timezone="Nowhere", time="12:00", target_timezone=ZONES[1]
        ),
        call("clock_convert_time", source_timezone=ZONES[0], target_timezone=ZONES[1]),
        say("It is seven hours later there."),
    ]
    server = f"{sys.executable} -m mcp_server_time --local-timezone {ZONES[0]}"
    with MCPTools(server, prefix="clock_", read_only=True) as tools:
        assert [found.name for found in tools] == ["clock_get_current_time", "clock_convert_time"]
        result = Agent(ScriptedModel(script), tools=[tools]).run_sync("How late is it in Shanghai?")
    now, converted, unknown, unfit = told(result)
    assert json.loads(now)["timezone"] == ZONES[1]
    assert json.loads(converted)["time_difference"] in ("+6.0h", "+7.0h")  # Oslo has summer time
    assert "Nowhere" in unknown
    assert "time: missing" in unfit
    assert result.output == "It is seven hours later there."


def test_a_server_of_others_goes_on_the_command_line(tmp_path: Path) -> None:
    server = f"mcp:{sys.executable} -m mcp_server_time"
    words = ("tools", "call", "get_current_time", '{"timezone": "UTC"}')
    done = agentcall(*words, "-t", server, cwd=tmp_path)
    assert json.loads(done.stdout)["timezone"] == "UTC"


async def official_client_is_served(server: str | StdioServerParameters) -> None:
    """The official client lists and calls our tools, and is told what goes wrong."""
    async with Client(server) as client:
        listed = {found.name: found for found in (await client.list_tools()).tools}
        assert {"add", "mul", "lines", "fail", "nap"} <= set(listed)
        assert listed["add"].description == "Adds two whole numbers."
        assert set(listed["add"].input_schema["properties"]) == {"a", "b"}
        assert listed["add"].annotations.open_world_hint is False
        assert "delete" not in listed  # it needs approval
        fine = await client.call_tool("add", {"a": 2, "b": 3})
        assert (fine.content[0].text, fine.is_error) == ("5", False)
        failed = await client.call_tool("fail", {})
        assert (failed.content[0].text, failed.is_error) == ("ValueError: no disk", True)
        unfit = await client.call_tool("add", {"a": 2})
        assert unfit.is_error
        assert "b: missing" in unfit.content[0].text
        many = await asyncio.gather(*(client.call_tool("add", {"a": n, "b": 1}) for n in range(30)))
        assert [each.content[0].text for each in many] == [str(n + 1) for n in range(30)]


async def test_the_official_client_is_served_by_a_command(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    words = ["mcp", "-t", "tools.py"]
    await official_client_is_served(
        StdioServerParameters(command=SCRIPT, args=words, cwd=str(tmp_path), env=environment())
    )


async def test_the_official_client_is_served_by_http(tmp_path: Path) -> None:
    with served(tmp_path) as url:
        await official_client_is_served(url)


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJg"
    "gg=="
)
DRAWING = """
from mcp.server.mcpserver import MCPServer
from mcp_types import AudioContent, BlobResourceContents, EmbeddedResource
from mcp_types import ImageContent, TextContent

server = MCPServer("drawing")
data = "PIXEL"
image = ImageContent(data=data, mime_type="image/png")

@server.tool()
def draw() -> list:
    "Draw."
    return [TextContent(text="a dot:"), image]

@server.tool()
def load() -> list:
    "Load."
    blob = BlobResourceContents(uri="file:///dot.png", blob=data, mime_type="image/png")
    return [EmbeddedResource(resource=blob)]

@server.tool()
def other() -> list:
    "Other content."
    vector = ImageContent(data="PHN2Zy8+", mime_type="image/svg+xml")
    return [vector, AudioContent(data="AAAA", mime_type="audio/wav")]

server.run("stdio")
""".replace("PIXEL", PIXEL)


def test_the_images_of_a_server_reach_the_model_as_untrusted_content(tmp_path: Path) -> None:
    (tmp_path / "drawing.py").write_text(DRAWING)
    model = ScriptedModel([call("draw"), call("load"), call("other"), say("dots")])
    with MCPTools(f"{sys.executable} {tmp_path / 'drawing.py'}", read_only=True) as tools:
        result = Agent(model, tools=[tools]).run_sync("Draw")
    drawn, loaded, other = told(result)
    assert drawn == "a dot:\n[image 1: image/png, 70 bytes]"
    assert loaded == "[image 1: image/png, 70 bytes]"
    assert (
        other == "<image image/svg+xml, 6 bytes, not shown>\n<audio audio/wav, 3 bytes, not shown>"
    )
    carrier = model.requests[1].messages[-1]
    assert f"data:image/png;base64,{PIXEL}" in str(carrier["content"])
    assert "untrusted data" in str(carrier["content"])


async def test_our_server_sends_the_images_of_its_tools() -> None:
    @tool
    def draw() -> list[object]:
        """Draw."""
        return ["a dot:", base64.b64decode(PIXEL)]

    async with Client(MCPServer(draw)._server) as client:
        answer = await client.call_tool("draw", {})
    text, image = answer.content
    assert text.text == "a dot:\n[image 1: image/png, 70 bytes]"  # type: ignore[union-attr]
    assert (image.type, image.data, image.mime_type) == ("image", PIXEL, "image/png")  # type: ignore[union-attr]

"""MCP servers that are silent, odd, endless or dying: every wait ends, and says which it was."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from agentcall import Agent, Limits, RunResult
from agentcall.events import RunFinished
from agentcall.mcp import MCPTools, client, listing, stdio
from agentcall.mcp.connection import MCPConnectionError
from agentcall.testing import ScriptedModel, call, say

pytestmark = pytest.mark.mcp

# A server of the protocol's own words, which misbehaves where its argument says so.
SERVER = """
import json, os, sys, time

how = sys.argv[1]

def out(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

def answer(asked, **result):
    out(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}))

def tool(name, **more):
    return {"name": name, "inputSchema": {"type": "object"}, **more}

def flood():
    while True:
        out(json.dumps({"jsonrpc": "2.0", "method": "notifications/message",
                        "params": {"level": "info", "data": "x"}}))

print("hello from the server", file=sys.stderr, flush=True)
if how == "dead":
    sys.exit(3)
if how == "shouting":
    sys.stderr.write("x" * 5_000_000)
if how == "endless line":
    while True:
        sys.stdout.write("x" * 1_000_000)
for line in sys.stdin:
    asked = json.loads(line)
    method = asked.get("method")
    if how == "no initialize" or "id" not in asked:
        continue
    if method == "server/discover":
        out(json.dumps({"jsonrpc": "2.0", "id": asked["id"],
                        "error": {"code": -32601, "message": "no such method"}}))
    elif method == "initialize":
        answer(asked, protocolVersion="2025-06-18", capabilities={"tools": {}},
               serverInfo={"name": "odd", "version": "1"})
    elif method == "ping":
        answer(asked)
    elif method == "tools/list":
        cursor = (asked.get("params") or {}).get("cursor")
        if how == "no list":
            continue
        elif how == "no JSON":
            out('{"tools": [,]}')
        elif how == "broken":
            out('{"jsonrpc": "2.0", "id": %d, "result": {"tools": [,]}}' % asked["id"])
        elif how == "no tools":
            answer(asked, tools={"a": 5})
        elif how == "refuses":
            out(json.dumps({"jsonrpc": "2.0", "id": asked["id"],
                            "error": {"code": -32603, "message": "not today"}}))
        elif how == "dies":
            os._exit(4)
        elif how == "floods":
            flood()
        elif how == "same page":
            answer(asked, tools=[tool("a")], nextCursor="again")
        elif how == "new pages":
            answer(asked, tools=[], nextCursor=str(int(cursor or 0) + 1))
        elif how == "many":
            answer(asked, tools=[tool(f"tool{n}", description="d" * 100) for n in range(20_000)])
        elif how == "long line":
            answer(asked, tools=[tool("a", description="d" * 30_000_000)])
        elif how == "odd tools":
            deep = {"type": "object"}
            for _ in range(60):
                deep = {"type": "object", "properties": {"a": deep}}
            of = lambda pattern: {"inputSchema": {"type": "object", "properties": {
                "a": {"type": "string", "pattern": pattern}}}}
            answer(asked, tools=[
                tool("good"), tool("deep", inputSchema=deep),
                tool("wordy", description="d" * 50_000),
                tool("slow", **of(r"^(a+)+$")), tool("back", **of(r"^(a)\\1$")), tool("good"),
            ])
        else:
            answer(asked, tools=[tool("nap"), tool("add"), tool("die"), tool("shout")])
    elif method == "tools/call":
        name = asked["params"]["name"]
        if name == "die":
            os._exit(5)
        if name == "shout":
            flood()
        if name != "nap":
            answer(asked, content=[{"type": "text", "text": f"did {name}"}])
if how == "stays":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "odd.py").write_text(SERVER)
    yield f"{sys.executable} {tmp_path / 'odd.py'}"
    for _ in range(100):  # each is ended, though nobody waits for that
        if subprocess.run(["pgrep", "-f", str(tmp_path)], check=False).returncode:
            return
        time.sleep(0.1)
    raise AssertionError("a server was left running")


def told(result: RunResult[str]) -> list[str]:
    return [answer.text for _, answer in result.tool_calls if answer]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("'no list'", "did not answer tools/list within 2 seconds; it wrote:\nhello from"),
        ("'no JSON'", "did not answer tools/list within 2 seconds; it wrote:.*not a message"),
        ("broken", "refused tools/list: the answer is not JSON"),
        ("'no tools'", "to tools/list cannot be read: .*should be a valid list"),
        ("refuses", "refused tools/list: not today"),
        ("dies", "ended during tools/list.*hello from the server"),
        ("dead", "cannot be used: .*hello from the server"),
        ("floods", f"tools/list( within|.*over {stdio.MAX_MESSAGES} messages to one request)"),
        ("'endless line'", f"a line of over {stdio.MAX_MESSAGE_BYTES} bytes on its standard"),
        ("'long line'", f"ended during tools/list.*a line of over {stdio.MAX_MESSAGE_BYTES} bytes"),
        ("'same page'", r"repeats a page of tools \(the cursor 'again'\)"),
        ("'new pages'", f"more than {listing.MAX_PAGES} pages"),
        ("many", f"lists over {listing.MAX_ITEMS} tools"),
    ],
)  # fmt: skip
def test_a_listing_that_goes_wrong_ends_and_says_how(server: str, how: str, words: str) -> None:
    with pytest.raises(MCPConnectionError, match=f"(?s)MCP server .*{words}"):
        list(MCPTools(f"{server} {how}", timeout=2))


def test_a_server_that_never_answers_is_given_up(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MIN_START_SECONDS", 3.0)
    with pytest.raises(MCPConnectionError, match="did not answer initialize within 3 seconds"):
        list(MCPTools(f"{server} 'no initialize'", timeout=0.5))
    with pytest.raises(MCPConnectionError, match="did not answer initialize within 4 seconds"):
        list(MCPTools(f"{server} 'no initialize'", timeout=4))


async def test_a_run_waits_no_longer_than_its_own_limits(server: str) -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.05)
            beats += 1

    heart = asyncio.ensure_future(beat())
    tools = MCPTools(f"{server} 'no initialize'")
    agent = Agent(ScriptedModel([say("hi")]), tools=[tools], limits=Limits(seconds=2))
    with pytest.raises(MCPConnectionError, match="did not answer tools/list within 2 seconds"):
        await asyncio.wait_for(agent.run("?"), 60)
    with pytest.raises(MCPConnectionError, match="within 2 seconds"):
        async for _ in agent.run_stream("?"):
            pass
    assert beats > 10  # the event loop was free meanwhile
    heart.cancel()
    await asyncio.wrap_future(tools._connection.close())


async def test_a_stream_knows_the_tools_of_a_server(server: str) -> None:
    model = ScriptedModel([call("add"), say("done")])
    tools = MCPTools(f"{server} good", read_only=True)
    events = [event async for event in Agent(model, tools=[tools]).run_stream("?")]
    assert isinstance(events[-1], RunFinished)
    assert told(events[-1].result) == ["did add"]
    await asyncio.wrap_future(tools._connection.close())


def test_calls_that_go_wrong_end_too(server: str) -> None:
    script = [call("nap"), call("add"), call("die"), call("add"), call("shout")]
    model = ScriptedModel([*script, say("ok")])
    with MCPTools(f"{server} good", timeout=6, read_only=True) as tools:
        silent, one, dead, two, loud = told(Agent(model, tools=tools).run_sync("?"))
    assert "did not end within 6 seconds" in silent
    assert [one, two] == ["did add"] * 2
    assert "ended during tools/call; whether the call was carried out is not known" in dead
    assert (
        f"over {stdio.MAX_MESSAGES} messages to one request" in loud or "did not end within" in loud
    )


async def test_a_silent_call_ends_outside_a_run_as_well(server: str) -> None:
    async with MCPTools(f"{server} good", timeout=2) as tools:
        nap = next(each for each in tools if each.name == "nap")
        with pytest.raises(MCPConnectionError, match="did not answer tools/call within 3 seconds"):
            await asyncio.wait_for(nap({}), 60)


def test_a_server_that_shouts_at_its_log_is_heard_to_the_end_of_it(server: str) -> None:
    with MCPTools(f"{server} shouting") as tools:
        assert len(tools.tools) == 4
        assert len(tools._connection._session.format_log()) < 1_100  # type: ignore[union-attr]


def test_a_server_that_does_not_want_to_end_is_killed(server: str) -> None:
    with MCPTools(f"{server} stays") as tools:
        assert len(tools.tools) == 4


def test_a_tool_that_cannot_be_offered_is_left_out_and_the_others_are_not(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        MCPTools(f"{server} 'odd tools'", read_only=True) as tools,
    ):
        assert [each.name for each in tools] == ["good", "slow", "back"]
        assert set(tools.skipped_tools) == {"deep", "wordy", "good"}
        assert "over 64 levels" in tools.skipped_tools["deep"]
        assert "50000 characters" in tools.skipped_tools["wordy"]
        model = ScriptedModel(
            [
                call("slow", a="a" * 5_000 + "!"),
                call("slow", a="aa"),
                call("back", a="ab"),
                say("ok"),
            ]
        )
        slow, fine, unchecked = told(Agent(model, tools=tools).run_sync("?"))
        back = next(each for each in tools if each.name == "back")
    assert "do not fit" in slow
    assert (fine, unchecked) == ("did slow", "did back")
    assert "the tool deep is skipped" in caplog.text
    assert (
        "a pattern of the tool back is left to the server to check (a backreference" in caplog.text
    )
    assert "pattern" in json.dumps(back.parameters)  # the model is shown it


class Odd(BaseHTTPRequestHandler):
    """An MCP server by HTTP that misbehaves where its path says so."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method, how = asked.get("method"), self.path.strip("/")
        if "id" not in asked:
            return self._send(202, b"")
        if how == "silent" or (how == "no-list" and method == "tools/list"):
            time.sleep(20)
        if how == "bomb" and method == "tools/list":
            return self._send(200, b'{"x": "' + b" " * 30_000_000, "application/json")
        if how == "zipped" and method == "tools/list":
            return self._send(
                200, b"\x1f\x8b\x08", "application/json", ("Content-Encoding", "gzip")
            )
        if how == "dribble" and method == "tools/list":
            return self._dribble()
        return self._send(200, json.dumps(self._answer(asked, method)).encode(), "application/json")

    def _answer(self, asked: dict[str, object], method: object) -> dict[str, object]:
        whole = {"jsonrpc": "2.0", "id": asked["id"]}
        if method == "initialize":
            info = {"name": "odd", "version": "1"}
            result = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": info,
            }
            return {**whole, "result": result}
        if method == "tools/list":
            return {**whole, "result": {"tools": []}}
        return {**whole, "error": {"code": -32601, "message": "no such method"}}

    def _dribble(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b": still here\n\n")
            self.wfile.flush()
            time.sleep(0.2)

    def do_DELETE(self) -> None:
        time.sleep(20)

    def do_GET(self) -> None:
        self._send(405, b"")

    def _send(self, status: int, body: bytes, kind: str = "", *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.send_header("Mcp-Session-Id", "one")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def by_http(how: str) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{how}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("silent", "did not answer initialize within 2 seconds"),
        ("no-list", "did not answer tools/list within 2 seconds"),
        ("dribble", "tools/list"),
        ("bomb", "tools/list"),
        ("zipped", "tools/list"),
    ],
)
def test_a_listing_by_http_ends_too(how: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MIN_START_SECONDS", 2.0)
    with by_http(how) as url, pytest.raises(MCPConnectionError, match=words):
        list(MCPTools(url, timeout=2))


def test_closing_ends_though_the_server_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcall.mcp.connection._CLOSE_SECONDS", 1.0)
    with by_http("good") as url:
        tools = MCPTools(url, timeout=2)
        assert tools.tools == ()
        tools._connection.close().result(30)

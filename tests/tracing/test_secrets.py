"""Canaries planted wherever a secret may be, and looked for in all that we write, show or raise.

A canary is in the API key, in the user, password and query of a URL, in a header that a server
repeats, and in the environment. What a tool or a model says of itself is no secret of ours.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import isolated_tools
import pytest
from command_line import TOOLS, agentcall
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from agentcall import Agent, Limits, ToolRegistry, tool
from agentcall.errors import AgentCallError, ModelError, UsageError
from agentcall.events import event_to_json
from agentcall.models.fallback import Fallback
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.model import Model
from agentcall.models.openai_client import OpenAIChat
from agentcall.result import result_of
from agentcall.runtime.executor import call_tool
from agentcall.runtime.runner import run_sync
from agentcall.testing import (
    FakeServer,
    RecordedRequest,
    Reply,
    bad_json,
    call,
    cut,
    drop,
    error_in_stream,
    error_under_200,
    forever,
    never,
    raw,
    reset,
    say,
    status,
)

KEY, HEADER, QUERY = "canary-key-5b1d", "canary-header-41cc", "canary-query-93ef"
USER, PASSWORD = "canary-user-77aa", "canary-password-c0de"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CANARIES = (KEY, HEADER, USER, PASSWORD, QUERY, BASIC, quote(PASSWORD, safe=""))


def assert_silent(*texts: object) -> None:
    """No canary sings in any of the texts."""
    for text in map(str, texts):
        for canary in CANARIES:
            place = text.find(canary)
            assert place < 0, f"{canary} in: ...{text[max(0, place - 200) : place + 60]}"


def all_of(error: BaseException) -> str:
    """Everything that anybody may print of an error: its chain, notes, attributes and result."""
    said = ["".join(traceback.format_exception(error))]
    step: BaseException | None = error
    while step is not None:
        if isinstance(step, AgentCallError):
            said.append(f"{step!r} {step.args!r} {vars(step)!r}")
        step = step.__cause__ or step.__context__
    result = result_of(error)
    return "\n".join([*said, result.to_json() if result else "", repr(result)])


def echo(request: RecordedRequest) -> str:
    """What a server that repeats what it was sent says."""
    return f"you sent {json.dumps(dict(request.headers))} to {request.path}"


def read(request: RecordedRequest) -> str:
    """The credentials that were sent, as a server reads them."""
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    return base64.b64decode(sent).decode() if scheme == "Basic" else sent


def echoing(code: int) -> Callable[[RecordedRequest], Reply]:
    return lambda request: status(code, body={"error": {"message": echo(request)}})


FAULTS: dict[str, Any] = {
    "a refusal that repeats the headers": echoing(401),
    "a refusal that reads the headers": lambda r: status(403, body=f"no {read(r)} at {QUERY}"),
    "a limit that repeats the headers": echoing(429),
    "a failure that repeats the headers": echoing(500),
    "a page that repeats the headers": lambda r: status(502, body=f"<html>{echo(r)}</html>"),
    "a body that is none and repeats": lambda r: status(200, body="<p>" + echo(r)),
    "a body of JSON that is none and repeats": lambda r: status(200, body={"x": echo(r)}),
    "an error under 200 that repeats": lambda r: error_under_200(echo(r)),
    "an error in a stream that repeats": lambda r: error_in_stream(say("x" * 40), error=echo(r)),
    "a redirect with secrets": lambda r: status(
        307, body="", headers={"Location": f"http://{USER}:{PASSWORD}@127.0.0.1:9/?k={QUERY}"}
    ),
    "half of an answer": [forever(cut(say("half of it")))],
    "broken JSON": [forever(bad_json())],
    "a reset": [forever(reset())],
    "a drop": [forever(drop(say("x" * 99), after=0.5))],
    "no HTTP": [forever(raw(b"SSH-2.0\r\n"))],
    "a bad header": [forever(raw(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"))],
    "silence": [forever(never())],
}


def http(url: str, timeout: float = 30.0) -> Model:
    url += f"?api-key={QUERY}"
    return HTTPChat(HTTPEndpoint(url, KEY, timeout=timeout, tries=2), "m", dialect="native")


def http_with_userinfo(url: str, timeout: float = 30.0) -> Model:
    url = url.replace("://", f"://{USER}:{PASSWORD}@") + f"?api-key={QUERY}"
    return HTTPChat(HTTPEndpoint(url, timeout=timeout, tries=2), "m", dialect="native")


def http_that_looks(url: str, timeout: float = 30.0) -> Model:
    return HTTPChat(HTTPEndpoint(url + f"?api-key={QUERY}", KEY, timeout=timeout, tries=2))


def openai(url: str, timeout: float = 30.0) -> Model:
    client = AsyncOpenAI(
        base_url=url.replace("://", f"://{USER}:{PASSWORD}@") + f"?api-key={QUERY}",
        api_key=KEY,
        max_retries=0,
        default_headers={"X-Auth-Token": HEADER},
        timeout=timeout,
        http_client=DefaultAsyncHttpxClient(verify=False),
    )
    CLIENTS.append(client)
    return OpenAIChat(client, "m", timeout=timeout + 1)


def fallback(url: str, timeout: float = 30.0) -> Model:
    return Fallback(http(url, timeout), http_with_userinfo(url, timeout))


FINE = [forever(call("add", a=2, b=3))]
CLIENTS: list[AsyncOpenAI] = []
KINDS = [http, http_with_userinfo, http_that_looks, openai, fallback]


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    theirs = ("httpx", "httpcore", "openai")  # of the client that the user brought
    assert_silent(*(r.getMessage() for r in caplog.records if not r.name.startswith(theirs)))


async def look_at(make: Callable[..., Model], fault: str, streamed: bool) -> None:
    """Runs an agent against a server with the fault; no secret may be seen."""
    with FakeServer(FAULTS[fault]) as server:
        model = make(server.url, timeout=1.5) if fault == "silence" else make(server.url)
        agent = Agent(model, tools=[add], limits=Limits(seconds=60))
        events: list[Any] = []
        try:
            if streamed:
                async for event in agent.run_stream("go"):
                    events.append(event)  # noqa: PERF401 - what came before it raised counts
            else:
                await agent.run("go")
        except AgentCallError as error:
            assert_silent(all_of(error))
        assert server.all_requests, fault
    assert_silent(*(json.dumps(event_to_json(event)) for event in events), *events)
    assert_silent(agent, agent.model)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("make", KINDS)
async def test_no_failure_of_a_server_shows_a_secret(
    make: Callable[..., Model], streamed: bool
) -> None:
    await asyncio.gather(*(look_at(make, fault, streamed) for fault in FAULTS))
    while CLIENTS:
        await CLIENTS.pop().close()


def test_an_agent_shows_no_secret_of_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCALL_API_KEY", KEY)
    monkeypatch.setenv("AGENTCALL_MODEL", f"http://{USER}:{PASSWORD}@127.0.0.1:9/v1")
    for model in (None, f"http://{USER}:{PASSWORD}@127.0.0.1:9/v1?key={QUERY}#m"):
        agent = Agent(model, tools=[add])
        with pytest.raises(AgentCallError) as caught:
            agent.run_sync("go")
        assert_silent(agent, all_of(caught.value))


@pytest.mark.parametrize(
    "wrong",
    [
        f"{USER}:{PASSWORD}@host/v1",
        f"htp://{USER}:{PASSWORD}@host/v1?key={QUERY}",
        f"http://{USER}:{PASSWORD}/x@host/v1",
        f"http://{USER}:{PASSWORD}#x@host/v1",
        f"http://{USER}:{PASSWORD}@host:99999/v1",
        f"http://[{USER}:{PASSWORD}@host",
    ],
)
def test_a_url_that_is_wrong_is_refused_without_its_secrets(wrong: str) -> None:
    for make in (lambda: Agent(wrong).run_sync("go"), lambda: HTTPEndpoint(wrong)):
        with pytest.raises((UsageError, ModelError)) as caught:
            make()
        assert_silent(all_of(caught.value))


COMMANDS = [
    ("run", "hi"),
    ("run", "hi", "--json"),
    ("run", "hi", "--events"),
    ("doctor",),
    ("doctor", "--json"),
]


def command(tmp_path: Path, script: Any, *words: str, debug: str = "") -> None:
    """Runs a command against a server that plays a script; no secret may be seen."""
    (tmp_path / "mine.py").write_text(TOOLS)
    with FakeServer(script) as server:
        url = server.url.replace("://", f"://{USER}:{PASSWORD}@") + f"?api-key={QUERY}"
        env = {"AGENTCALL_MODEL": url, "AGENTCALL_DEBUG": debug, "OTHER_KEY": HEADER}
        done = agentcall(*words, cwd=tmp_path, env=env)
    assert_silent(done.stdout, done.stderr)
    assert done.stdout or done.stderr


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_prints_a_secret_that_a_server_repeats(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    command(tmp_path, FAULTS["a refusal that reads the headers"], *words)


def test_neither_a_traceback_nor_a_run_that_goes_well_shows_a_secret(tmp_path: Path) -> None:
    command(tmp_path, FAULTS["no HTTP"], "run", "hi", debug="1")
    command(tmp_path, FINE, "run", "hi", "-v", "-t", "mine.py")


def test_an_isolated_tool_has_no_secret_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCALL_API_KEY", KEY)
    monkeypatch.setenv("DATABASE_URL", f"postgres://{USER}:{PASSWORD}@host/db")
    monkeypatch.setenv("SECRET_TOKEN", HEADER)
    tools = ToolRegistry(isolated_tools.variables_of_a_new_worker)
    assert_silent(run_sync(call_tool(tools, "variables_of_a_new_worker", "{}")))

"""What runs of a stream, through every door to a server: HTTP, OpenAI's client, several servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from rows import each_row

from agentcall import Agent, tool
from agentcall.events import RunFinished
from agentcall.models.fallback import Fallback
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.load_balancer import LoadBalancer
from agentcall.models.model import Model
from agentcall.models.openai_client import OpenAIChat
from agentcall.result import RunResult
from agentcall.testing import MISSING, Completion, FakeServer, Reply, ScriptedCall, call, calls, say

Door = Callable[[str], Model]


@pytest.fixture(params=["http", "openai", "balanced", "fallback"])
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    """Makes a model of the kind for the URL of a server."""
    client: list[AsyncOpenAI] = []

    def http(url: str) -> Model:
        return HTTPChat(HTTPEndpoint(url, tries=1), "m", dialect="native")

    def openai(url: str) -> Model:
        quick = DefaultAsyncHttpxClient(verify=False)  # reading certificates takes most of a test
        client.append(AsyncOpenAI(base_url=url, api_key="k", max_retries=0, http_client=quick))
        return OpenAIChat(client[-1], "m")

    doors: dict[str, Door] = {
        "http": http,
        "openai": openai,
        "balanced": lambda url: LoadBalancer(http(url), http(url)),
        "fallback": lambda url: Fallback(http("http://127.0.0.1:1/v1"), http(url)),
    }
    yield doors[request.param]
    for one in client:
        await one.close()


@pytest.fixture(params=["plain", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "streamed")


Ran = list[tuple[str, dict[str, Any]]]


async def ran_of(
    door: Door, stream: bool, *script: Reply
) -> tuple[Ran, RunResult[str], FakeServer]:
    """What ran of a script, the result, and the server that played it."""
    ran: Ran = []

    @tool
    def delete_file(path: str = "old.txt") -> str:
        """Delete a file."""
        ran.append(("delete_file", {"path": path}))
        return "deleted"

    @tool
    def read_file(path: str) -> str:
        """Read a file."""
        ran.append(("read_file", {"path": path}))
        return "text"

    @tool
    def edit_existing_file(path: str, line: int) -> str:
        """Edit a file."""
        ran.append(("edit_existing_file", {"path": path, "line": line}))
        return "edited"

    with FakeServer(script) as server:
        tools = [delete_file, read_file, edit_existing_file]
        agent = Agent(door(server.url), tools=tools)
        if not stream:
            return ran, await agent.run("Go."), server
        *_, last = [event async for event in agent.run_stream("Go.")]
        assert isinstance(last, RunFinished)
        return ran, last.result, server


READ = ("read_file", {"path": "keys.txt"})
DELETED = ("delete_file", {"path": "old.txt"})
EDIT = {"path": "a.py", "line": 11}
EDITED = ("edit_existing_file", EDIT)


def reads(*paths: str, **dress: Any) -> Completion:
    return calls(*(call("read_file", path=path) for path in paths)).replace(**dress)


def no_ids(reply: Completion) -> Completion:
    return reply.replace(
        calls=tuple(ScriptedCall(c.name, c.arguments, MISSING) for c in reply.calls)
    )


BOTH = calls(ScriptedCall("delete_file", ""), call("read_file", path="keys.txt"))
MIXED = calls(call("read_file", path="keys.txt"), call("edit_existing_file", **EDIT))


@each_row(
    ("reply", "wanted"),
    [
        (BOTH.replace(quirks=("index_shared",)), [DELETED, READ]),
        (BOTH.replace(quirks=("index_shared", "whole_calls")), [DELETED, READ]),
        (BOTH.replace(quirks=("index_shared", "ids_repeated")), [DELETED, READ]),
        (no_ids(BOTH).replace(quirks=("index_shared",)), [DELETED, READ]),
        (no_ids(BOTH).replace(quirks=("no_index",)), [DELETED, READ]),
        (MIXED.replace(quirks=("index_shared", "ids_repeated", "interleaved")), [READ, EDITED]),
        (MIXED.replace(quirks=("index_shared", "one_chunk")), [READ, EDITED]),
        (MIXED.replace(quirks=("index_text", "interleaved")), [READ, EDITED]),
        (MIXED.replace(quirks=("index_float", "interleaved")), [READ, EDITED]),
        (MIXED.replace(quirks=("cumulative",)), [READ, EDITED]),
        (MIXED.replace(quirks=("cumulative", "index_shared")), [READ, EDITED]),
        (MIXED.replace(quirks=("names_cut",), size=7), [READ, EDITED]),
        (MIXED.replace(quirks=("names_cut", "index_shared"), size=3), [READ, EDITED]),
        (MIXED.replace(quirks=("last_doubled",)), [READ, EDITED]),
        (MIXED.replace(quirks=("message_last",)), [READ, EDITED]),
        (MIXED.replace(quirks=("choice_one",)), [READ, EDITED]),
        (MIXED.replace(quirks=("choice_text",)), [READ, EDITED]),
        (MIXED.replace(quirks=("ids_late", "index_shared")), [READ, EDITED]),
        (MIXED.replace(quirks=("ids_renewed", "index_shared")), [READ, EDITED]),
    ],
    ids=lambda part: " ".join(part.quirks) if isinstance(part, Completion) else "",
)
async def test_calls_are_run_as_they_stand_in_the_plain_answer(
    door: Door, stream: bool, reply: Completion, wanted: Ran
) -> None:
    ran, result, _ = await ran_of(door, stream, reply, say("Done."))
    assert sorted(ran, key=str) == sorted(wanted, key=str)
    assert (result.output, result.stop_reason) == ("Done.", "final")


@each_row("quirks", [("index_shared",), ("index_shared", "whole_calls"), ("no_index",)])
@each_row("paths", [("a", "b"), ("a", "b", "c")])
async def test_calls_of_one_tool_that_share_an_index_all_run(
    door: Door, quirks: tuple[Any, ...], paths: tuple[str, ...]
) -> None:
    ran, result, _ = await ran_of(door, True, reads(*paths, quirks=quirks), say("Done."))
    assert sorted(ran, key=str) == [("read_file", {"path": path}) for path in paths]
    assert result.output == "Done."


async def test_pieces_that_may_be_anothers_run_nothing_and_the_model_is_told(door: Door) -> None:
    in_turns = MIXED.replace(quirks=("index_shared", "interleaved"))
    ran, result, server = await ran_of(door, True, in_turns, say("Sorry."))
    assert (ran, result.output) == ([], "Sorry.")
    assert "make one call at a time" in server.requests[1].messages[-1]["content"]


async def test_a_call_whose_name_was_lost_takes_no_other_calls_place(door: Door) -> None:
    lost = [
        {"index": 0, "id": "a", "function": {"name": "delete_file", "arguments": ""}},
        {"index": 1, "id": "b", "function": {"arguments": '{"path": "keys.txt"}'}},
    ]
    reply = Completion(message={"tool_calls": lost}, finish_reason="tool_calls")
    ran, result, _ = await ran_of(door, True, reply, say("Sorry."))
    assert (ran, result.output) == ([], "Sorry.")


async def test_a_message_in_place_of_a_delta_is_read_once(door: Door) -> None:
    ran, result, _ = await ran_of(door, True, say("Hello you.").replace(quirks=("message_last",)))
    assert (ran, result.output) == ([], "Hello you.")

"""What HTTPChat does besides the contract of all clients (tests/models/test_chat_contract.py)."""

from __future__ import annotations

import pytest
from asking import heard, question

from agentcall import Agent
from agentcall.errors import UnknownModel, UsageError
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.model import ResponseStart
from agentcall.testing import FakeServer, call, forever, say


async def test_without_a_model_the_first_that_is_served_is_taken() -> None:
    with FakeServer([forever(say("hi"))], models=("/models/first", "second")) as server:
        model = HTTPChat(server.url)
        await heard(model.ask(question()))
        assert server.requests[-1].body["model"] == "/models/first"
        assert (await model.resolve_dialect()).model == "/models/first"


async def test_the_last_part_of_a_models_name_will_do() -> None:
    with FakeServer([forever(say("hi"))], models=("/models/some-7b",)) as server:
        await heard(HTTPChat(server.url, "some-7b").ask(question()))
        assert server.requests[-1].body["model"] == "/models/some-7b"


async def test_a_model_that_is_not_served_is_refused_with_those_that_are() -> None:
    with FakeServer([forever(say("hi"))], models=("one", "two")) as server:
        model = HTTPChat(server.url, "three")
        with pytest.raises(UnknownModel, match="one"):
            await heard(model.ask(question()))


async def test_the_server_is_asked_about_itself_once() -> None:
    with FakeServer([forever(say("hi"))]) as server:
        model = HTTPChat(server.url)
        for _ in range(3):
            await heard(model.ask(question()))
        assert sum(visit.path == "/v1/models" for visit in server.all_requests) == 1


async def test_a_named_dialect_is_spoken_without_asking() -> None:
    with FakeServer([say("hi")]) as server:
        answer = await heard(HTTPChat(server.url, "m", dialect="native").ask(question()))
        assert len(server.all_requests) == 1
    assert isinstance(answer.parts[0], ResponseStart)
    assert answer.parts[0].dialect == "native"


async def test_a_dialect_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="native"):
        await HTTPChat("http://127.0.0.1:9/v1", "m", dialect="klingon").resolve_dialect()


async def test_an_endpoint_may_be_given_ready() -> None:
    with FakeServer([forever(say("hi"))]) as server:
        model = HTTPChat(HTTPEndpoint(server.url, "sk-1"), "m", dialect="native")
        await heard(model.ask(question()))
        assert server.requests[0].headers["authorization"] == "Bearer sk-1"
        assert "sk-1" not in repr(model)


def test_a_sync_run_works() -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    with FakeServer([call("add", a=2, b=3), say("5")]) as server:
        agent = Agent(HTTPChat(server.url, "m", dialect="native"), tools=[add])
        assert agent.run_sync("2+3?").output == "5"

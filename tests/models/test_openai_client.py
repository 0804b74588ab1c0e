"""What OpenAIChat does besides the contract of all clients (tests/models/test_chat_contract.py)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from asking import heard, question

from agentcall.errors import BadAnswer, ModelError, ModelTimeout, UsageError
from agentcall.models import openai_client
from agentcall.models.openai_client import OpenAIChat
from agentcall.testing import FakeServer, forever, huge, never, say, status


@pytest.fixture
async def clients() -> AsyncIterator[list[openai.AsyncOpenAI]]:
    made: list[openai.AsyncOpenAI] = []
    yield made
    for client in made:
        await client.close()


async def test_the_client_keeps_its_key_headers_and_query(clients: list[Any]) -> None:
    with FakeServer([forever(say("hi"))]) as server:
        client = openai.AsyncOpenAI(
            base_url=server.url,
            api_key="sk-1",
            default_headers={"X-Team": "blue"},
            organization="org",
        )
        clients.append(client)
        await heard(OpenAIChat(client, "m").ask(question()))
        headers = server.requests[0].headers
    assert (headers["authorization"], headers["x-team"]) == ("Bearer sk-1", "blue")
    assert headers["openai-organization"] == "org"


@pytest.mark.parametrize(("retries", "count"), [(0, 1), (2, 3)])
async def test_the_client_keeps_its_retries(clients: list[Any], retries: int, count: int) -> None:
    with FakeServer([forever(status(503, headers={"Retry-After": "0.01"}))]) as server:
        clients.append(openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=retries))
        with pytest.raises(ModelError):
            await heard(OpenAIChat(clients[0], "m").ask(question()))
        assert len(server.requests) == count


async def test_the_client_keeps_its_own_timeout(clients: list[Any]) -> None:
    with FakeServer([forever(never())]) as server:
        clients.append(
            openai.AsyncOpenAI(base_url=server.url, api_key="k", timeout=0.2, max_retries=0)
        )
        with pytest.raises(ModelTimeout, match="own timeout"):
            await heard(OpenAIChat(clients[0], "m").ask(question()))


async def test_the_client_stays_open(clients: list[Any]) -> None:
    with FakeServer([forever(say("hi"))]) as server:
        clients.append(openai.AsyncOpenAI(base_url=server.url, api_key="k"))
        await heard(OpenAIChat(clients[0], "m").ask(question(True)))
        assert not clients[0].is_closed()


async def test_an_azure_client_finds_its_deployment(clients: list[Any]) -> None:
    deployment = "/openai/deployments/gpt/chat/completions"
    reply = {"choices": [{"message": {"content": "from azure"}}]}
    with FakeServer(pages={deployment: status(200, body=reply)}) as server:
        root = server.url.removesuffix("/v1")
        clients.append(
            openai.AsyncAzureOpenAI(azure_endpoint=root, api_key="k", api_version="2026-01-01")
        )
        answer = await heard(OpenAIChat(clients[0], "gpt").ask(question()))
        assert server.all_requests[0].headers["api-key"] == "k"
    assert answer.text == "from azure"


async def test_a_huge_answer_is_refused(
    clients: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_client, "MAX_BYTES", 100_000)
    with FakeServer([forever(huge(300_000))]) as server:
        clients.append(openai.AsyncOpenAI(base_url=server.url, api_key="k"))
        for stream in (False, True):
            with pytest.raises(BadAnswer, match="longer than 100000 bytes"):
                await heard(OpenAIChat(clients[0], "m").ask(question(stream)))


async def test_a_dialect_that_is_none_is_refused(clients: list[Any]) -> None:
    clients.append(openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="k"))
    with pytest.raises(UsageError, match="native"):
        OpenAIChat(clients[0], "m", dialect="klingon")


async def test_auto_is_native(clients: list[Any]) -> None:
    clients.append(openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="k"))
    choice = await OpenAIChat(clients[0], "m", dialect="auto").resolve_dialect()
    assert (choice.model, choice.dialect.name) == ("m", "native")


def test_agentcall_does_not_import_the_openai_package() -> None:
    program = "import sys, agentcall, agentcall.models.http_chat; print('openai' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == "False"

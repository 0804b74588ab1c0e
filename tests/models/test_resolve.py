from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from asking import heard, question

from agentcall import Agent
from agentcall.errors import UnknownModel, UsageError
from agentcall.models import resolve
from agentcall.models.resolve import resolve_model
from agentcall.testing import FakeServer, ScriptedModel, forever, say


@pytest.fixture
def lmdeploy(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """A server where LMDeploy is expected, on a port of its own for the tests' sake."""
    server = FakeServer([forever(say("hi"))], models=("/models/internlm2_5-7b-chat", "other"))
    server.start()
    port = int(server.url.rpartition(":")[2].removesuffix("/v1"))
    monkeypatch.setattr(resolve, "LMDEPLOY", ("127.0.0.1", port))
    return server


async def asked(server: FakeServer, name: str | None) -> str:
    """The name of the model that a shorthand's request goes to."""
    try:
        await heard(resolve_model(name).ask(question()))
        return str(server.requests[-1].body["model"])
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize("end", ["/v1", "/v1/", "", "/"])
async def test_a_url_is_the_first_model_of_its_server(end: str) -> None:
    with FakeServer([forever(say("hi"))], models=("first", "second")) as server:
        root = server.url.removesuffix("/v1")
        answer = await heard(resolve_model(root + end).ask(question()))
        assert server.requests[-1].body["model"] == "first"
    assert answer.text == "hi"


async def test_a_url_may_name_a_model() -> None:
    with FakeServer([forever(say("hi"))], models=("first", "org/second")) as server:
        await heard(resolve_model(f"{server.url}#second").ask(question()))
        assert server.requests[-1].body["model"] == "org/second"


async def test_the_api_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCALL_API_KEY", "sk-env")
    with FakeServer([forever(say("hi"))]) as server:
        await heard(resolve_model(server.url).ask(question()))
        assert server.requests[-1].headers["authorization"] == "Bearer sk-env"


@pytest.mark.parametrize(
    "name", ["internlm2_5-7b-chat", "InternLM2_5-7B-Chat", "internlm/internlm2_5-7b-chat"]
)
async def test_lmdeploy_models_are_known_by_the_last_part_of_their_path(
    lmdeploy: FakeServer, name: str
) -> None:
    assert await asked(lmdeploy, f"lmdeploy:{name}") == "/models/internlm2_5-7b-chat"


async def test_lmdeploy_without_a_name_is_its_first_model(lmdeploy: FakeServer) -> None:
    assert await asked(lmdeploy, "lmdeploy") == "/models/internlm2_5-7b-chat"


async def test_none_is_a_live_lmdeploy(
    lmdeploy: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTCALL_MODEL", raising=False)
    assert await asked(lmdeploy, None) == "/models/internlm2_5-7b-chat"


async def test_none_is_first_of_all_the_model_of_the_environment(
    lmdeploy: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCALL_MODEL", f"{lmdeploy.url}#other")
    assert await asked(lmdeploy, None) == "other"


def test_none_is_the_embedded_model_where_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGENTCALL_STATE", str(tmp_path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(resolve, "LMDEPLOY", free.getsockname())
        assert resolve._detect_shorthand() == "embedded"


@pytest.mark.parametrize("name", ["", "gpt-12", "localhost:8000", "ftp://h", "lm-deploy:x"])
def test_a_shorthand_that_means_nothing_is_refused_with_those_that_do(name: str) -> None:
    with pytest.raises(UnknownModel, match="http://host:port/v1"):
        resolve_model(name)


def test_a_url_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="base URL"):
        resolve_model("http://")


def test_an_agent_takes_a_shorthand() -> None:
    with FakeServer([forever(say("hi"))]) as server:
        assert Agent(server.url).run_sync("hi").output == "hi"


async def test_a_late_model_is_made_once() -> None:
    made: list[ScriptedModel] = []
    slow = threading.Event()

    def make() -> ScriptedModel:
        slow.wait(0.1)
        made.append(ScriptedModel([forever(say("hi"))]))
        return made[-1]

    model = resolve._LazyModel(make)
    answers = await asyncio.gather(*(heard(model.ask(question())) for _ in range(8)))
    assert [answer.text for answer in answers] == ["hi"] * 8
    assert len(made) == 1


def test_a_shorthand_imports_no_http_client() -> None:
    program = (
        "import sys; from agentcall.models.resolve import resolve_model;"
        "resolve_model('http://127.0.0.1:9/v1'); resolve_model('embedded'); resolve_model(None);"
        "print([name for name in ('aiohttp', 'httpx', 'xllamacpp') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == "[]"

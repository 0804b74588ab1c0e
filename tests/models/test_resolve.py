from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from asking import heard, question
from rows import each_row

from agentcall import Agent
from agentcall.errors import UnknownModel, UsageError
from agentcall.models import resolve
from agentcall.models.resolve import resolve_model
from agentcall.models.server_programs import PROGRAMS
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


async def test_lmdeploy_may_be_elsewhere() -> None:
    with FakeServer([forever(say("hi"))], models=("/m/internlm3-8b", "other")) as server:
        where = urlsplit(server.url).netloc
        await heard(resolve_model(f"lmdeploy:other@{where}").ask(question()))
        await heard(resolve_model(f"lmdeploy:@{where}").ask(question()))
        assert [each.body["model"] for each in server.requests][-2:] == ["other", "/m/internlm3-8b"]


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


@pytest.fixture
def ollama(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server in place of each server with a usual port, on a port of its own."""
    models = ("llama3.2:latest", "qwen3:8b")
    with FakeServer([forever(say("hi"))], models=models, owned_by="library") as server:
        port = urlsplit(server.url).port or 0
        for kind, program in PROGRAMS.items():
            monkeypatch.setitem(PROGRAMS, kind, replace(program, port=port))
            for variable in (program.url_variable, program.host_variable, program.port_variable):
                monkeypatch.delenv(variable or "NONE", raising=False)
        yield server


@each_row(
    ("shorthand", "model"),
    [
        ("ollama:qwen3:8b", "qwen3:8b"),
        ("ollama:llama3.2", "llama3.2:latest"),
        ("vllm:org/qwen3:8b", "qwen3:8b"),
        *((f"{kind}: qwen3:8b ", "qwen3:8b") for kind in PROGRAMS),
    ],
)
async def test_a_servers_name_is_that_server_at_its_usual_port(
    ollama: FakeServer, shorthand: str, model: str
) -> None:
    await heard(resolve_model(shorthand).ask(question()))
    assert ollama.requests[-1].body["model"] == model


async def test_a_model_that_the_local_server_lacks_is_refused_with_those_it_has(
    ollama: FakeServer,
) -> None:
    with pytest.raises(UnknownModel, match=r"'mistral'.*llama3\.2:latest, qwen3:8b"):
        await heard(resolve_model("ollama:mistral").ask(question()))


def test_shorthands_of_local_servers_are_told_apart_from_commas_in_names() -> None:
    text = "ollama:a,b, vllm:c,ollama-like,lmdeploy ,sglang"
    assert resolve.split_shorthands(text) == [
        "ollama:a,b",
        "vllm:c,ollama-like",
        "lmdeploy",
        "sglang",
    ]


@each_row(
    ("wrong", "hint"),
    [
        ("ollma:qwen3:8b", "did you mean ollama:qwen3:8b?"),
        ("Ollama:x", "did you mean ollama:x?"),
        ("llama.cpp:x", "did you mean llamacpp:x?"),
        ("LM Studio:x", "did you mean lmstudio:x?"),
        ("lm-deploy:x", "did you mean lmdeploy:x?"),
        ("localhost:8000", "use http://localhost:8000 for"),
        ("127.0.0.1:8000/v1#m", "use http://127.0.0.1:8000/v1#m for"),
        ("qwen3:8b", "use http://host:port/v1, "),
        ("gpt-12", "ollama:NAME for a server at its usual port"),
    ],
)
def test_a_wrong_shorthand_gets_the_one_that_was_meant(wrong: str, hint: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        resolve_model(wrong)
    assert hint in str(caught.value)


@pytest.mark.parametrize("kind", ["ollma", "ollama"])
def test_no_password_of_a_wrong_shorthand_is_repeated(kind: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        resolve_model(f"{kind}://me:hidden@host/v1")
    assert "hidden" not in str(caught.value)
    shown = resolve.describe_model(["ollama:qwen3@gpu:11434", "http://k:hidden@host:1/v1"])
    assert shown == "['ollama:qwen3@gpu:11434', 'http://host:1/v1']"


@each_row("name", ["", "gpt-12", "localhost:8000", "ftp://h", "lm-deploy:x"])
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

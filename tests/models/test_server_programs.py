"""Names of programs on this machine: where they are, which model is meant, what errors say."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from command_line import agentcall

from agentcall import Agent
from agentcall.errors import ModelUnreachable, UnknownModel, UsageError
from agentcall.models.http import HTTPEndpoint
from agentcall.models.server_programs import PROGRAMS, find_listening_programs, locate_program
from agentcall.testing import FakeServer, forever, say

VARIABLES = [
    name
    for program in PROGRAMS.values()
    for name in (
        program.url_variable,
        program.host_variable,
        program.port_variable,
        program.key_variable,
    )
    if name
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "AGENTCALL_API_KEY", "AGENTCALL_MODEL"):
        monkeypatch.delenv(name, raising=False)


def address_of(server: FakeServer) -> str:
    return urlsplit(server.url).netloc


@pytest.mark.parametrize(
    ("shorthand", "url", "model"),
    [
        ("ollama:qwen3:8b", "http://127.0.0.1:11434/v1", "qwen3:8b"),
        ("vllm:", "http://127.0.0.1:8000/v1", None),
        ("llamacpp: ", "http://127.0.0.1:8080/v1", None),
        ("sglang:org/m", "http://127.0.0.1:30000/v1", "org/m"),
        ("lmstudio:qwen3-8b@q4_k_m", "http://127.0.0.1:1234/v1", "qwen3-8b@q4_k_m"),
        ("lmstudio:qwen3-8b@q4_k_m@box:1234", "http://box:1234/v1", "qwen3-8b@q4_k_m"),
        ("ollama:qwen3:8b@gpu-box:11434", "http://gpu-box:11434/v1", "qwen3:8b"),
        ("vllm:@[::1]:8001", "http://[::1]:8001/v1", None),
    ],
)
def test_a_shorthand_is_a_programs_usual_port_or_the_address_in_it(
    shorthand: str, url: str, model: str | None
) -> None:
    kind, _, rest = shorthand.partition(":")
    address = locate_program(kind, rest)
    assert (address.url, address.model) == (url, model)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("gpu-box", "http://gpu-box:11434/v1"),
        ("10.0.0.5:11500", "http://10.0.0.5:11500/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        (":11500", "http://127.0.0.1:11500/v1"),
        ("[::]:11500", "http://127.0.0.1:11500/v1"),
        ("http://gpu-box", "http://gpu-box:80/v1"),
        ("https://ollama.example/", "https://ollama.example:443/v1"),
        ("https://example.org/ollama", "https://example.org:443/ollama/v1"),
    ],
)
def test_ollamas_variable_is_read_as_ollama_reads_it(
    monkeypatch: pytest.MonkeyPatch, value: str, url: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", value)
    assert locate_program("ollama", "qwen3").url == url
    assert locate_program("vllm", "qwen3").url == "http://127.0.0.1:8000/v1"


def test_other_variables_are_for_their_own_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_HOST", "0.0.0.0")
    monkeypatch.setenv("LLAMA_ARG_PORT", "9090")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:4000/openai")
    assert locate_program("llamacpp", "").url == "http://127.0.0.1:9090/v1"
    assert locate_program("openai", "x").url == "http://127.0.0.1:4000/openai"
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(UsageError, match="OPENAI_BASE_URL is not set"):
        locate_program("openai", "x")
    monkeypatch.setenv("OLLAMA_HOST", "http://host:port")
    with pytest.raises(UsageError, match="OLLAMA_HOST='http://host:port', which is not an address"):
        Agent("ollama:qwen3")


def test_a_programs_key_is_sent_to_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sk-vllm")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    with FakeServer([forever(say("hi"))]) as server:
        for shorthand in (f"vllm:@{address_of(server)}", f"sglang:@{address_of(server)}"):
            Agent(shorthand).run_sync("hi")
        monkeypatch.setenv("AGENTCALL_API_KEY", "sk-own")
        Agent(f"vllm:@{address_of(server)}").run_sync("hi")
        keys = [request.headers.get("authorization") for request in server.requests]
    assert [key for i, key in enumerate(keys) if key not in keys[:i]] == [
        "Bearer sk-vllm",
        None,
        "Bearer sk-own",
    ]


def test_where_no_server_answers_the_error_says_how_to_start_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        where = rf"no server answers at http://127\.0\.0\.1:{port}/v1 \(.*\); is"
        for shorthand, said in {
            "ollama": r"Ollama running there\? `ollama serve` starts it; .* OLLAMA_HOST, or olla",
            "vllm": r"vLLM running there\? `vllm serve NAME` starts it; for another address use v",
            "tgi": r"TGI running there\?; for another address use tgi:NAME@host:port",
        }.items():
            endpoint = HTTPEndpoint(f"http://127.0.0.1:{port}/v1", program=shorthand)
            with pytest.raises(ModelUnreachable, match=f"{where} {said}"):
                asyncio.run(endpoint.get("/models"))
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{port}")
        with pytest.raises(ModelUnreachable, match=rf"{where} Ollama .*there \(OLLAMA_HOST is set"):
            Agent("ollama:qwen3").run_sync("hi")


@pytest.mark.parametrize(
    ("models", "name", "said"),
    [
        (["llama3.2:latest", "qwen3:8b"], "", "name one of them: ollama:llama3.2:latest, ollama:"),
        (["llama3.2:latest", "qwen3:8b"], "qwen3", "use ollama:qwen3:8b, or .*ollama pull qwen3`"),
        (["llama3.2:latest"], "qwen3:8b", "serves llama3.2:latest; get it with `ollama pull qwen3"),
        ([], "qwen3", "serves no model; get it with `ollama pull qwen3`"),
        ([], "", "lists no model; get it with `ollama pull NAME`"),
    ],
)
def test_a_model_that_ollama_lacks_is_an_error_with_those_it_has(
    models: list[str], name: str, said: str
) -> None:
    with (
        FakeServer([forever(say("hi"))], models=models, owned_by="library") as server,
        pytest.raises(UnknownModel, match=said),
    ):
        Agent(f"ollama:{name}@{address_of(server)}").run_sync("hi")


@pytest.mark.parametrize(
    "cards",
    [
        [{"id": "qwen3", "root": "/m"}, {"id": "q", "root": "/m"}],
        [{"id": "qwen3"}, {"id": "lora", "parent": "qwen3"}],
        [{"id": "nomic-embed-text"}, {"id": "qwen3"}],
    ],
)
def test_a_programs_only_model_needs_no_name(cards: list[dict[str, Any]]) -> None:
    page = {"object": "list", "data": [{"owned_by": "vllm", **card} for card in cards]}
    with FakeServer([forever(say("hi"))], pages={"/v1/models": page}) as server:
        Agent(f"vllm:@{address_of(server)}").run_sync("hi")
        assert server.requests[-1].body["model"] == "qwen3"


def test_the_doctor_takes_these_names_and_says_what_they_lack(tmp_path: Path) -> None:
    with FakeServer([forever(say("x"))], models=["a", "b"], owned_by="library") as server:
        env = {"OLLAMA_HOST": address_of(server)}
        done = agentcall("doctor", "ollama:c", cwd=tmp_path, env=env)
        assert done.returncode == 1
        assert "ollama pull c" in " ".join(done.stdout.split())
        ran = agentcall("run", "-q", "-m", "ollama:b", "hi", cwd=tmp_path, env=env)
    assert ran.stdout.strip() == "x"


def test_what_listens_at_a_usual_port_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ports = dict.fromkeys(PROGRAMS, unused.getsockname()[1])
        ports["lmstudio"] = listening.getsockname()[1]
        for kind, port in ports.items():
            monkeypatch.setitem(PROGRAMS, kind, replace(PROGRAMS[kind], port=port))
        assert find_listening_programs() == ["lmstudio"]
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(1) == b""  # it was only connected to

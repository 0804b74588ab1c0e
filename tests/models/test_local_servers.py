"""Models of servers that were launched here: found by name, asked with their own key."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from asking import heard, question
from test_server_registry import WANTED, ready

from agentcall import Agent
from agentcall.cli.model_server import (
    ensure_server,
    get_default_server,
    print_launch_hint,
    resolve_server,
)
from agentcall.errors import BadAnswer, ModelUnreachable, UsageError
from agentcall.models import resolve
from agentcall.models.local_servers import find_api_key, find_local_server
from agentcall.models.resolve import resolve_model
from agentcall.testing import FakeServer, RecordedRequest, forever, say
from agentcall_server.launch import Launch, ServerKind
from agentcall_server.server_registry import ServerEntry, open_entry


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCALL_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("AGENTCALL_API_KEY", raising=False)
    monkeypatch.delenv("AGENTCALL_MODEL", raising=False)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer([forever(say("hi"))], models=("/m/internlm2_5-7b-chat", "other")) as running:
        yield running


def port_of(server: FakeServer) -> int:
    return urlsplit(server.url).port or 0


def enter(
    server: FakeServer, name: str, kind: ServerKind = "lmdeploy", model: str = "m"
) -> ServerEntry:
    """The server in the ledger, as if it had been launched; this process looks after it."""
    one = open_entry(name)
    one.ensure_key()
    one.save(Launch(model))
    one.save(replace(WANTED, kind=kind, model=model, host="127.0.0.1", port=port_of(server)))
    one.save(replace(ready(), model="/m/internlm2_5-7b-chat"))
    return one


def over(one: ServerEntry) -> None:
    status = one.status
    assert status is not None
    one.save(replace(status, supervisor=replace(status.supervisor, started="1")))


async def asked(server: FakeServer, name: str | None) -> RecordedRequest:
    await heard(resolve_model(name).ask(question()))
    return server.requests[-1]


@pytest.mark.parametrize("name", ["lmdeploy:mine", "lmdeploy:internlm2_5-7b-chat", "{url}"])
async def test_a_server_is_asked_with_its_own_key_whatever_the_environment_has(
    server: FakeServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCALL_API_KEY", "of-another")
    one = enter(server, "mine")
    request = await asked(server, name.format(url=server.url))
    assert request.headers["authorization"] == f"Bearer {one.read_key()}"
    assert request.body["model"] == "/m/internlm2_5-7b-chat"


@pytest.mark.parametrize("name", ["lmdeploy:mine", "{url}"])
async def test_a_shorthand_has_no_settings_of_its_own(server: FakeServer, name: str) -> None:
    enter(server, "mine")
    body = (await asked(server, name.format(url=server.url))).body
    assert not {"temperature", "top_p", "max_tokens", "seed", "stop"} & body.keys()


async def test_a_server_that_has_ended_is_forgotten_with_its_key(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(enter(server, "mine"))
    assert find_local_server("mine") is None
    assert find_api_key(server.url) == ""
    monkeypatch.setenv("AGENTCALL_API_KEY", "mine-again")
    assert (await asked(server, server.url)).headers["authorization"] == "Bearer mine-again"


def test_a_key_is_for_no_other_host(server: FakeServer) -> None:
    one = enter(server, "mine")
    assert find_api_key(server.url) == one.read_key()
    assert find_api_key(f"http://elsewhere.example:{port_of(server)}/v1") == ""
    assert one.read_key() not in repr(find_local_server("mine"))


def test_a_server_that_asks_for_no_key_gets_none(server: FakeServer) -> None:
    one = enter(server, "mine")
    wanted = one.wanted
    assert wanted is not None
    one.save(replace(wanted, has_key=False))
    assert find_api_key(server.url) == ""


async def test_without_a_model_the_one_that_was_launched_is_taken(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(resolve, "LMDEPLOY", free.getsockname())
        enter(server, "mine")
        assert (await asked(server, None)).body["model"] == "/m/internlm2_5-7b-chat"


async def test_an_embedded_server_is_used_instead_of_a_second_one(server: FakeServer) -> None:
    enter(server, "small", "embedded", "embedded:qwen2.5-coder-0.5b")
    await heard(resolve_model("embedded:qwen2.5-coder-0.5b").ask(question()))
    assert len(server.requests) == 1


def test_commands_mean_the_same_server(server: FakeServer) -> None:
    enter(server, "mine")
    endpoint, model = resolve_server("lmdeploy:mine")
    assert (endpoint.url, model) == (server.url, "/m/internlm2_5-7b-chat")
    assert resolve_server("lmdeploy:none")[1] == "none"
    endpoint, model = resolve_server("vllm:org/qwen3@gpu:8001")
    assert (endpoint.url, endpoint.program, model) == ("http://gpu:8001/v1", "vllm", "org/qwen3")
    with pytest.raises(UsageError, match=r"not a model server; use .*ollama"):
        resolve_server("embedded")


@pytest.mark.parametrize("model", ["ollama:qwen3:8b", "lmstudio", "http://h/v1", "lmdeploy:x"])
def test_the_doctor_examines_the_server_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("AGENTCALL_MODEL", model)
    assert get_default_server() == model


# --- run --launch ---


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No LMDeploy at its usual port."""
    from agentcall.cli import model_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        for module in (resolve, model_server):
            monkeypatch.setattr(module, "LMDEPLOY", free.getsockname())
        yield


def test_what_is_up_is_not_launched(server: FakeServer, nobody: None) -> None:
    enter(server, "mine")
    ensure_server("lmdeploy:mine")


@pytest.mark.parametrize(
    "model", ["embedded", "http://h/v1", "lmdeploy", "lmdeploy:a,lmdeploy:b", None]
)
def test_only_a_named_model_of_lmdeploy_is_launched(model: str | None) -> None:
    with pytest.raises(UsageError, match="-m lmdeploy:NAME"):
        ensure_server(model)


def test_the_flag_is_named_where_it_would_have_helped(
    nobody: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelUnreachable) as failed:
        Agent("lmdeploy:internlm2_5-7b-chat").run_sync("hi")
    print_launch_hint("lmdeploy:internlm2_5-7b-chat", failed.value)
    assert "--launch starts it" in capsys.readouterr().err
    print_launch_hint("http://h/v1", failed.value)
    print_launch_hint("lmdeploy:x", BadAnswer("no"))
    print_launch_hint("lmdeploy:x", None)
    assert capsys.readouterr().err == ""

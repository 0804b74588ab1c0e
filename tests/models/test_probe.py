"""Which dialect is chosen: decided from facts, and asked of servers that are not LMDeploy."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agentcall.dialects.native import NativeDialect
from agentcall.errors import ModelUnreachable, UsageError
from agentcall.models.capabilities import (
    ServerCapabilities,
    ToolSupport,
    choose_dialect,
    choose_without_tools,
    clear_dialect_cache,
    select_dialect,
)
from agentcall.models.http import HTTPEndpoint
from agentcall.testing import FakeServer, forever, say
from agentcall.testing.faults import openai_error, status

INTERNLM = "internlm/internlm2_5-7b-chat"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing is known from another test."""
    clear_dialect_cache()
    yield
    clear_dialect_cache()


# --- decisions ---


def lmdeploy(since: str, tools: ToolSupport, model: str = INTERNLM) -> ServerCapabilities:
    parts = tuple(map(int, since.split("."))) if since else ()
    tokens = {"reach": (20, 90), "dropped": (20, 20)}.get(tools)
    return ServerCapabilities(
        model, (model,), "lmdeploy", since, parts, tools, tokens, "no tools here"
    )


@pytest.mark.parametrize(
    ("since", "tools", "dialect", "streams"),
    [
        ("0.5", "reach", "internlm-named", True),
        ("0.6", "reach", "internlm-named", True),
        ("0.9", "refused", "internlm-named", True),
        ("0.10", "dropped", "internlm", True),
        ("0.11.1", "reach", "internlm", True),
        ("0.13", "reach", "native", True),
        ("0.13", "dropped", "internlm", True),
        ("0.13", "refused", "internlm", True),
        ("0.18", "reach", "native", True),
        ("0.18", "unknown", "internlm", True),
        ("", "reach", "internlm", True),
        ("", "dropped", "internlm", True),
    ],
)
def test_internlm_behind_lmdeploy_speaks_raw_mode_unless_native_is_sound(
    since: str, tools: ToolSupport, dialect: str, streams: bool
) -> None:
    choice = select_dialect(lmdeploy(since, tools))
    assert (choice.dialect.name, choice.can_stream) == (dialect, streams)
    assert choice.reason


@pytest.mark.parametrize(
    ("since", "tools", "dialect", "streams"),
    [
        ("0.5", "reach", "constrained", True),
        ("0.6", "reach", "native", False),
        ("0.12", "reach", "native", False),
        ("0.13", "reach", "native", True),
        ("0.18", "dropped", "constrained", True),
        ("0.18", "refused", "constrained", True),
        ("0.18", "unknown", "native", True),
        ("", "reach", "native", False),
    ],
)
def test_another_model_behind_lmdeploy_is_native_where_tools_reach_the_prompt(
    since: str, tools: ToolSupport, dialect: str, streams: bool
) -> None:
    choice = select_dialect(lmdeploy(since, tools, "qwen2.5-7b-instruct"))
    assert (choice.dialect.name, choice.can_stream) == (dialect, streams)


@pytest.mark.parametrize("server", ["vllm", "llama.cpp", "ollama", "sglang", "openai", ""])
def test_other_servers_are_native(server: str) -> None:
    choice = select_dialect(ServerCapabilities("qwen2.5-7b-instruct", server=server))
    assert (choice.dialect.name, choice.can_stream) == ("native", True)


@pytest.mark.parametrize("tools", ["dropped", "refused", "unknown"])
def test_internlm_behind_other_servers_speaks_raw_mode_where_tools_are_lost(
    tools: ToolSupport,
) -> None:
    assert (
        select_dialect(ServerCapabilities(INTERNLM, server="vllm", tool_support=tools)).dialect.name
        == "internlm"
    )


def test_internlm_behind_other_servers_is_native_where_tools_reach_the_prompt() -> None:
    facts = ServerCapabilities(
        INTERNLM, server="vllm", tool_support="reach", prompt_tokens=(20, 90)
    )
    assert select_dialect(facts).dialect.name == "native"


@pytest.mark.parametrize(
    ("model", "dialect"),
    [
        ("internlm2-chat-7b", "internlm"),
        ("/models/InternLM2_5-1_8B-Chat", "internlm"),
        ("internlm2.5-20b-chat-4bit", "internlm"),
        ("internlm-2.5-7b", "internlm"),
        ("internlm3-8b-instruct", "constrained"),
        ("internvl2-8b", "constrained"),
        ("qwen2.5", "constrained"),
    ],
)
def test_internlm2_is_known_by_its_name(model: str, dialect: str) -> None:
    assert select_dialect(lmdeploy("0.18", "dropped", model)).dialect.name == dialect


def test_the_reason_names_the_numbers_that_were_seen() -> None:
    assert (
        "(20 tokens without one, 90 with one)" in select_dialect(lmdeploy("0.18", "reach")).reason
    )
    assert "20 prompt tokens" in select_dialect(lmdeploy("0.18", "dropped")).reason
    assert "no tools here" in select_dialect(lmdeploy("0.18", "refused")).reason
    assert "0.5" in select_dialect(lmdeploy("0.5", "reach")).reason


def test_a_server_that_turned_out_to_refuse_tools_gets_another_dialect() -> None:
    first = select_dialect(replace(lmdeploy("0.12", "reach", "qwen"), min_version=(0, 12)))
    second = choose_without_tools(first, "unsupported")
    assert (second.dialect.name, second.can_stream, second.model) == ("constrained", True, "qwen")
    assert "unsupported" in second.reason
    assert (
        choose_without_tools(select_dialect(lmdeploy("0.18", "reach")), "no").dialect.name
        == "internlm"
    )


# --- asking ---


@pytest.mark.parametrize("owner", ["openai", "system", "somebody"])
async def test_servers_that_may_be_remote_are_asked_nothing_that_costs(owner: str) -> None:
    with FakeServer([say("the only reply")], owned_by=owner, models=["qwen"]) as server:
        choice = await choose_dialect(HTTPEndpoint(server.url), None, "auto")
        assert (choice.model, choice.dialect.name) == ("qwen", "native")
        assert server.requests == []
        assert [visit.path for visit in server.all_requests] == ["/v1/models"]


@pytest.mark.parametrize("owner", ["llamacpp", "vllm", "sglang", "me"])
@pytest.mark.parametrize(("drops", "dialect"), [(False, "native"), (True, "constrained")])
async def test_local_servers_that_may_drop_tools_are_probed_once(
    owner: str, drops: bool, dialect: str
) -> None:
    script = [say("the only reply")]
    with FakeServer(script, owned_by=owner, models=["qwen"], drops_tools=drops) as server:
        for _ in range(2):
            choice = await choose_dialect(HTTPEndpoint(server.url), None, "auto")
            assert choice.dialect.name == dialect
        assert [request.body["max_tokens"] for request in server.requests] == [1, 1]


@pytest.mark.parametrize("owner", ["llamacpp", "vllm", "sglang", "me"])
async def test_local_servers_that_refuse_tools_are_known_before_the_first_request(
    owner: str,
) -> None:
    with FakeServer(owned_by=owner, models=["qwen"], refuses_tools=True) as server:
        choice = await choose_dialect(HTTPEndpoint(server.url), None, "auto")
        assert choice.dialect.name == "constrained"
        assert "refuses tools" in choice.reason


@pytest.mark.parametrize(
    ("prompt", "dialect"),
    [
        ("<|im_start|>system\n# Tools\n... look_up_a_word_in_the_dictionary ...", "native"),
        ("<|im_start|>user\nHi<|im_end|>", "constrained"),
    ],
)
async def test_llama_cpp_shows_its_prompt_and_computes_nothing(prompt: str, dialect: str) -> None:
    pages = {"/apply-template": {"prompt": prompt}}
    with FakeServer(owned_by="llamacpp", models=["qwen"], pages=pages) as server:
        choice = await choose_dialect(HTTPEndpoint(server.url), None, "auto")
        assert choice.dialect.name == dialect
        assert server.requests == []


@pytest.mark.parametrize(
    ("listed", "dialect"),
    [
        (["completion", "tools"], "native"),
        (["completion"], "constrained"),
        (None, "native"),
    ],
)
async def test_ollama_lists_what_a_model_supports(listed: list[str] | None, dialect: str) -> None:
    pages = {"/api/show": {"details": {}, "capabilities": listed}}
    with FakeServer(owned_by="library", models=["qwen"], pages=pages) as server:
        choice = await choose_dialect(HTTPEndpoint(server.url), None, "auto")
        assert choice.dialect.name == dialect
        assert server.requests == []


async def test_a_probe_that_is_refused_leaves_the_decision_to_the_first_request() -> None:
    refusal = status(400, body=openai_error("max_tokens is not supported", status=400), times=9)
    with FakeServer([refusal], owned_by="vllm", models=["qwen"], answers_probes=False) as server:
        choice = await choose_dialect(HTTPEndpoint(server.url), None, "auto")
        assert choice.dialect.name == "native"


async def test_a_named_dialect_is_spoken_without_asking() -> None:
    with FakeServer(owned_by="lmdeploy") as server:
        endpoint = HTTPEndpoint(server.url)
        assert (await choose_dialect(endpoint, "m", "constrained")).dialect.name == "constrained"
        own = NativeDialect("mine")
        assert (await choose_dialect(endpoint, "m", own)).dialect is own
        assert server.all_requests == []


async def test_a_dialect_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"'french'.*auto, native, internlm"):
        await choose_dialect(HTTPEndpoint("http://127.0.0.1:9/v1"), "m", "french")


async def test_internlm_behind_vllm_is_probed() -> None:
    script = [forever(say("Hi"))]
    with FakeServer(script, drops_tools=True, owned_by="vllm", models=[INTERNLM]) as server:
        choice = await choose_dialect(HTTPEndpoint(server.url), None, "auto")
        assert choice.dialect.name == "internlm"
        assert [request.body["max_tokens"] for request in server.requests] == [1, 1]


async def test_many_who_ask_at_once_share_one_answer() -> None:
    script = [forever(say("Hi"))]
    with FakeServer(script, owned_by="lmdeploy", models=[INTERNLM]) as server:
        endpoint = HTTPEndpoint(server.url)
        await asyncio.gather(*(choose_dialect(endpoint, None, "auto") for _ in range(30)))
        await choose_dialect(endpoint, INTERNLM, "auto")
        assert len(server.requests) == 2


async def test_another_thread_s_loop_knows_what_was_learned() -> None:
    with FakeServer([forever(say("Hi"))], owned_by="lmdeploy") as server:
        endpoint = HTTPEndpoint(server.url)
        first = await choose_dialect(endpoint, None, "auto")
        second = await asyncio.to_thread(
            lambda: asyncio.run(choose_dialect(endpoint, None, "auto"))
        )
        assert first is second
        assert len(server.requests) == 2


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    with FakeServer([forever(say("Hi"))], owned_by="lmdeploy") as server:
        endpoint = HTTPEndpoint(server.url)
        first = asyncio.ensure_future(choose_dialect(endpoint, None, "auto"))
        second = asyncio.ensure_future(choose_dialect(endpoint, None, "auto"))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).dialect.name == "native"
        assert first.cancelled()


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    server = FakeServer([forever(say("Hi"))])
    server.start()
    server.stop()
    endpoint = HTTPEndpoint(server.url, timeout=5, tries=1)
    failed = await asyncio.gather(
        *(choose_dialect(endpoint, None, "auto") for _ in range(5)), return_exceptions=True
    )
    assert {type(error) for error in failed} == {ModelUnreachable}
    with server:
        assert (await choose_dialect(endpoint, None, "auto")).dialect.name == "native"

"""How long the window is and which version answers, on each kind of server."""

import pytest
from rows import each_row

from agentcall.models.capabilities import ServerCapabilities, identify_server
from agentcall.models.context_window import fetch_context_window, fetch_version, find_longest_step
from agentcall.models.http import HTTPEndpoint
from agentcall.testing import FakeServer, Reply, flat_error, forever, overflow, say, status


async def test_vllm_tells_window_and_version() -> None:
    card = {"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 16384}
    pages = {"/v1/models": {"data": [card]}, "/version": {"version": "0.8.5"}}
    with FakeServer(pages=pages) as server:
        endpoint = HTTPEndpoint(server.url)
        facts = await identify_server(endpoint, None)
        assert await fetch_context_window(endpoint, facts) == 16384
        assert await fetch_version(endpoint, facts) == "0.8.5"


async def test_llama_cpp_tells_the_window_it_was_launched_with_not_the_model_s() -> None:
    card = {"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx_train": 131072}}
    props = {"default_generation_settings": {"n_ctx": 4096}, "build_info": "b5000-abc"}
    with FakeServer(pages={"/v1/models": {"data": [card]}, "/props": props}) as server:
        endpoint = HTTPEndpoint(server.url)
        facts = await identify_server(endpoint, None)
        assert (facts.server, facts.context_window) == ("llama.cpp", None)
        assert await fetch_context_window(endpoint, facts) == 4096
        assert await fetch_version(endpoint, facts) == "b5000-abc"


async def test_ollama_tells_the_window_of_a_loaded_model() -> None:
    other, meant = ({"name": n, "context_length": c} for n, c in (("x", 1), ("m:latest", 4096)))
    running = {"models": [other, meant]}
    pages = {"/api/ps": running, "/api/version": {"version": "0.9.0"}}
    with FakeServer(models=["m:latest"], owned_by="library", pages=pages) as server:
        endpoint = HTTPEndpoint(server.url)
        facts = await identify_server(endpoint, "m")
        assert (facts.server, facts.model) == ("ollama", "m:latest")
        assert await fetch_context_window(endpoint, facts) == 4096
        assert await fetch_version(endpoint, facts) == "0.9.0"


METRICS = "".join(
    f'lmdeploy:request_prompt_tokens_bucket{{engine="0",le="{step}",model_name="m"}} 0.0\n'
    for step in ("1.0", "2000.0", "5000.0", "+Inf")
)
LMDEPLOY_18 = ServerCapabilities("m", ("m",), "lmdeploy", "0.18 or later", (0, 18))


async def test_lmdeploy_names_its_window_when_a_prompt_is_surely_too_long() -> None:
    pages = {"/metrics": status(200, body=METRICS)}
    with FakeServer([forever(overflow("lmdeploy", context=8000))], pages=pages) as server:
        assert await fetch_context_window(HTTPEndpoint(server.url), LMDEPLOY_18) == 8000
        (asked,) = server.requests
        assert str(asked.body["messages"]).count("a ") >= 12500


async def test_without_metrics_lmdeploy_is_asked_for_no_window() -> None:
    with FakeServer([say("Hi")]) as server:
        assert await fetch_context_window(HTTPEndpoint(server.url), LMDEPLOY_18) is None
        assert server.requests == []


@pytest.mark.parametrize("said", [say("Hi"), status(400, body=flat_error("no")), status(500)])
async def test_a_window_that_is_not_named_is_not_known(said: Reply) -> None:
    pages = {"/metrics": status(200, body=METRICS)}
    with FakeServer([said], pages=pages) as server:
        assert await fetch_context_window(HTTPEndpoint(server.url), LMDEPLOY_18) is None


def test_the_histogram_of_prompts_ends_at_the_window() -> None:
    assert find_longest_step(METRICS) == 5000
    assert find_longest_step('vllm:request_prompt_tokens_bucket{le="1.0"} 0\n') is None
    assert find_longest_step("") is None


@each_row("server", ["vllm", "llama.cpp", "ollama", "openai", "lmdeploy"])
async def test_a_window_that_a_server_does_not_tell_is_not_known(server: str) -> None:
    with FakeServer() as fake:
        assert (
            await fetch_context_window(
                HTTPEndpoint(fake.url), ServerCapabilities("m", server=server)
            )
            is None
        )
        assert (
            await fetch_version(HTTPEndpoint(fake.url), ServerCapabilities("m", server=server))
            == ""
        )

"""What is learned of a server by asking it."""

import pytest
from rows import each_row

from agentcall.errors import ModelRefused, RateLimited, UnknownModel
from agentcall.models.capabilities import (
    ServerCapabilities,
    can_stream_tools,
    identify_server,
    probe_tool_support,
)
from agentcall.models.http import HTTPEndpoint
from agentcall.models.model_listing import list_models, match_model
from agentcall.testing import (
    FakeServer,
    Reply,
    error_under_200,
    flat_error,
    forever,
    html,
    ignore_stream,
    openai_error,
    say,
    status,
)


@each_row(
    ("wanted", "served", "found"),
    [
        (None, ["a", "b"], "a"),
        ("b", ["a", "b"], "b"),
        ("Chat-7B", ["/models/other", "/models/chat-7b"], "/models/chat-7b"),
        ("internlm/chat-7b", ["/models/chat-7b"], "/models/chat-7b"),
        ("chat", ["x/chat", "chat"], "chat"),
        ("llama3.2", ["qwen:0.5b", "llama3.2:latest"], "llama3.2:latest"),
        ("anything", [], "anything"),
    ],
)
async def test_a_model_is_found_by_its_name_or_the_end_of_its_path(
    wanted: str | None, served: list[str], found: str
) -> None:
    with FakeServer(models=served, owned_by="vllm") as server:
        assert (await identify_server(HTTPEndpoint(server.url), wanted)).model == found


async def test_a_model_that_is_not_served_is_named_with_those_that_are() -> None:
    served = FakeServer(models=["a", "b"], owned_by="vllm")
    with served as server, pytest.raises(UnknownModel, match=r"'c'; it serves a, b"):
        await identify_server(HTTPEndpoint(server.url), "c")


@pytest.mark.parametrize("owner", ["llamacpp", "openai"])
async def test_gateways_know_more_names_than_they_list(owner: str) -> None:
    with FakeServer(models=["a"], owned_by=owner) as server:
        assert (await identify_server(HTTPEndpoint(server.url), "a:online")).model == "a:online"


async def test_a_server_without_models_wants_one_named() -> None:
    with FakeServer(models=[]) as server, pytest.raises(UnknownModel, match="lists no model"):
        await identify_server(HTTPEndpoint(server.url), None)


@pytest.mark.parametrize("page", [None, html(200), status(500)])
async def test_a_named_model_needs_no_list_of_models(page: object) -> None:
    with FakeServer(pages={"/v1/models": page}) as server:
        assert await identify_server(HTTPEndpoint(server.url), "m") == ServerCapabilities("m")


async def test_odd_cards_are_passed_over() -> None:
    page = {"data": ["x", {"object": "model"}, {"id": "m"}, None]}
    with FakeServer(pages={"/v1/models": page}) as server:
        listed = await list_models(HTTPEndpoint(server.url))
        assert (listed.names, listed.server) == (("m",), "")
        assert match_model(None, listed, "there") == "m"


# --- tools ---


@pytest.mark.parametrize(
    "reply",
    [
        error_under_200("Failed to parse fc related info"),
        status(400, body=flat_error("no tools")),
        status(422, body=openai_error("extra fields", status=422)),
        status(500, body=openai_error("template failed")),
    ],
)
async def test_whatever_a_server_says_to_tools_alone_is_a_refusal(reply: Reply) -> None:
    with FakeServer(lambda asked: reply if asked.tools else say("Hi")) as server:
        facts = await probe_tool_support(HTTPEndpoint(server.url), ServerCapabilities("m"))
        assert facts.tool_support == "refused"
        assert facts.refusal


async def test_a_server_that_has_no_time_for_tools_does_not_refuse_them() -> None:
    busy = status(429, body=openai_error("busy", status=429), headers={"Retry-After": "0"})
    fake = FakeServer(lambda asked: busy if asked.tools else say("Hi"))
    with fake as server, pytest.raises(RateLimited):
        await probe_tool_support(HTTPEndpoint(server.url), ServerCapabilities("m"))


async def test_a_server_that_fails_without_tools_too_is_a_failure() -> None:
    refused = status(401, body=openai_error("no key", status=401))
    with FakeServer([forever(refused)]) as server, pytest.raises(ModelRefused, match="401"):
        await probe_tool_support(HTTPEndpoint(server.url), ServerCapabilities("m"))


async def test_a_server_that_counts_no_tokens_leaves_the_fate_unknown() -> None:
    with FakeServer([forever(say("Hi").replace(usage=None))]) as server:
        facts = await probe_tool_support(HTTPEndpoint(server.url), ServerCapabilities("m"))
        assert (facts.tool_support, facts.prompt_tokens) == ("unknown", None)


async def test_a_stream_is_told_from_a_whole_answer() -> None:
    script = [say("Hi"), ignore_stream(say("Hi")), status(400)]
    with FakeServer(script, answers_probes=False) as server:
        endpoint = HTTPEndpoint(server.url, tries=1)
        streams = [await can_stream_tools(endpoint, ServerCapabilities("m")) for _ in range(3)]
        assert streams == [True, False, None]

"""What is learned of LMDeploy by asking it, and what that costs."""

import asyncio
from collections.abc import Iterator

import pytest
from stand import Stand

from agentcall.errors import UnknownModel
from agentcall.models.capabilities import (
    can_stream_tools,
    choose_dialect,
    clear_dialect_cache,
    identify_server,
    probe_tool_support,
)
from agentcall.models.context_window import fetch_context_window
from agentcall.models.http import HTTPEndpoint
from agentcall.models.server_version import ServerVersion, detect_lmdeploy_version

AGES = {
    "0.18.0": ServerVersion((0, 18), "0.18 or later"),
    "0.5.3": ServerVersion((0, 5), "0.5 or earlier"),
}
FATES = {"stock": "dropped", "noparser": "refused", "tools_template": "reach", "old": "reach"}
SPEAKS = {
    "stock": "internlm",
    "noparser": "internlm",
    "tools_template": "native",
    "old": "internlm-named",
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing is known from another test."""
    clear_dialect_cache()
    yield
    clear_dialect_cache()


async def test_the_age_is_told_by_the_openapi_document(stand: Stand) -> None:
    assert await detect_lmdeploy_version(HTTPEndpoint(stand.url)) == AGES[stand.version]


async def test_the_fate_of_tools_costs_two_requests_for_one_token(stand: Stand) -> None:
    endpoint = HTTPEndpoint(stand.url)
    facts = await identify_server(endpoint, None)
    assert stand.records() == []
    facts = await probe_tool_support(endpoint, facts)
    assert facts.tool_support == FATES[stand.name]
    records = stand.records()
    assert len(records) == (1 if stand.name == "noparser" else 2)
    assert all(record.is_probe for record in records)


async def test_the_server_is_asked_once_for_all_who_want_to_know(stand: Stand) -> None:
    endpoint = HTTPEndpoint(stand.url)
    choices = await asyncio.gather(*(choose_dialect(endpoint, None, "auto") for _ in range(20)))
    again = await choose_dialect(endpoint, choices[0].model, "auto")
    assert {choice.dialect.name for choice in [*choices, again]} == {SPEAKS[stand.name]}
    asked = {"stock": 2, "noparser": 1, "tools_template": 2, "old": 0}[stand.name]
    assert len(stand.records()) == asked


async def test_a_probe_takes_nothing_from_the_script(stand: Stand) -> None:
    stand.script(["The only reply."])
    await choose_dialect(HTTPEndpoint(stand.url), None, "auto")
    assert stand.pending() == 1


async def test_the_last_part_of_a_model_s_path_names_it(stand: Stand) -> None:
    choice = await choose_dialect(HTTPEndpoint(stand.url), "InternLM2_5-7B-Chat", "auto")
    assert choice.model.endswith(f"/{stand.name}/internlm2_5-7b-chat")


async def test_a_model_that_is_not_served_is_refused_before_it_is_asked(stand: Stand) -> None:
    with pytest.raises(UnknownModel, match="internlm2_5-7b-chat"):
        await choose_dialect(HTTPEndpoint(stand.url), "qwen", "auto")
    assert stand.records() == []


async def test_a_stream_with_tools_is_answered_without_a_stream_by_the_old_server(
    stand: Stand,
) -> None:
    endpoint = HTTPEndpoint(stand.url)
    streams = await can_stream_tools(endpoint, await identify_server(endpoint, None))
    expected = {"stock": True, "noparser": None, "tools_template": True, "old": False}
    assert streams == expected[stand.name]


async def test_the_window_is_named_by_a_refusal_and_nothing_is_computed(stand: Stand) -> None:
    endpoint = HTTPEndpoint(stand.url)
    size = await fetch_context_window(endpoint, await identify_server(endpoint, None))
    assert size == (None if stand.name == "old" else 32768)
    assert stand.records() == []

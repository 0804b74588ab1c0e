"""What is learned of LMDeploy by asking it, and what that costs."""

import asyncio
from collections.abc import Iterator

import pytest
from stand import Stand

from agentcall.errors import UnknownModel
from agentcall.models.age import Age, lmdeploy_age
from agentcall.models.endpoint import Endpoint
from agentcall.models.facts import identity, streams_with_tools, with_fate_of_tools
from agentcall.models.probe import choose, forget
from agentcall.models.window import window

AGES = {"0.18.0": Age((0, 18), "0.18 or later"), "0.5.3": Age((0, 5), "0.5 or earlier")}
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
    forget()
    yield
    forget()


async def test_the_age_is_told_by_the_openapi_document(stand: Stand) -> None:
    assert await lmdeploy_age(Endpoint(stand.url)) == AGES[stand.version]


async def test_the_fate_of_tools_costs_two_requests_for_one_token(stand: Stand) -> None:
    endpoint = Endpoint(stand.url)
    facts = await identity(endpoint, None)
    assert stand.records() == []
    facts = await with_fate_of_tools(endpoint, facts)
    assert facts.tools == FATES[stand.name]
    records = stand.records()
    assert len(records) == (1 if stand.name == "noparser" else 2)
    assert all(record.is_probe for record in records)


async def test_the_server_is_asked_once_for_all_who_want_to_know(stand: Stand) -> None:
    endpoint = Endpoint(stand.url)
    choices = await asyncio.gather(*(choose(endpoint, None, "auto") for _ in range(20)))
    again = await choose(endpoint, choices[0].model, "auto")
    assert {choice.dialect.name for choice in [*choices, again]} == {SPEAKS[stand.name]}
    asked = {"stock": 2, "noparser": 1, "tools_template": 2, "old": 0}[stand.name]
    assert len(stand.records()) == asked


async def test_a_probe_takes_nothing_from_the_script(stand: Stand) -> None:
    stand.script(["The only reply."])
    await choose(Endpoint(stand.url), None, "auto")
    assert stand.pending() == 1


async def test_the_last_part_of_a_model_s_path_names_it(stand: Stand) -> None:
    choice = await choose(Endpoint(stand.url), "InternLM2_5-7B-Chat", "auto")
    assert choice.model.endswith(f"/{stand.name}/internlm2_5-7b-chat")


async def test_a_model_that_is_not_served_is_refused_before_it_is_asked(stand: Stand) -> None:
    with pytest.raises(UnknownModel, match="internlm2_5-7b-chat"):
        await choose(Endpoint(stand.url), "qwen", "auto")
    assert stand.records() == []


async def test_a_stream_with_tools_is_answered_without_a_stream_by_the_old_server(
    stand: Stand,
) -> None:
    endpoint = Endpoint(stand.url)
    streams = await streams_with_tools(endpoint, await identity(endpoint, None))
    expected = {"stock": True, "noparser": None, "tools_template": True, "old": False}
    assert streams == expected[stand.name]


async def test_the_window_is_named_by_a_refusal_and_nothing_is_computed(stand: Stand) -> None:
    endpoint = Endpoint(stand.url)
    size = await window(endpoint, await identity(endpoint, None))
    assert size == (None if stand.name == "old" else 32768)
    assert stand.records() == []

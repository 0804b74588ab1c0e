from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from agentcall.errors import BadAnswer, CutAnswer, ModelRefused, ServerFailed, UsageError
from agentcall.models.http import HTTPEndpoint
from agentcall.testing import FakeServer, drop, forever, gzip_body, huge, never, say, status

BODY = b'{"messages":[{"role":"user","content":"hi"}]}'
STREAM = b'{"stream":true,"messages":[{"role":"user","content":"hi"}]}'
CHAT = "/chat/completions"


async def authorization(url: str, api_key: str = "") -> str | None:
    with FakeServer([say("hi")]) as server:
        host = server.url.removeprefix("http://")
        await HTTPEndpoint(url.format(host), api_key).post(CHAT, BODY)
        return server.requests[0].headers.get("authorization")


async def test_without_a_key_none_is_sent() -> None:
    assert await authorization("http://{}") is None


async def test_a_key_is_sent_as_bearer() -> None:
    assert await authorization("http://{}", " sk-1\n") == "Bearer sk-1"


async def test_a_key_may_stand_in_the_url() -> None:
    assert await authorization("http://sk-1@{}") == "Bearer sk-1"


async def test_user_and_password_of_the_url_are_basic_authentication() -> None:
    expected = "Basic " + base64.b64encode(b"u:p").decode()
    assert await authorization("http://u:p@{}") == expected


async def test_a_given_key_goes_before_that_of_the_url() -> None:
    assert await authorization("http://u:p@{}", "sk-1") == "Bearer sk-1"


@pytest.mark.parametrize("end", ["", "/", "//", "/chat/completions"])
async def test_what_the_url_ends_in_does_not_matter(end: str) -> None:
    with FakeServer([say("hi")]) as server:
        await HTTPEndpoint(server.url + end).post(CHAT, BODY)
        assert server.requests[0].path == "/v1/chat/completions"


def test_what_is_no_base_url_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="http://host:port/v1"):
        HTTPEndpoint("localhost:8000")


def test_an_endpoint_shows_no_key() -> None:
    endpoint = HTTPEndpoint("http://u:canary@h/v1?key=canary", "canary")
    assert "canary" not in repr(endpoint)
    assert endpoint.display_url == "http://h/v1"


@pytest.mark.parametrize("reply", [huge(200_000), gzip_body(huge(200_000))])
async def test_a_huge_answer_is_refused(reply: Any) -> None:
    endpoint_options: dict[str, Any] = {"max_bytes": 100_000}
    with FakeServer([forever(reply)]) as server:
        endpoint = HTTPEndpoint(server.url, **endpoint_options)
        with pytest.raises(BadAnswer, match="longer than 100000 bytes"):
            await endpoint.post(CHAT, BODY)
        with pytest.raises(BadAnswer, match="longer than 100000 bytes"):
            _ = [data async for data in endpoint.stream(CHAT, STREAM)]
        assert len(server.requests) == 2


async def test_a_stream_gives_the_bytes_as_they_arrive() -> None:
    with FakeServer([say("one two").replace(delay=0.01)]) as server:
        pieces = [data async for data in HTTPEndpoint(server.url).stream(CHAT, STREAM)]
    assert len(pieces) > 1
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_breaks_is_cut() -> None:
    with FakeServer([drop(say("one two"), after=0.5)]) as server:
        answer = HTTPEndpoint(server.url).stream(CHAT, STREAM)
        with pytest.raises(CutAnswer, match="broke"):
            _ = [data async for data in answer]


@pytest.mark.parametrize("code", [10401, 10402])
async def test_a_node_lost_behind_lmdeploys_proxy_is_the_servers_failure(code: int) -> None:
    lost = status(200, body={"error_code": code, "text": "Failed to get response"})
    with FakeServer([forever(lost)]) as server:
        endpoint = HTTPEndpoint(server.url, tries=1)
        with pytest.raises(ServerFailed, match=r"a node behind .* does not answer") as one:
            await endpoint.post(CHAT, BODY)
        with pytest.raises(ServerFailed, match="Failed to get response"):
            _ = [data async for data in endpoint.stream(CHAT, STREAM)]
    assert one.value.retry_after == 2.0  # until then somebody may have taken the node out


async def test_such_words_inside_an_answer_are_an_answer() -> None:
    with FakeServer([say('{"error_code": 10402}')]) as server:
        pieces = [data async for data in HTTPEndpoint(server.url).stream(CHAT, STREAM)]
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n")


async def test_a_page_is_asked_for_once() -> None:
    with FakeServer(pages={"/v1/models": status(503)}) as server:
        with pytest.raises(ModelRefused):
            await HTTPEndpoint(server.url).get("/models")
        assert len(server.all_requests) == 1


async def test_a_number_of_tries_is_kept() -> None:
    with FakeServer([forever(status(503, headers={"Retry-After": "0"}))]) as server:
        for tries in (1, 2, 5):
            server.reset([forever(status(503, headers={"Retry-After": "0"}))])
            with pytest.raises(ModelRefused):
                await HTTPEndpoint(server.url, tries=tries).post(CHAT, BODY)
            assert len(server.requests) == tries


async def test_tries_without_word_of_the_server_are_repeated() -> None:
    with FakeServer([status(503, times=3), say("hi")]) as server:
        await HTTPEndpoint(server.url, tries=4).post(CHAT, BODY)
        assert len(server.requests) == 4


async def test_a_query_stays_at_the_end() -> None:
    with FakeServer([say("hi")]) as server:
        await HTTPEndpoint(server.url + "?api-version=1").post(CHAT, BODY)
        assert server.requests[0].path == "/v1/chat/completions"


async def test_a_thousand_requests_at_once_are_answered() -> None:
    with FakeServer([forever(say("hi").replace(latency=0.05))]) as server:
        endpoint = HTTPEndpoint(server.url, timeout=60.0)
        answers = await asyncio.gather(*(endpoint.post(CHAT, BODY) for _ in range(1000)))
        assert len(server.requests) == 1000
    assert len(answers) == 1000


async def test_requests_that_wait_end_when_they_are_cancelled() -> None:
    with FakeServer([forever(never())]) as server:
        endpoint = HTTPEndpoint(server.url)
        tasks = [asyncio.ensure_future(endpoint.post(CHAT, BODY)) for _ in range(200)]
        while len(server.requests) < 200:
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in done)

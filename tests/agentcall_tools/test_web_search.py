"""Web search, by servers on loopback that answer as SearXNG and others do."""

from __future__ import annotations

import pytest
from aiohttp import web
from loopback import Handler, Site, saying, serving
from rows import each_row

from agentcall import ToolRegistry
from agentcall_tools.search import Search, SearchError

FOUND = """{"query": "oslo", "number_of_results": 0, "results": [
 {"url": "https://a.example/1", "title": "Oslo\\u200b weather", "content": "Cold\\n and  clear.",
  "engine": "x", "publishedDate": "2025-03-01T10:00:00", "score": 1.0},
 {"url": "https://b.example/", "title": "Oslo", "content": null, "publishedDate": null},
 {"url": "https://c.example/", "title": "Third", "content": "c"}],
 "answers": [], "suggestions": ["oslo norway"], "unresponsive_engines": []}"""


async def asked(
    answer: str | Handler, template: str = "", query: str = "oslo & snow", count: int = 2
) -> tuple[str, Site]:
    handler = saying(answer, "application/json") if isinstance(answer, str) else answer
    async with serving(handler) as site:
        return await Search(site.url(template)).web_search(query, count), site


async def test_results_of_searxng_are_a_short_list() -> None:
    text, site = await asked(FOUND)
    assert text == (
        "1. Oslo weather (2025-03-01)\nhttps://a.example/1\nCold and clear.\n\n"
        "2. Oslo\nhttps://b.example/"
    )
    assert site.requests[0].path == "/search"
    assert dict(site.requests[0].query) == {"q": "oslo & snow", "format": "json"}


async def test_an_answer_of_the_engine_itself_comes_first() -> None:
    text, _ = await asked(FOUND.replace('"answers": []', '"answers": [{"answer": "-3 C"}]'))
    assert text.startswith('answer: {"answer": "-3 C"}\n\n1. Oslo')


async def test_nothing_found_is_said_so() -> None:
    text, _ = await asked('{"results": []}')
    assert text == "nothing found for 'oslo & snow'; try other words"


async def test_another_engine_is_asked_by_its_own_address() -> None:
    page = saying("<h1>Results</h1><a href='https://a.example/'>Oslo</a>", "text/html")
    text, site = await asked(page, "/find?for={query}&lang=en")
    assert text == "# Results\n\n[Oslo](https://a.example/)"
    assert dict(site.requests[0].query) == {"for": "oslo & snow", "lang": "en"}
    text, _ = await asked('{"hits": [1]}', "/find/{query}")
    assert text == '{"hits": [1]}'


async def test_a_binary_page_is_refused() -> None:
    with pytest.raises(SearchError, match="is image/png, not text"):
        await asked(saying(b"\x89PNG", "image/png"), "/?q={query}")


def status(code: int) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code)

    return handler


@each_row(
    ("answer", "words"),
    [
        (status(403), "needs json among the formats"),
        (status(429), "wait a minute"),
        (status(500), "HTTP 500; try again later"),
        (status(302), "HTTP 302"),
        ("<html>", "is not SearXNG's"),
        ('{"results": 5}', "is not SearXNG's"),
    ],
)
async def test_each_failure_has_its_words(answer: str | Handler, words: str) -> None:
    with pytest.raises(SearchError, match=words):
        await asked(answer)


async def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(SearchError, match=r"cannot be reached: could not reach 127\.0\.0\.1"):
        await Search("http://127.0.0.1:9").web_search("x")


@pytest.mark.parametrize(("query", "count"), [("", 5), ("x" * 401, 5), ("x", 0), ("x", 21)])
async def test_arguments_out_of_bounds_are_refused(query: str, count: int) -> None:
    with pytest.raises(SearchError, match="1 to"):
        await Search("http://127.0.0.1:9").web_search(query, count)


def test_an_address_that_is_none_is_an_error_of_the_program() -> None:
    with pytest.raises(ValueError, match="is not an http:// or https:// address"):
        Search("searx.example")


def test_the_tool_is_marked_as_what_it_is() -> None:
    (found,) = ToolRegistry(Search("http://127.0.0.1:8888"))
    assert found.name == "web_search"
    assert (found.options.read_only, found.options.untrusted) == (True, True)

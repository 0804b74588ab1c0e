"""arXiv's papers, from a server on loopback that speaks its Atom."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from loopback import Handler, Site, saying, serving
from rows import each_row

from agentcall import ToolRegistry
from agentcall_tools import papers as module
from agentcall_tools.papers import Papers, PapersError

ENTRY = """
  <entry>
    <id>http://arxiv.org/abs/1706.03762v7</id>
    <updated>2023-08-02T00:41:18Z</updated>
    <published>2017-06-12T17:57:34Z</published>
    <title>Attention Is All
      You Need</title>
    <summary>  The dominant sequence transduction models
are based on &lt;complex&gt; networks.
    </summary>
    <author><name>Ashish Vaswani</name></author>
    <author><name>Noam Shazeer</name></author>
    <arxiv:comment xmlns:arxiv="http://arxiv.org/schemas/atom">15 pages</arxiv:comment>
    <link href="http://arxiv.org/abs/1706.03762v7" rel="alternate" type="text/html"/>
    <arxiv:primary_category xmlns:arxiv="http://arxiv.org/schemas/atom" term="cs.CL"/>
  </entry>"""
MANY = "".join(f"<author><name>A{number}</name></author>" for number in range(9))


def feed(*entries: str) -> str:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">'
    return f"{head}<title>ArXiv Query</title>{''.join(entries)}</feed>"


async def asked(answer: str | bytes | Handler, id: str = "", **how: object) -> tuple[str, Site]:
    handler = saying(answer, "application/atom+xml") if isinstance(answer, (str, bytes)) else answer
    async with serving(handler) as site:
        papers = Papers(site.url("/api/query"), pause=0)
        given = {"query": "attention", **how}
        text = await (papers.read_paper(id) if id else papers.search_papers(**given))  # type: ignore[arg-type]
        return text, site


async def test_papers_are_found_with_what_tells_them_apart() -> None:
    second = ENTRY.replace("1706.03762v7", "2101.00001v1").replace("<author>", MANY + "<author>", 1)
    text, site = await asked(feed(ENTRY, second), query='all you "need it"', count=2)
    assert text == (
        "Attention Is All You Need\nAshish Vaswani, Noam Shazeer, 2017-06-12, id 1706.03762v7\n\n"
        "Attention Is All You Need\n"
        "A0, A1, A2, A3, A4, A5 and 5 others, 2017-06-12, id 2101.00001v1"
    )
    assert dict(site.requests[0].query) == {
        "search_query": 'all:all AND all:you AND all:"need it"',
        "max_results": "2",
        "sortBy": "relevance",
    }


async def test_arxivs_own_form_of_a_query_is_passed_on() -> None:
    _, site = await asked(feed(ENTRY), query="au:vaswani AND ti:attention", sort="newest")
    assert site.requests[0].query["search_query"] == "au:vaswani AND ti:attention"
    assert site.requests[0].query["sortBy"] == "submittedDate"


async def test_no_paper_is_said_so() -> None:
    assert (await asked(feed()))[0] == "no paper fits 'attention'; try fewer or other words"


@each_row(
    "id",
    ["1706.03762", "arXiv:1706.03762", "https://arxiv.org/abs/1706.03762", " 1706.03762 ",
     "http://arxiv.org/pdf/1706.03762.pdf"],
)  # fmt: skip
async def test_one_paper_is_read_by_its_id(id: str) -> None:
    text, site = await asked(feed(ENTRY), id=id)
    assert text == (
        "Attention Is All You Need\nauthors: Ashish Vaswani, Noam Shazeer\n"
        "submitted: 2017-06-12\nupdated: 2023-08-02\ncategory: cs.CL\ncomment: 15 pages\n"
        "page: http://arxiv.org/abs/1706.03762v7\n\n"
        "The dominant sequence transduction models are based on <complex> networks."
    )
    assert site.requests[0].query["id_list"] == "1706.03762"


async def test_old_ids_and_versions_are_ids_too() -> None:
    _, site = await asked(feed(ENTRY), id="hep-th/9901001v2")
    assert site.requests[0].query["id_list"] == "hep-th/9901001v2"


@each_row("id", ["attention", "1706", "../etc", "1706.03762&x=y", "12345.678901"])
async def test_what_is_no_id_is_refused_before_a_request(id: str) -> None:
    with pytest.raises(PapersError, match=r"is not an arXiv id; write it as 1706\.03762"):
        await Papers("http://127.0.0.1:9").read_paper(id)


@pytest.mark.parametrize(("query", "count"), [("", 5), ("x" * 501, 5), ("x", 0), ("x", 26)])
async def test_arguments_out_of_bounds_are_refused(query: str, count: int) -> None:
    with pytest.raises(PapersError, match="1 to"):
        await Papers("http://127.0.0.1:9").search_papers(query, count)


ERROR = "<entry><title>Error</title><summary>incorrect id format for 1</summary></entry>"
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + feed(ENTRY)


@each_row(
    ("answer", "words"),
    [
        (feed(ERROR), "refuses the query: incorrect id format"),
        (BOMB, "declares entities"),
        (BOMB.encode("utf-16"), "declares entities"),
        ("<html>", "not an Atom feed"),
        ("", "not an Atom feed"),
        (b"\xff\xfe", "not an Atom feed"),
    ],
)
async def test_each_bad_answer_has_its_words(answer: str | bytes, words: str) -> None:
    with pytest.raises(PapersError, match=words):
        await asked(answer)


async def unavailable(request: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text="slow down")


async def test_a_server_that_refuses_is_told() -> None:
    with pytest.raises(PapersError, match="HTTP 503; try again in a minute"):
        await asked(unavailable)
    with pytest.raises(PapersError, match=r"cannot be reached: could not reach 127\.0\.0\.1"):
        await Papers("http://127.0.0.1:9", pause=0).search_papers("x")


async def test_a_paper_that_is_not_there_is_told() -> None:
    with pytest.raises(PapersError, match=r"there is no paper 2501\.99999 on arXiv"):
        await asked(feed(), id="2501.99999")


async def test_requests_keep_their_distance() -> None:
    async with serving(saying(feed(ENTRY), "application/atom+xml")) as site:
        papers = Papers(site.url(), pause=0.15)
        passed: list[str] = []
        asyncio.get_running_loop().call_later(0.29, passed.append, "nearly two pauses")
        for _ in range(3):
            await papers.search_papers("x")
        assert passed == ["nearly two pauses"]


async def test_the_environment_may_name_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(saying(feed(ENTRY), "application/atom+xml")) as site:
        monkeypatch.setenv("AGENTCALL_ARXIV_URL", site.url("/mirror"))
        assert "Attention" in await Papers(pause=0).search_papers("x")
        assert site.requests[0].path == "/mirror"


def test_the_tools_are_marked_as_what_they_are() -> None:
    registry = ToolRegistry(module)
    assert registry.names == ("search_papers", "read_paper")
    for found in registry:
        assert (found.options.read_only, found.options.untrusted, found.options.idempotent) == (
            True,
        ) * 3

"""Web search with the user's search engine: SearXNG, or any site with a page of results.

SearXNG's API: https://docs.searxng.org/dev/search_api.html. Its `formats` must include json.
"""

import json
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ValidationError

from agentcall import tool
from agentcall_tools.fetch.response_text import extract_readable
from agentcall_tools.fetch.url import FetchError
from agentcall_tools.http_download import (
    DownloadedResponse,
    DownloadLimits,
    HTTPDownloadError,
    download,
)
from agentcall_tools.visible_text import remove_invisible

MAX_RESULTS = 20
_DOWNLOAD_LIMITS = DownloadLimits(20.0, 2_000_000)
_MAX_QUERY_LENGTH = 400
_MAX_SHOWN = 10_000


class SearchError(ValueError):
    """The search failed; the message says why and what to try."""


class _SearchResult(BaseModel):
    title: str = ""
    url: str = ""
    content: str | None = ""
    publishedDate: str | None = None  # noqa: N815 - SearXNG's name

    def format_lines(self, number: int) -> str:
        """Format the result in a few lines."""
        day = f" ({self.publishedDate[:10]})" if self.publishedDate else ""
        extract = " ".join((self.content or "").split())[:500]
        lines = [f"{number}. {self.title[:200]}{day}", self.url[:500], extract]
        return remove_invisible("\n".join(filter(None, lines)))


class _SearchResults(BaseModel):
    results: list[_SearchResult]
    answers: list[object] = []


class Search:
    """The tool `web_search` with a search engine: `Agent(tools=[Search(url)])`.

    url: a SearXNG server, "http://127.0.0.1:8888"; or the address of any search with {query} in
        it, "https://search.example/?q={query}", whose page or JSON is returned as text.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not an http:// or https:// address of a search engine")
        self._url = url

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=60)
    async def web_search(self, query: str, count: int = 5) -> str:
        """Searches the web and returns titles, addresses and extracts of pages.

        Args:
            query: What to look for, in a few words.
            count: How many results, 1 to 20.
        """
        if not query.strip() or len(query) > _MAX_QUERY_LENGTH:
            raise SearchError(f"query has 1 to {_MAX_QUERY_LENGTH} characters, got {len(query)}")
        if not 1 <= count <= MAX_RESULTS:
            raise SearchError(f"count is 1 to {MAX_RESULTS}, got {count}")
        if "{query}" in self._url:
            return _format_page(
                await _send_request(self._url.replace("{query}", quote(query, safe="")))
            )
        parameters = urlencode({"q": query, "format": "json"})
        return _format_results(
            await _send_request(f"{self._url.rstrip('/')}/search?{parameters}"), query, count
        )


async def _send_request(url: str) -> DownloadedResponse:
    host = url.split("/", 3)[2]
    try:
        answer = await download(url, _DOWNLOAD_LIMITS)
    except HTTPDownloadError as error:
        raise SearchError(f"the search engine cannot be reached: {error}") from None
    if answer.status == 403:
        raise SearchError(
            f"{host} answered HTTP 403; a SearXNG needs json among the formats in its settings"
        )
    if answer.status == 429:
        raise SearchError(f"{host} allows no more searches now (HTTP 429); wait a minute")
    if answer.status != 200:
        raise SearchError(f"{host} answered HTTP {answer.status}; try again later")
    return answer


def _format_results(answer: DownloadedResponse, query: str, count: int) -> str:
    try:
        body = _SearchResults.model_validate_json(answer.body)
    except ValidationError:
        raise SearchError("the search engine's response is not SearXNG's") from None
    lines = [result.format_lines(number) for number, result in enumerate(body.results[:count], 1)]
    answers = [remove_invisible(f"answer: {json.dumps(item)[:500]}") for item in body.answers[:2]]
    return "\n\n".join([*answers, *lines]) or f"nothing found for {query!r}; try other words"


def _format_page(answer: DownloadedResponse) -> str:
    try:
        return extract_readable(answer, "the search engine's answer").text[:_MAX_SHOWN]
    except FetchError as error:
        raise SearchError(str(error)) from None

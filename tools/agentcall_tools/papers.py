"""Papers of arXiv, over its API: https://info.arxiv.org/help/api/user-manual.html.

Rules: arXiv allows one request every three seconds, so a `Papers` waits between requests. Responses
are Atom feeds. One that declares entities is refused: no feed needs them, and XML bombs do.
"""

import asyncio
import os
import re
import time
from typing import Literal
from xml.etree import ElementTree

from agentcall import tool
from agentcall_tools.http_download import DownloadLimits, HTTPDownloadError, download
from agentcall_tools.visible_text import remove_invisible

ARXIV_URL = "https://export.arxiv.org/api/query"
MAX_PAPERS = 25
PAUSE_SECONDS = 3.0
_DOWNLOAD_LIMITS = DownloadLimits(20.0, 2_000_000)
_ATOM = "{http://www.w3.org/2005/Atom}"
_ARXIV = "{http://arxiv.org/schemas/atom}"
_ID_PATTERN = re.compile(
    r"(?:https?://arxiv\.org/(?:abs|pdf)/|arxiv:)?([a-z.-]+/\d{7}|\d{4}\.\d{4,5})(v\d+)?", re.I
)
_FIELD_PATTERN = re.compile(
    r"\b(?:ti|au|abs|co|jr|cat|rn|all|submittedDate):|\b(?:AND|OR|ANDNOT)\b"
)
_MAX_AUTHORS = 6


class PapersError(ValueError):
    """The papers cannot be read; the message says why and what to try."""


class Papers:
    """The papers of arXiv as tools: `Agent(tools=[Papers()])`.

    url: the address of the API; by default AGENTCALL_ARXIV_URL, or else the public one.
    pause: seconds between two requests, as arXiv requires.
    """

    def __init__(self, url: str = "", *, pause: float = PAUSE_SECONDS) -> None:
        self._url = url
        self._pause = pause
        self._next_request = 0.0

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=60)
    async def search_papers(
        self,
        query: str,
        count: int = 5,
        sort: Literal["relevance", "newest"] = "relevance",
    ) -> str:
        """Searches arXiv for papers and returns their titles, authors, dates and ids.

        Args:
            query: Words, all of which are looked for, or arXiv's own form: "ti:transformer AND
                au:vaswani", "cat:cs.CL".
            count: How many papers, 1 to 25.
            sort: relevance, or newest first.
        """
        if not query.strip() or len(query) > 500:
            raise PapersError(f"query has 1 to 500 characters, got {len(query)}")
        if not 1 <= count <= MAX_PAPERS:
            raise PapersError(f"count is 1 to {MAX_PAPERS}, got {count}")
        order = "submittedDate" if sort == "newest" else "relevance"
        feed = await self._send_request(
            {"search_query": _build_query(query), "max_results": str(count), "sortBy": order}
        )
        entries = feed.findall(f"{_ATOM}entry")
        if not entries:
            return f"no paper fits {query!r}; try fewer or other words"
        return "\n\n".join(_format_summary(entry) for entry in entries[:MAX_PAPERS])

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=60)
    async def read_paper(self, id: str) -> str:  # noqa: A002 - what arXiv calls it
        """Returns the abstract and the details of one paper of arXiv.

        Args:
            id: Its id, for example "1706.03762", "hep-th/9901001" or its address on arxiv.org.
        """
        match = _ID_PATTERN.fullmatch(id.strip().removesuffix(".pdf"))
        if not match:
            raise PapersError(f"{id[:80]!r} is not an arXiv id; write it as 1706.03762")
        number = "".join(filter(None, match.groups()))
        entry = (await self._send_request({"id_list": number})).find(f"{_ATOM}entry")
        if entry is None or entry.find(f"{_ATOM}title") is None:
            raise PapersError(f"there is no paper {number} on arXiv; look for it by its title")
        return _format_details(entry)

    async def _send_request(self, query: dict[str, str]) -> ElementTree.Element:
        url = self._url or os.environ.get("AGENTCALL_ARXIV_URL", ARXIV_URL)
        wait, self._next_request = _reserve_turn(self._next_request, self._pause)
        await asyncio.sleep(wait)
        try:
            answer = await download(url, _DOWNLOAD_LIMITS, query=query)
        except HTTPDownloadError as error:
            raise PapersError(f"arXiv cannot be reached: {error}") from None
        if answer.status not in (200, 400):  # 400 has a reason in its feed
            raise PapersError(f"arXiv answered HTTP {answer.status}; try again in a minute")
        return _parse_feed(answer.body)


def _reserve_turn(free: float, pause: float) -> tuple[float, float]:
    """Return the seconds to wait for a turn, and the time of the next one."""
    now = time.monotonic()
    turn = max(now, free)
    return turn - now, turn + pause


def _build_query(text: str) -> str:
    """Return a query for all of the words; a query in arXiv's syntax is unchanged."""
    if _FIELD_PATTERN.search(text):
        return text
    return " AND ".join(f"all:{word}" for word in re.findall(r'"[^"]+"|[^\s"]+', text))


def _parse_feed(body: bytes) -> ElementTree.Element:
    if b"\0" in body or b"<!" in body.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise PapersError("arXiv's response declares entities, which is refused")
    try:
        feed = ElementTree.fromstring(body)  # noqa: S314 - without entities it cannot grow
    except ElementTree.ParseError as error:
        raise PapersError(
            f"arXiv's response is not an Atom feed ({error}); try again later"
        ) from None
    entry = feed.find(f"{_ATOM}entry")
    if entry is not None and _read_text(entry, "title") == "Error":
        raise PapersError(f"arXiv refuses the query: {_read_text(entry, 'summary')[:300]}")
    return feed


def _read_text(entry: ElementTree.Element, name: str, space: str = _ATOM) -> str:
    return remove_invisible(" ".join((entry.findtext(f"{space}{name}") or "").split()))


def _read_paper_id(entry: ElementTree.Element) -> str:
    return _read_text(entry, "id").rpartition("/abs/")[2]


def _format_authors(entry: ElementTree.Element) -> str:
    names = [_read_text(author, "name") for author in entry.findall(f"{_ATOM}author")]
    more = len(names) - _MAX_AUTHORS
    return ", ".join(names[:_MAX_AUTHORS]) + (f" and {more} others" if more > 0 else "")


def _format_summary(entry: ElementTree.Element) -> str:
    day = _read_text(entry, "published")[:10]
    return (
        f"{_read_text(entry, 'title')[:300]}\n{_format_authors(entry)}, {day}, id "
        f"{_read_paper_id(entry)}"
    )


def _format_details(entry: ElementTree.Element) -> str:
    category = entry.find(f"{_ARXIV}primary_category")
    details = {
        "authors": _format_authors(entry),
        "submitted": _read_text(entry, "published")[:10],
        "updated": _read_text(entry, "updated")[:10],
        "category": category.get("term", "") if category is not None else "",
        "comment": _read_text(entry, "comment", _ARXIV)[:500],
        "journal": _read_text(entry, "journal_ref", _ARXIV)[:300],
        "doi": _read_text(entry, "doi", _ARXIV)[:200],
        "page": _read_text(entry, "id"),
    }
    lines = [f"{name}: {value}" for name, value in details.items() if value]
    return "\n".join(
        [_read_text(entry, "title")[:500], *lines, "", _read_text(entry, "summary")[:6_000]]
    )


_papers = Papers()
search_papers = _papers.search_papers
read_paper = _papers.read_paper

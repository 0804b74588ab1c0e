"""The tool that fetches a public web page."""

import asyncio
import socket
from collections.abc import Sequence

from agentcall import tool
from agentcall_tools.fetch.guard import (
    AddressLookup,
    AllowedHost,
    FetchGuard,
    look_up_addresses,
    parse_allowed_host,
)
from agentcall_tools.fetch.response_text import ReadableText, extract_readable
from agentcall_tools.fetch.url import FetchError, FetchURL, parse_url
from agentcall_tools.http_download import DownloadedResponse, DownloadLimits, download

MAX_REDIRECTS = 5
MAX_SHOWN = 10_000
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


class Fetch:
    """The `fetch` tool with other settings: `Agent(tools=[Fetch(only=["*.wikipedia.org"])])`.

    allow: hosts, addresses and networks that may be fetched although they are not public:
        "wiki.corp.example", "*.corp.example", "10.1.0.0/16", "127.0.0.1:8000". A string separates
        them by commas.
    only: if given, nothing else may be fetched.
    limits: the time limit of a fetch, redirects included, and the largest body.
    lookup: returns the addresses of a host name; by default the system's resolver.
    """

    def __init__(
        self,
        allow: str | Sequence[str] = (),
        *,
        only: str | Sequence[str] = (),
        limits: DownloadLimits | None = None,
        lookup: AddressLookup = look_up_addresses,
    ) -> None:
        self._limits = limits or DownloadLimits()
        self._guard = FetchGuard(_parse_allowed_hosts(allow), _parse_allowed_hosts(only), lookup)
        egress = False if only else ("url",)  # with `only` the developer has chosen the hosts
        self.fetch = tool(timeout=self._limits.seconds + 10, egress=egress)(self.fetch)

    @tool(idempotent=True, read_only=True, untrusted=True, egress=("url",), timeout=30)
    async def fetch(self, url: str, start: int = 0) -> str:
        """Fetches a web page or a JSON or text file and returns it as readable text.

        Args:
            url: The whole address, for example "https://example.com/page".
            start: The character to go on from, where an earlier answer said there is more.
        """
        if start < 0:
            raise FetchError(f"start is a character's number from 0, got {start}")
        try:
            page = await asyncio.wait_for(self._follow_redirects(url), self._limits.seconds)
        except asyncio.TimeoutError:
            raise FetchError(
                f"{url[:200]} did not answer within {self._limits.seconds:g} seconds"
            ) from None
        return page.format_part(start)

    async def _follow_redirects(self, url: str) -> "_FetchedPage":
        link = parse_url(url)
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await self._guard.resolve_addresses(link)
            answer = await download(str(link), self._limits, addresses=addresses)
            target = answer.headers.get("Location", "")
            if answer.status not in _REDIRECT_STATUSES or not target:
                return await _read_answer(link, answer)
            link = _resolve_redirect(link, target)
        raise FetchError(f"{url[:200]} redirects more than {MAX_REDIRECTS} times; last to {link}")


class _FetchedPage:
    def __init__(self, link: FetchURL, answer: DownloadedResponse, content: ReadableText) -> None:
        self._link = link
        self._answer = answer
        self._content = content

    def format_part(self, start: int) -> str:
        """Return a part of the text, after the title and the address."""
        title, text = self._content.title, self._content.text
        if start and start >= len(text):
            raise FetchError(f"{self._link} has {len(text)} characters; start={start} is beyond")
        end = min(start + MAX_SHOWN, len(text))
        notes = [] if self._answer.is_complete else ["the rest of it is too long and was not read"]
        if end < len(text):
            notes.append(f"call fetch with start={end} for more")
        if notes or start:
            notes.insert(0, f"characters {start} to {end} of {len(text)}")
        head = "\n".join(filter(None, (title, str(self._link))))
        tail = f"\n\n[{'; '.join(notes)}]" if notes else ""
        return f"{head}\n\n{text[start:end] or '(no text)'}{tail}"


async def _read_answer(link: FetchURL, answer: DownloadedResponse) -> _FetchedPage:
    if answer.status >= 400:
        raise FetchError(f"{link} answered HTTP {answer.status}; {_advise(answer.status)}")
    # In a thread, so that a long page does not delay the other runs of this event loop.
    return _FetchedPage(link, answer, await asyncio.to_thread(extract_readable, answer, str(link)))


def _advise(status: int) -> str:
    if status in (404, 410):
        return "there is no such page, check the address"
    if status in (401, 403, 451):
        return "the page is not open to everybody, try another source"
    return "try again later" if status in (408, 425, 429) or status >= 500 else "try another page"


def _resolve_redirect(link: FetchURL, target: str) -> FetchURL:
    try:
        return link.join(target)
    except FetchError as error:
        raise FetchError(f"{link} redirects to an address that is not fetched: {error}") from None


def _parse_allowed_hosts(texts: str | Sequence[str]) -> tuple[AllowedHost, ...]:
    items = texts.split(",") if isinstance(texts, str) else texts
    return tuple(parse_allowed_host(item.strip()) for item in items)


def is_allowed(
    url: str, *, allow: str | Sequence[str] = (), only: str | Sequence[str] = ()
) -> bool:
    """Return whether `fetch` may fetch this URL; `allow` and `only` as in `Fetch`.

    A name is looked up, and all of its addresses must be allowed. A name without an address is
    judged by its spelling. The result may change with DNS: only `fetch` itself connects to the
    addresses that it has checked.

    >>> is_allowed("https://93.184.215.14/"), is_allowed("http://127.0.0.1/")
    (True, False)
    """
    guard = FetchGuard(_parse_allowed_hosts(allow), _parse_allowed_hosts(only))
    try:
        link = parse_url(url)
        guard.check(link)
        if link.address is None:
            guard.check_addresses(link, _look_up(link.host))
    except FetchError:
        return False
    return True


def _look_up(name: str) -> Sequence[str]:
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return [str(info[4][0]) for info in infos]


fetch = Fetch().fetch

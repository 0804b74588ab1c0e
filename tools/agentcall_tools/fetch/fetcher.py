"""Fetches a page of the web, and nothing that is not of the web."""

import asyncio
import socket
from collections.abc import Sequence

from agentcall import tool
from agentcall_tools.download import Answer, Bounds, download
from agentcall_tools.fetch.guard import Guard, Lookup, Place, read_place, system_lookup
from agentcall_tools.fetch.link import FetchError, Link, read_link
from agentcall_tools.fetch.text import Readable, readable

MOST_HOPS = 5
SHOWN = 10_000
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Fetch:
    """The `fetch` tool with other bounds: `Agent(tools=[Fetch(only=["*.wikipedia.org"])])`.

    allow: hosts, addresses and networks that are fetched from although they are not of the public
        internet: "wiki.corp.example", "*.corp.example", "10.1.0.0/16", "127.0.0.1:8000"; a text
        has commas between them.
    only: where given, nothing else is fetched.
    bounds: seconds for all of a fetch, redirects included, and bytes of a body.
    lookup: how a name becomes addresses; by default the system's way.
    """

    def __init__(
        self,
        allow: str | Sequence[str] = (),
        *,
        only: str | Sequence[str] = (),
        bounds: Bounds | None = None,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._bounds = bounds or Bounds()
        self._guard = Guard(_places(allow), _places(only), lookup)
        egress = False if only else ("url",)  # with `only` it is the developer who chose the hosts
        self.fetch = tool(timeout=self._bounds.seconds + 10, egress=egress)(self.fetch)

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
            found = await asyncio.wait_for(self._read(url), self._bounds.seconds)
        except asyncio.TimeoutError:
            raise FetchError(
                f"{url[:200]} did not answer within {self._bounds.seconds:g} seconds"
            ) from None
        return found.shown(start)

    async def _read(self, url: str) -> "_Found":
        link = read_link(url)
        for _ in range(MOST_HOPS + 1):
            addresses = await self._guard.addresses(link)
            answer = await download(str(link), self._bounds, addresses=addresses)
            target = answer.headers.get("Location", "")
            if answer.status not in _REDIRECTS or not target:
                return await _found(link, answer)
            link = _redirected(link, target)
        raise FetchError(f"{url[:200]} redirects more than {MOST_HOPS} times; last to {link}")


class _Found:
    def __init__(self, link: Link, answer: Answer, content: Readable) -> None:
        self._link = link
        self._answer = answer
        self._content = content

    def shown(self, start: int) -> str:
        """A part of the text, below the title and the address."""
        title, text = self._content.title, self._content.text
        if start and start >= len(text):
            raise FetchError(f"{self._link} has {len(text)} characters; start={start} is beyond")
        end = min(start + SHOWN, len(text))
        notes = [] if self._answer.is_whole else ["the rest of it is too long and was not read"]
        if end < len(text):
            notes.append(f"call fetch with start={end} for more")
        if notes or start:
            notes.insert(0, f"characters {start} to {end} of {len(text)}")
        head = "\n".join(filter(None, (title, str(self._link))))
        tail = f"\n\n[{'; '.join(notes)}]" if notes else ""
        return f"{head}\n\n{text[start:end] or '(no text)'}{tail}"


async def _found(link: Link, answer: Answer) -> _Found:
    if answer.status >= 400:
        raise FetchError(f"{link} answered HTTP {answer.status}; {_advice(answer.status)}")
    # In a thread, as the other runs of this event loop need not wait for a long page.
    return _Found(link, answer, await asyncio.to_thread(readable, answer, str(link)))


def _advice(status: int) -> str:
    if status in (404, 410):
        return "there is no such page, check the address"
    if status in (401, 403, 451):
        return "the page is not open to everybody, try another source"
    return "try again later" if status in (408, 425, 429) or status >= 500 else "try another page"


def _redirected(link: Link, target: str) -> Link:
    try:
        return link.joined(target)
    except FetchError as error:
        raise FetchError(f"{link} redirects to where nothing is fetched: {error}") from None


def _places(texts: str | Sequence[str]) -> tuple[Place, ...]:
    each = texts.split(",") if isinstance(texts, str) else texts
    return tuple(read_place(text.strip()) for text in each)


def is_allowed(
    url: str, *, allow: str | Sequence[str] = (), only: str | Sequence[str] = ()
) -> bool:
    """Whether `fetch` may ask this URL; `allow` and `only` as in `Fetch`.

    A name is looked up, and each of its addresses has to be allowed; one that has no address now
    is judged by its spelling. The answer holds for now: only `fetch` itself connects to the very
    addresses that it checked.

    >>> is_allowed("https://93.184.215.14/"), is_allowed("http://127.0.0.1/")
    (True, False)
    """
    guard = Guard(_places(allow), _places(only))
    try:
        link = read_link(url)
        guard.check(link)
        if link.address is None:
            guard.check_found(link, _looked_up(link.host))
    except FetchError:
        return False
    return True


def _looked_up(name: str) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return [str(info[4][0]) for info in found]


fetch = Fetch().fetch

"""A model on any OpenAI-compatible server, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import ClientResponse

from agentcall.dialects.protocol import Dialect
from agentcall.errors import ContextOverflow, ModelRefused, ModelUnreachable
from agentcall.models.body import BodyWriter
from agentcall.models.endpoint import Endpoint, decoded
from agentcall.models.hearing import Hearing
from agentcall.models.probe import Choice, choose, without_tools
from agentcall.models.protocol import Answer, Chosen, Request, Settings
from agentcall.models.sse import EventReader

PATH = "/chat/completions"


class HTTPChat:
    """A model on an OpenAI-compatible server.

    endpoint: the server, or its base URL, which usually ends in `/v1`.
    model: the model's name there; a name's last part will do; None takes the first it serves.
    dialect: how tools are offered and calls are read; "auto" asks the server once.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        model: str | None = None,
        *,
        dialect: Dialect | str = "auto",
        settings: Settings | None = None,
    ) -> None:
        self.endpoint = endpoint if isinstance(endpoint, Endpoint) else Endpoint(endpoint)
        self.model = model
        self.dialect = dialect
        self._bodies = BodyWriter(settings or Settings())
        self._choice: Choice | None = None

    async def ask(self, request: Request) -> AsyncIterator[Answer]:
        """The parts of one answer. Raises ModelError."""
        choice = await self.choice()
        try:
            async for part in self._answered(choice, request):
                yield part
        except ModelRefused as refused:
            if not _tools_are_refused(refused, choice, request):
                raise
            self._choice = without_tools(choice, refused.body)
            async for part in self._answered(self._choice, request):
                yield part

    async def choice(self) -> Choice:
        """The model's full name, the dialect and why; asked of the server once."""
        if self._choice is None:
            self._choice = await choose(self.endpoint, self.model, self.dialect)
        return self._choice

    async def _answered(self, choice: Choice, request: Request) -> AsyncIterator[Answer]:
        yield Chosen(choice.dialect.name, choice.reason)
        body = self._bodies.body(choice.model, choice.dialect, request)
        hearing = Hearing(choice.dialect.reader(request.offer), len(body))
        if request.stream and choice.streams:
            async for part in self._streamed(body, hearing):
                yield part
        else:
            for part in hearing.whole(await self.endpoint.post(PATH, body)):
                yield part

    async def _streamed(self, body: bytes, hearing: Hearing) -> AsyncIterator[Answer]:
        response = await self.endpoint.stream(PATH, body)
        async with response:
            if "json" in response.content_type:
                data = b"".join([data async for data in self.endpoint.chunks(response)])
                for part in hearing.whole(decoded(data, self.endpoint.place)):
                    yield part
                return
            async for event in self._events(response):
                for part in hearing.event(event):
                    yield part
            for part in hearing.end():
                yield part

    async def _events(self, response: ClientResponse) -> AsyncIterator[bytes]:
        """The events of a stream; one that breaks just ends, without the end of an answer."""
        events = EventReader()
        try:
            async for data in self.endpoint.chunks(response):
                for event in events.feed(data):
                    yield event
        except ModelUnreachable:
            return
        for event in events.close():
            yield event

    def __repr__(self) -> str:
        return f"HTTPChat({self.endpoint.place!r}, {self.model!r})"


def _tools_are_refused(refused: ModelRefused, choice: Choice, request: Request) -> bool:
    """Whether a server said no because of the tools field, and another dialect would do."""
    if isinstance(refused, ContextOverflow):
        return False
    offered = bool(request.offer.tools) and choice.dialect.name == "native"
    return offered and refused.status in (400, 422, 501) and "tool" in refused.body.lower()

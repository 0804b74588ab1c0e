"""`ScriptedModel`: plays the replies of a `FakeServer` without a server, for tests and docs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import orjson

from agentcall.dialects.dialect import Dialect
from agentcall.dialects.native import NativeDialect
from agentcall.errors import BadAnswer, CutAnswer, ModelUnreachable, UsageError
from agentcall.messages import JSON
from agentcall.models.capabilities import DialectChoice
from agentcall.models.chat_completions import ChatClient, ChatTransport
from agentcall.models.errors import parse_error_response, parse_retry_after
from agentcall.models.model import ModelRequest, ResponseEvent
from agentcall.testing.raw_http import FakeResponse, RecordedRequest
from agentcall.testing.replies import (
    Reply,
    ReplyFunction,
    Script,
    expand_script,
    require_replies,
)


class ScriptedModel:
    """A model that plays a script: `Agent(ScriptedModel([call("add", a=2, b=3), say("5")]))`.

    `script` and `brain`, replies, faults and `requests` are those of `FakeServer`. Replies are read
    like the answers of a server, but failed requests are not repeated.

    Raises:
        UsageError: the script is invalid, a script and a brain are given, or a request comes after
            the last reply.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        brain: ReplyFunction | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        if brain is not None and script:
            raise UsageError("ScriptedModel got a script and a brain; give it one of them")
        self.dialect: Dialect = dialect or NativeDialect()
        self._transport = _ScriptTransport(
            script if callable(script) else expand_script(require_replies(script)), brain
        )
        self.chat_client = ChatClient(self._transport, self._choose_dialect, None)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, in order of arrival."""
        return list(self._transport.requests)

    def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of the next reply. Raises ModelError if the reply is a fault."""
        return self.chat_client.ask(request)

    async def _choose_dialect(self, _transport: ChatTransport) -> DialectChoice:
        return DialectChoice("scripted", self.dialect, "the model is scripted")


@dataclass(slots=True)
class _ScriptTransport:
    """A `ChatTransport` that answers with the replies of a script."""

    script: Iterator[Reply] | Callable[[RecordedRequest], Reply]
    brain: ReplyFunction | None
    requests: list[RecordedRequest] = field(default_factory=list[RecordedRequest])
    secrets: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def configure(self, headers: Mapping[str, str], timeout: float | None) -> _ScriptTransport:
        """Record these headers with the requests; a script has no timeout."""
        return replace(self, headers={**self.headers, **headers})

    async def post(self, body: bytes) -> JSON:
        """Return the next reply as JSON."""
        response = await self._begin_response(body)
        if response.stop is not None:
            raise ModelUnreachable("the scripted model broke the connection")
        data = b"".join(_iter_pieces(response))
        try:
            answer: JSON = orjson.loads(data)
        except ValueError:
            text = data.decode("utf-8", "replace")
            raise BadAnswer(f"the scripted model did not answer with JSON: {text:.300}") from None
        return answer

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of the next reply."""
        response = await self._begin_response(body)
        for piece in _iter_pieces(response):
            yield piece
            await asyncio.sleep(response.delay)
        if response.stop is not None:
            raise CutAnswer("the scripted model broke the connection")

    async def _begin_response(self, body: bytes) -> FakeResponse:
        """Return the next reply. Raises ModelError if it is an error or a broken connection."""
        number = len(self.requests) + 1
        fields = orjson.loads(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = RecordedRequest("POST", "/v1/chat/completions", headers, body, fields, number)
        self.requests.append(request)
        response = self._next_reply(request).answer(request)
        await asyncio.sleep(response.latency)
        if response.stop is not None and response.stop.how == "hang":
            await asyncio.Event().wait()
        if response.stop is not None and response.stop.after is None:
            raise ModelUnreachable("the scripted model broke the connection")
        if response.status >= 400:
            headers = {name.lower(): value for name, value in response.headers.items()}
            raise parse_error_response(
                response.status,
                b"".join(_iter_pieces(response)),
                retry_after=parse_retry_after(headers.get("retry-after")),
            )
        return response

    def _next_reply(self, request: RecordedRequest) -> Reply:
        if self.brain is not None:
            return self.brain(request.messages, request.tools)
        if callable(self.script):
            return self.script(request)
        reply = next(self.script, None)
        if reply is None:
            raise UsageError(
                f"the script is over: request {request.number} came after its last reply; "
                "add replies, or end it with forever(...)"
            )
        return reply


def _iter_pieces(response: FakeResponse) -> Iterator[bytes]:
    return replace(response, head=b"").iter_frames()  # with a given head, the body is not framed

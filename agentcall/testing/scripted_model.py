"""`ScriptedModel`: plays the replies of a `FakeServer` without a server, for tests and for docs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import orjson

from agentcall.dialects.base import Dialect
from agentcall.dialects.native import NativeDialect
from agentcall.errors import BadAnswer, CutAnswer, ModelRefused, ModelUnreachable, UsageError
from agentcall.messages import JSON
from agentcall.models.base import ModelRequest as Asked
from agentcall.models.base import ResponseEvent as Heard
from agentcall.models.capabilities import DialectChoice
from agentcall.models.chat_completions import ChatClient
from agentcall.models.errors import parse_error_response, parse_retry_after
from agentcall.testing.http import FakeResponse, RecordedRequest
from agentcall.testing.replies import Reply, ReplyFunction, Script, expand_script


class ScriptedModel:
    """A model that says what its script says: `Agent(ScriptedModel([call("add", a=2), say("5")]))`.

    Script and brain are those of `FakeServer`, and so are the replies, the faults, and `requests`.
    What it says is read as what comes from a server; but nothing that failed is asked again.

    Raises:
        UsageError: a script that is no script; a script and a brain; and, when asked, a script
            that is over.
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
            script if callable(script) else _expand_script(script), brain
        )
        self._dialogue = ChatClient(self._transport, self._choose_dialect, None)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, in the order they came."""
        return list(self._transport.requests)

    def ask(self, request: Asked) -> AsyncIterator[Heard]:
        """The parts of the next reply. Raises ModelError where it is a fault."""
        return self._dialogue.ask(request)

    async def _choose_dialect(self) -> DialectChoice:
        return DialectChoice("scripted", self.dialect, "a script says the words")


def _expand_script(script: Sequence[object]) -> Iterator[Reply]:
    replies = [reply for reply in script if isinstance(reply, Reply)]
    if wrong := [reply for reply in script if not isinstance(reply, Reply)]:
        raise UsageError(f"{wrong[0]!r} is no reply; a text is one as say({wrong[0]!r})")
    return expand_script(replies)


@dataclass(slots=True)
class _ScriptTransport:
    """Carries the replies of a script where a model expects a server."""

    script: Iterator[Reply] | Callable[[RecordedRequest], Reply]
    brain: ReplyFunction | None
    requests: list[RecordedRequest] = field(default_factory=list[RecordedRequest])
    secrets: tuple[str, ...] = ()

    async def post(self, body: bytes) -> JSON:
        """The next reply, whole."""
        answer = await self._begin_response(body)
        if answer.stop is not None:
            raise ModelUnreachable("the scripted model broke the connection off")
        data = b"".join(_iter_pieces(answer))
        try:
            whole: JSON = orjson.loads(data)
        except ValueError:
            text = data.decode("utf-8", "replace")
            raise BadAnswer(f"the scripted model did not answer with JSON: {text:.300}") from None
        return whole

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """The next reply, piece by piece."""
        answer = await self._begin_response(body)
        for piece in _iter_pieces(answer):
            yield piece
            await asyncio.sleep(answer.delay)
        if answer.stop is not None:
            raise CutAnswer("the scripted model broke the connection off")

    async def _begin_response(self, body: bytes) -> FakeResponse:
        """The next reply. Raises ModelError where it is none."""
        number = len(self.requests) + 1
        asked = RecordedRequest(
            "POST", "/v1/chat/completions", {}, body, orjson.loads(body), number
        )
        self.requests.append(asked)
        answer = self._next_reply(asked).answer(asked)
        await asyncio.sleep(answer.latency)
        if answer.stop is not None and answer.stop.how == "hang":
            await asyncio.Event().wait()
        if answer.stop is not None and answer.stop.after is None:
            raise ModelUnreachable("the scripted model broke the connection off")
        if answer.status >= 400:
            raise _make_refusal(answer)
        return answer

    def _next_reply(self, asked: RecordedRequest) -> Reply:
        if self.brain is not None:
            return self.brain(asked.messages, asked.tools)
        if callable(self.script):
            return self.script(asked)
        reply = next(self.script, None)
        if reply is None:
            raise UsageError(
                f"the script is over: request {asked.number} came after its last reply; "
                "add replies, or end it with forever(...)"
            )
        return reply


def _iter_pieces(answer: FakeResponse) -> Iterator[bytes]:
    return replace(answer, head=b"").iter_frames()  # with a head of its own, a body is not framed


def _make_refusal(answer: FakeResponse) -> ModelRefused:
    data = b"".join(_iter_pieces(answer))
    headers = {name.lower(): value for name, value in answer.headers.items()}
    try:
        body: JSON = orjson.loads(data)
    except ValueError:
        body = data.decode("utf-8", "replace")
    wait = parse_retry_after(headers.get("retry-after"))
    return parse_error_response(answer.status, body, retry_after=wait)

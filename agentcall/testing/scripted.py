"""`ScriptedModel`: plays the replies of a `FakeServer` without a server, for tests and for docs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace

import orjson

from agentcall.dialects.native import Native
from agentcall.dialects.protocol import Dialect
from agentcall.errors import BadAnswer, ModelUnreachable, UsageError
from agentcall.messages import JSON
from agentcall.models.body import BodyWriter
from agentcall.models.hearing import Hearing
from agentcall.models.protocol import Answer as Heard
from agentcall.models.protocol import Request as Asked
from agentcall.models.protocol import Settings
from agentcall.models.refusal import refusal, retry_after_of
from agentcall.models.sse import EventReader
from agentcall.testing.script import Brain, Reply, Script, lines
from agentcall.testing.wire import Answer, Request


class ScriptedModel:
    """A model that says what its script says: `Agent(ScriptedModel([call("add", a=2), say("5")]))`.

    Script and brain are those of `FakeServer`, and so are the replies and `requests`; faults too:
    a status is raised at once, an answer that breaks off ends without its end. What goes over no
    wire is left out: nothing is asked again, and there is one model.

    Raises:
        UsageError: a script that is no script; a script and a brain; when asked, a script that is
            over.
    """

    def __init__(
        self, script: Script = (), *, brain: Brain | None = None, dialect: Dialect | None = None
    ) -> None:
        if brain is not None and script:
            raise UsageError("ScriptedModel got a script and a brain; give it one of them")
        self.dialect: Dialect = dialect or Native()
        self.requests: list[Request] = []
        self._script = script if callable(script) else _checked(script)
        self._brain = brain
        self._bodies = BodyWriter(Settings())

    async def ask(self, request: Asked) -> AsyncIterator[Heard]:
        """The parts of the next reply. Raises ModelError where it is a fault."""
        raw = self._bodies.body("scripted", self.dialect, request)
        number = len(self.requests) + 1
        asked = Request("POST", "/v1/chat/completions", {}, raw, orjson.loads(raw), number)
        self.requests.append(asked)
        hearing = Hearing(self.dialect.reader(request.offer), len(raw))
        async for part in _heard(self._reply(asked).answer(asked), hearing):
            yield part

    def _reply(self, asked: Request) -> Reply:
        if self._brain is not None:
            return self._brain(asked.messages, asked.tools)
        if callable(self._script):
            return self._script(asked)
        reply = next(self._script, None)
        if reply is None:
            raise UsageError(
                f"the script is over: request {asked.number} came after its last reply; "
                "add replies, or end it with forever(...)"
            )
        return reply


def _checked(script: Sequence[object]) -> Iterator[Reply]:
    replies = [reply for reply in script if isinstance(reply, Reply)]
    if wrong := [reply for reply in script if not isinstance(reply, Reply)]:
        raise UsageError(f"{wrong[0]!r} is no reply; a text is one as say({wrong[0]!r})")
    return lines(replies)


async def _heard(answer: Answer, hearing: Hearing) -> AsyncIterator[Heard]:
    """The parts that come out of an answer. Raises ModelError."""
    await asyncio.sleep(answer.latency)
    stop = answer.stop
    if stop is not None and stop.how == "hang" and stop.after is None:
        await asyncio.Event().wait()
    if stop is not None and stop.after is None:
        raise ModelUnreachable("the scripted model closed the connection")
    pieces = replace(answer, head=b"").frames()  # with a head of its own a body is not framed
    if answer.events and answer.status < 400:
        async for part in _streamed(pieces, answer, hearing):
            yield part
    else:
        for part in hearing.whole(_body(b"".join(pieces), answer)):
            yield part


async def _streamed(
    pieces: Iterable[bytes], answer: Answer, hearing: Hearing
) -> AsyncIterator[Heard]:
    reader = EventReader()
    for piece in pieces:
        for event in reader.feed(piece):
            for part in hearing.event(event):
                yield part
        await asyncio.sleep(answer.delay)
    if answer.stop is not None and answer.stop.how == "hang":
        await asyncio.Event().wait()
    for event in reader.close():
        for part in hearing.event(event):
            yield part
    for part in hearing.end():
        yield part


def _body(data: bytes, answer: Answer) -> JSON:
    if answer.stop is not None:
        raise ModelUnreachable("the scripted model broke the connection off")
    try:
        body: JSON = orjson.loads(data)
    except ValueError:
        text = data.decode("utf-8", "replace")
        if answer.status < 400:
            raise BadAnswer(f"the scripted model did not answer with JSON: {text:.300}") from None
        body = text
    if answer.status >= 400:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        wait = retry_after_of(headers.get("retry-after"))
        raise refusal(answer.status, body, retry_after=wait)
    return body

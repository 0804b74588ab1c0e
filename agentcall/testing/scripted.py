"""`ScriptedModel`: plays the replies of a `FakeServer` without a server, for tests and for docs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import orjson

from agentcall.dialects.native import Native
from agentcall.dialects.protocol import Dialect
from agentcall.errors import BadAnswer, CutAnswer, ModelRefused, ModelUnreachable, UsageError
from agentcall.messages import JSON
from agentcall.models.dialogue import Dialogue
from agentcall.models.probe import Choice
from agentcall.models.protocol import Answer as Heard
from agentcall.models.protocol import Request as Asked
from agentcall.models.refusal import refusal, retry_after_of
from agentcall.testing.script import Brain, Reply, Script, lines
from agentcall.testing.wire import Answer, Request


class ScriptedModel:
    """A model that says what its script says: `Agent(ScriptedModel([call("add", a=2), say("5")]))`.

    Script and brain are those of `FakeServer`, and so are the replies, the faults, and `requests`.
    What it says is read as what comes from a server; but nothing that failed is asked again.

    Raises:
        UsageError: a script that is no script; a script and a brain; and, when asked, a script
            that is over.
    """

    def __init__(
        self, script: Script = (), *, brain: Brain | None = None, dialect: Dialect | None = None
    ) -> None:
        if brain is not None and script:
            raise UsageError("ScriptedModel got a script and a brain; give it one of them")
        self.dialect: Dialect = dialect or Native()
        self._wire = _Wire(script if callable(script) else _played(script), brain)
        self._dialogue = Dialogue(self._wire, self._choice, None)

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in the order they came."""
        return list(self._wire.requests)

    def ask(self, request: Asked) -> AsyncIterator[Heard]:
        """The parts of the next reply. Raises ModelError where it is a fault."""
        return self._dialogue.ask(request)

    async def _choice(self) -> Choice:
        return Choice("scripted", self.dialect, "a script says the words")


def _played(script: Sequence[object]) -> Iterator[Reply]:
    replies = [reply for reply in script if isinstance(reply, Reply)]
    if wrong := [reply for reply in script if not isinstance(reply, Reply)]:
        raise UsageError(f"{wrong[0]!r} is no reply; a text is one as say({wrong[0]!r})")
    return lines(replies)


@dataclass(slots=True)
class _Wire:
    """Carries the replies of a script where a model expects a server."""

    script: Iterator[Reply] | Callable[[Request], Reply]
    brain: Brain | None
    requests: list[Request] = field(default_factory=list[Request])
    secrets: tuple[str, ...] = ()

    async def post(self, body: bytes) -> JSON:
        """The next reply, whole."""
        answer = await self._begun(body)
        if answer.stop is not None:
            raise ModelUnreachable("the scripted model broke the connection off")
        data = b"".join(_pieces(answer))
        try:
            whole: JSON = orjson.loads(data)
        except ValueError:
            text = data.decode("utf-8", "replace")
            raise BadAnswer(f"the scripted model did not answer with JSON: {text:.300}") from None
        return whole

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """The next reply, piece by piece."""
        answer = await self._begun(body)
        for piece in _pieces(answer):
            yield piece
            await asyncio.sleep(answer.delay)
        if answer.stop is not None:
            raise CutAnswer("the scripted model broke the connection off")

    async def _begun(self, body: bytes) -> Answer:
        """The next reply. Raises ModelError where it is none."""
        number = len(self.requests) + 1
        asked = Request("POST", "/v1/chat/completions", {}, body, orjson.loads(body), number)
        self.requests.append(asked)
        answer = self._reply(asked).answer(asked)
        await asyncio.sleep(answer.latency)
        if answer.stop is not None and answer.stop.how == "hang":
            await asyncio.Event().wait()
        if answer.stop is not None and answer.stop.after is None:
            raise ModelUnreachable("the scripted model broke the connection off")
        if answer.status >= 400:
            raise _refused(answer)
        return answer

    def _reply(self, asked: Request) -> Reply:
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


def _pieces(answer: Answer) -> Iterator[bytes]:
    return replace(answer, head=b"").frames()  # with a head of its own, a body is not framed


def _refused(answer: Answer) -> ModelRefused:
    data = b"".join(_pieces(answer))
    headers = {name.lower(): value for name, value in answer.headers.items()}
    try:
        body: JSON = orjson.loads(data)
    except ValueError:
        body = data.decode("utf-8", "replace")
    wait = retry_after_of(headers.get("retry-after"))
    return refusal(answer.status, body, retry_after=wait)

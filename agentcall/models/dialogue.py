"""Questions and answers with a chat server, whatever carries the bytes.

Rules:
1. What a server refuses of a request that has something else to offer is left out from then on:
   `stream_options`, or tools as a field (the dialect changes then).
2. Nothing is asked again once a part was given.
3. A stream that breaks ends without the end of an answer.
4. Where an answer showed that the server's template opens the thinking, the next one is taken to
   begin with thinking, until one shows that it does not.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
)
from contextlib import aclosing
from typing import Protocol

from agentcall.dialects.native import NativeReader
from agentcall.dialects.protocol import Reader
from agentcall.dialects.reading import Reconsidered
from agentcall.errors import ContextOverflow, CutAnswer, ModelError, ModelRefused, UsageError
from agentcall.messages import JSON, Image, User
from agentcall.models.body import BodyWriter
from agentcall.models.hearing import Hearing
from agentcall.models.probe import Choice, without_tools
from agentcall.models.protocol import Answer, Chosen, Request, Settings
from agentcall.models.refusal import masked

LARGE = 16_384
"""Bytes from which on an answer, or a piece of one, is read in a thread: a megabyte of what looks
like many calls takes seconds."""
_LINGER = 0.25
"""Seconds that a stream's connection may take to end after [DONE], to be used again."""

_NO_TOOLS = re.compile(
    r"tool.{0,60}(?:not support|unsupported|requires)|not support.{0,40}tool|--jinja"
    r"|tool-call-parser",
    re.IGNORECASE | re.DOTALL,
)


class Wire(Protocol):
    """Carries chat requests to a server, in its own way of authentication and of retrying."""

    @property
    def secrets(self) -> Collection[str]:
        """What no error may show: keys, passwords."""
        ...

    def post(self, body: bytes) -> Awaitable[JSON]:
        """The JSON answered to a request. Raises ModelError."""
        ...

    def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """The bytes answered to a request. Raises ModelError; CutAnswer where it breaks."""
        ...


class Dialogue:
    """Asks one model over a wire; `choose` says once which model and which dialect that is.

    place: the server's URL without its secrets, for whoever watches.
    """

    def __init__(
        self,
        wire: Wire,
        choose: Callable[[], Awaitable[Choice]],
        settings: Settings | None,
        *,
        place: str = "",
    ) -> None:
        self._wire = wire
        self._place = place
        self._choose = choose
        self._bodies = BodyWriter(settings or Settings())
        self._choice: Choice | None = None
        self._opening = ""

    async def choice(self) -> Choice:
        """The model's name, the dialect and why."""
        if self._choice is None:
            self._choice = await self._choose()
        return self._choice

    @property
    def secrets(self) -> Collection[str]:
        """Keys and passwords that the wire uses."""
        return self._wire.secrets

    async def ask(self, request: Request) -> AsyncIterator[Answer]:
        """The parts of one answer. Raises ModelError."""
        choice = self._choice or await self.choice()
        if not choice.sees:
            _require_no_image(choice.model, request)
        spoken = False
        while True:
            yield Chosen(choice.dialect.name, choice.reason, choice.model, self._place)
            try:
                if request.stream and choice.streams:
                    async for part in self._streamed(choice, request):
                        spoken = True
                        yield part
                    return
                parts = await self._whole(choice, request)
                break
            except ModelRefused as refused:
                adapted = None if spoken else self._adapted(refused, choice, request)
                if adapted is None:
                    raise masked(refused, self._wire.secrets) from None
                choice = adapted
            except ModelError as error:
                raise masked(error, self._wire.secrets) from error.__cause__
        for part in parts:
            yield part

    async def _whole(self, choice: Choice, request: Request) -> list[Answer]:
        body = self._bodies.body(choice.model, choice.dialect, request)
        hearing = Hearing(self._reader(choice, request), len(body))
        answer = await self._wire.post(body)
        if _length(answer) < LARGE:
            parts = hearing.whole(answer)
        else:
            parts = await asyncio.to_thread(hearing.whole, answer)
        for part in parts:
            if isinstance(part, Reconsidered):
                self._learn(part)
        return parts

    async def _streamed(self, choice: Choice, request: Request) -> AsyncIterator[Answer]:
        body = self._bodies.body(choice.model, choice.dialect, request)
        hearing = Hearing(self._reader(choice, request), len(body))
        length = 0
        async with aclosing(self._wire.stream(body)) as pieces:
            try:
                async for data in pieces:
                    length += len(data)
                    if len(data) < LARGE:
                        parts = hearing.feed(data)
                    else:
                        parts = iter(await asyncio.to_thread(hearing.feed_all, data))
                    for part in parts:
                        if isinstance(part, Reconsidered):
                            self._learn(part)
                        yield part
                    if hearing.done:
                        await _ended(pieces)
                        break
                end = hearing.close
            except CutAnswer:
                end = hearing.end
            rest = end() if length < LARGE else await asyncio.to_thread(end)
        for part in rest:
            if isinstance(part, Reconsidered):
                self._learn(part)
            yield part

    def _reader(self, choice: Choice, request: Request) -> Reader:
        reader = choice.dialect.reader(request.offer)
        if self._opening and isinstance(reader, NativeReader):
            reader.suppose(self._opening)
        return reader

    def _learn(self, part: Reconsidered) -> None:
        """Remembers how the template begins an answer, where the part shows it."""
        if part.opener is not None:
            self._opening = part.opener

    def _adapted(self, refused: ModelRefused, choice: Choice, request: Request) -> Choice | None:
        """What to try instead of a request that was refused, or None."""
        if isinstance(refused, ContextOverflow):
            return None
        bodies, words = self._bodies, refused.body.lower()
        if request.stream and bodies.counts_streams and "stream_options" in words:
            bodies.counts_streams = False
            return choice
        if request.offer.tools and choice.dialect.name == "native" and _about_tools(refused):
            self._choice = without_tools(choice, refused.body)
            return self._choice
        return None


def _length(answer: JSON) -> int:
    """The characters of an answer's text; zero where it cannot be told."""
    match answer:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return len(text)
        case _:
            return 0


def _require_no_image(model: str, request: Request) -> None:
    """Raises UsageError for an image: LMDeploy before 0.6 writes its base64 into the prompt."""
    for message in request.transcript:
        content = message.content if isinstance(message, User) else ""
        if any(isinstance(part, Image) for part in content):
            raise UsageError(
                f"{model} reads text only, and the conversation has an image; use a model that "
                f"sees, such as InternVL2, or leave the image out"
            )


def _about_tools(refused: ModelRefused) -> bool:
    """Whether a server said no because of the tools field."""
    if refused.status in (400, 422, 501):
        return "tool" in refused.body.lower()
    return refused.status == 500 and _NO_TOOLS.search(refused.body) is not None


async def _ended(pieces: AsyncGenerator[bytes, None]) -> None:
    """Waits a moment for the end of a stream that has said all, which saves its connection."""

    async def rest() -> None:
        async for _ in pieces:
            pass

    try:
        await asyncio.wait_for(rest(), _LINGER)
    except (CutAnswer, asyncio.TimeoutError):
        return

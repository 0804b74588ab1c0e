"""What a fake model says: replies as values, answered plain or streamed as the request asks.

A reply is anything with `answer(request) -> Answer`. `say`, `call` and `calls` make a
`Completion`, a right answer of the OpenAI protocol; `.but(...)` dresses it otherwise, and the
faults of `agentcall.testing.faults` wrap it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol, TypeAlias, runtime_checkable

from typing_extensions import Self, TypedDict, Unpack

from agentcall.testing.cuts import Quirk, call_deltas, choice_index, cut_text
from agentcall.testing.wire import Answer, Fields, Request, as_json, json_answer, tokens_of


class Mark(Enum):
    """Stands where a value would: MADE asks for one to be made, MISSING leaves the field out."""

    MADE = "made"
    MISSING = "missing"


MISSING = Mark.MISSING
MADE = Mark.MADE


@runtime_checkable
class Reply(Protocol):
    """Anything that answers a request."""

    def answer(self, request: Request) -> Answer:
        """What goes over the wire."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One native tool call of a reply.

    `arguments` is a mapping, sent as JSON; a string, sent as it is (so that it may be malformed);
    None, sent as null; or MISSING. `id` is made unless given; "", None and MISSING are sent so.
    """

    name: str | None
    arguments: Mapping[str, object] | str | Mark | None = ""
    id: str | Mark | None = MADE

    def at(self, place: int, request: Request) -> Fields:
        """The call as an entry of `tool_calls`; MISSING fields left out."""
        made = f"call_{request.number}_{place}" if self.id is MADE else self.id
        function = overlaid({"name": self.name, "arguments": self._encoded()})
        return overlaid({"id": made, "type": "function", "function": function})

    def _encoded(self) -> str | Mark | None:
        if isinstance(self.arguments, Mapping):
            return json.dumps(dict(self.arguments), ensure_ascii=False)
        return self.arguments


class Dress(TypedDict, total=False):
    """What `.but(...)` may change; `Completion` says what each is."""

    text: str
    thinking: str
    calls: tuple[Call, ...]
    finish_reason: str | Mark | None
    usage: Mapping[str, object] | Mark | None
    model: str | Mark
    role: str
    body: Mapping[str, object]
    message: Mapping[str, object]
    others: tuple[Completion, ...]
    quirks: tuple[Quirk, ...]
    size: int
    delay: float
    latency: float


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion, plain or streamed as the request asks.

    `finish_reason`, `usage` and `model` are made to fit unless given; a `usage` of None is left
    out. `body` and `message` are laid over the made body (every chunk of a stream) and the made
    message (the first delta of a stream): `message={"content": None}`,
    `body={"choices": MISSING}`. `others` are further choices.

    A stream is cut into pieces of `size` characters, with `delay` seconds after each; `latency` is
    in seconds before the first byte. `quirks` are what other servers do to a stream. To calls: a
    call in one delta, all calls in one delta, the pieces of several calls in turns; its name and id
    in every delta, or the id alone, a new id in every delta, the id only at the end; no index, the
    index 0 for all, the index as text or as a float; the name in pieces, all arguments so far in
    every delta, the last delta twice. To the rest: the role in every chunk, the finish reason in
    the last delta instead of a chunk of its own, the whole message once more beside it, the index
    of the choice as text or counted from 1.
    """

    text: str = ""
    thinking: str = ""
    calls: tuple[Call, ...] = ()
    finish_reason: str | Mark | None = MADE
    usage: Mapping[str, object] | Mark | None = MADE
    model: str | Mark = MADE
    role: str = "assistant"
    body: Mapping[str, object] = field(default_factory=dict[str, object])
    message: Mapping[str, object] = field(default_factory=dict[str, object])
    others: tuple[Completion, ...] = ()
    quirks: tuple[Quirk, ...] = ()
    size: int = 4
    delay: float = 0.0
    latency: float = 0.0

    def but(self, **changes: Unpack[Dress]) -> Self:
        """The same reply, dressed otherwise: `say("hi").but(finish_reason="length")`."""
        return replace(self, **changes)

    def answer(self, request: Request) -> Answer:
        """The completion as JSON, or as a stream when the request asks for one."""
        if not request.stream:
            return replace(json_answer(self._whole(request)), latency=self.latency)
        events = (b"data: %b\n\n" % as_json(chunk) for chunk in self._chunks(request))
        return Answer(
            pieces=(*events, b"data: [DONE]\n\n"),
            events=True,
            latency=self.latency,
            delay=self.delay,
        )

    def _whole(self, request: Request) -> Fields:
        choices = [
            {
                "index": choice_index(index, choice.quirks),
                "message": choice.as_message(request),
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate((self, *self.others))
        ]
        usage = MISSING if self.usage is None else self._usage(request)
        return self._framed(request, "chat.completion", choices=choices, usage=usage)

    def _chunks(self, request: Request) -> Iterator[Fields]:
        kind = "chat.completion.chunk"
        asked = request.includes_usage and self.usage is not None
        usage = None if asked else MISSING
        for index, choice in enumerate((self, *self.others)):
            for delta, finish in choice.deltas(request):
                place = choice_index(index, choice.quirks)
                entry: Fields = {"index": place, "delta": delta, "finish_reason": finish}
                if finish is not None and "message_last" in choice.quirks:
                    entry["message"] = choice.as_message(request)
                yield self._framed(request, kind, choices=[entry], usage=usage)
        if asked:
            yield self._framed(request, kind, choices=[], usage=self._usage(request))

    def _framed(self, request: Request, kind: str, **fields: object) -> Fields:
        model = request.body.get("model", "fake-model") if self.model is MADE else self.model
        head = {"id": f"chatcmpl-{request.number}", "object": kind, "created": 0, "model": model}
        return overlaid({**head, **fields}, self.body)

    def _usage(self, request: Request) -> object:
        if self.usage is not MADE:
            return self.usage
        said = [
            (c.text, c.thinking, [call.at(0, request) for call in c.calls])
            for c in (self, *self.others)
        ]
        prompt, completion = request.prompt_tokens, tokens_of(said)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    @property
    def finish(self) -> object:
        """The finish reason: the given one, else the one that fits."""
        if self.finish_reason is MADE:
            return "tool_calls" if self.calls else "stop"
        return self.finish_reason

    def as_message(self, request: Request) -> Fields:
        """The message of a plain answer."""
        content = None if self.calls and not self.text else self.text
        made: Fields = {"role": self.role, "content": content}
        if self.thinking:
            made["reasoning_content"] = self.thinking
        if self.calls:
            made["tool_calls"] = [call.at(at, request) for at, call in enumerate(self.calls)]
        return overlaid(made, self.message)

    def deltas(self, request: Request) -> Iterator[tuple[Fields, object]]:
        """The deltas of a stream, each with its finish reason, which only the last one has."""
        deltas = [self._dressed(delta) for delta in self._plain_deltas(request)]
        if "finish_merged" not in self.quirks:
            deltas.append(self._dressed({}))
        yield from ((delta, None) for delta in deltas[:-1])
        yield deltas[-1], self.finish

    def _dressed(self, delta: Fields) -> Fields:
        return {"role": self.role, **delta} if "roles_repeated" in self.quirks else delta

    def _plain_deltas(self, request: Request) -> Iterator[Fields]:
        first = {"role": self.role, "content": "" if self.text or not self.calls else None}
        yield overlaid(first, self.message)
        for piece in cut_text(self.thinking, self.size):
            yield {"reasoning_content": piece}
        if "content" not in self.message:
            for piece in cut_text(self.text, self.size):
                yield {"content": piece}
        if "tool_calls" not in self.message:
            made = [call.at(place, request) for place, call in enumerate(self.calls)]
            for entries in call_deltas(made, self.quirks, self.size):
                yield {"tool_calls": entries}


@dataclass(frozen=True, slots=True)
class Repeated:
    """A reply that a script plays `times` times over; None is for ever."""

    reply: Reply
    times: int | None

    def answer(self, request: Request) -> Answer:
        """The reply's own answer."""
        return self.reply.answer(request)


Script: TypeAlias = Sequence[Reply] | Callable[[Request], Reply]
Brain: TypeAlias = Callable[[list[Fields], list[Fields]], Reply]


def say(text: str, *, thinking: str = "") -> Completion:
    """A reply of text, after `thinking` (sent as `reasoning_content`) if there is any."""
    return Completion(text=text, thinking=thinking)


def call(name: str, /, **arguments: object) -> Completion:
    """A reply of one native tool call: `call("add", a=2, b=3)`."""
    return Completion(calls=(Call(name, arguments),))


def calls(*parts: Call | Completion, text: str = "") -> Completion:
    """A reply of several native tool calls, after `text`.

    `calls(call("add", a=1, b=2), Call("add", '{"a": 1', id="x"))`
    """
    flat = [(part,) if isinstance(part, Call) else part.calls for part in parts]
    return Completion(text=text, calls=tuple(one for some in flat for one in some))


def choices(first: Completion, *others: Completion) -> Completion:
    """A reply of several choices."""
    return first.but(others=others)


def times(reply: Reply, number: int) -> Repeated:
    """The reply, `number` times over."""
    return Repeated(reply, number)


def forever(reply: Reply) -> Repeated:
    """The reply to every request from here on: the end of a script that never is over."""
    return Repeated(reply, None)


def lines(script: Sequence[Reply]) -> Iterator[Reply]:
    """The replies of a script in the order they are played."""
    for reply in script:
        if not isinstance(reply, Repeated):
            yield reply
        elif reply.times is not None:
            yield from [reply.reply] * reply.times
        else:
            while True:
                yield reply.reply


def overlaid(made: Mapping[str, object], over: Mapping[str, object] | None = None) -> Fields:
    """`made` with `over` laid over it, and without the fields that are MISSING."""
    fields = {**made, **(over or {})}
    return {name: value for name, value in fields.items() if value is not MISSING}

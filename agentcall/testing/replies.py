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

from agentcall.testing.cut_texts import StreamQuirk, make_choice_index, split_calls, split_text
from agentcall.testing.http import (
    FakeResponse,
    JSONFields,
    RecordedRequest,
    count_tokens,
    encode_json,
    make_json_response,
)


class Placeholder(Enum):
    """Stands where a value would: MADE asks for one to be made, MISSING leaves the field out."""

    GENERATED = "made"
    MISSING = "missing"


MISSING = Placeholder.MISSING
GENERATED = Placeholder.GENERATED


@runtime_checkable
class Reply(Protocol):
    """Anything that answers a request."""

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """What goes over the wire."""
        ...


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """One native tool call of a reply.

    `arguments` is a mapping, sent as JSON; a string, sent as it is (so that it may be malformed);
    None, sent as null; or MISSING. `id` is made unless given; "", None and MISSING are sent so.
    """

    name: str | None
    arguments: Mapping[str, object] | str | Placeholder | None = ""
    id: str | Placeholder | None = GENERATED

    def to_entry(self, index: int, request: RecordedRequest) -> JSONFields:
        """The call as an entry of `tool_calls`; MISSING fields left out."""
        made = f"call_{request.number}_{index}" if self.id is GENERATED else self.id
        function = overlay_fields({"name": self.name, "arguments": self._encode_arguments()})
        return overlay_fields({"id": made, "type": "function", "function": function})

    def _encode_arguments(self) -> str | Placeholder | None:
        if isinstance(self.arguments, Mapping):
            return json.dumps(dict(self.arguments), ensure_ascii=False)
        return self.arguments


class ReplyOptions(TypedDict, total=False):
    """What `.but(...)` may change; `Completion` says what each is."""

    text: str
    thinking: str
    calls: tuple[ScriptedCall, ...]
    finish_reason: str | Placeholder | None
    usage: Mapping[str, object] | Placeholder | None
    model: str | Placeholder
    role: str
    body: Mapping[str, object]
    message: Mapping[str, object]
    others: tuple[Completion, ...]
    quirks: tuple[StreamQuirk, ...]
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
    calls: tuple[ScriptedCall, ...] = ()
    finish_reason: str | Placeholder | None = GENERATED
    usage: Mapping[str, object] | Placeholder | None = GENERATED
    model: str | Placeholder = GENERATED
    role: str = "assistant"
    body: Mapping[str, object] = field(default_factory=dict[str, object])
    message: Mapping[str, object] = field(default_factory=dict[str, object])
    others: tuple[Completion, ...] = ()
    quirks: tuple[StreamQuirk, ...] = ()
    size: int = 4
    delay: float = 0.0
    latency: float = 0.0

    def replace(self, **changes: Unpack[ReplyOptions]) -> Self:
        """The same reply, dressed otherwise: `say("hi").but(finish_reason="length")`."""
        return replace(self, **changes)

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """The completion as JSON, or as a stream when the request asks for one."""
        if not request.stream:
            return replace(
                make_json_response(self._build_completion(request)), latency=self.latency
            )
        events = (b"data: %b\n\n" % encode_json(chunk) for chunk in self._iter_chunks(request))
        return FakeResponse(
            pieces=(*events, b"data: [DONE]\n\n"),
            events=True,
            latency=self.latency,
            delay=self.delay,
        )

    def _build_completion(self, request: RecordedRequest) -> JSONFields:
        choices = [
            {
                "index": make_choice_index(index, choice.quirks),
                "message": choice.to_message(request),
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate((self, *self.others))
        ]
        usage = MISSING if self.usage is None else self._build_usage(request)
        return self._build_body(request, "chat.completion", choices=choices, usage=usage)

    def _iter_chunks(self, request: RecordedRequest) -> Iterator[JSONFields]:
        kind = "chat.completion.chunk"
        asked = request.includes_usage and self.usage is not None
        usage = None if asked else MISSING
        for index, choice in enumerate((self, *self.others)):
            for delta, finish in choice.iter_deltas(request):
                place = make_choice_index(index, choice.quirks)
                entry: JSONFields = {"index": place, "delta": delta, "finish_reason": finish}
                if finish is not None and "message_last" in choice.quirks:
                    entry["message"] = choice.to_message(request)
                yield self._build_body(request, kind, choices=[entry], usage=usage)
        if asked:
            yield self._build_body(request, kind, choices=[], usage=self._build_usage(request))

    def _build_body(self, request: RecordedRequest, kind: str, **fields: object) -> JSONFields:
        model = request.body.get("model", "fake-model") if self.model is GENERATED else self.model
        head = {"id": f"chatcmpl-{request.number}", "object": kind, "created": 0, "model": model}
        return overlay_fields({**head, **fields}, self.body)

    def _build_usage(self, request: RecordedRequest) -> object:
        if self.usage is not GENERATED:
            return self.usage
        said = [
            (c.text, c.thinking, [call.to_entry(0, request) for call in c.calls])
            for c in (self, *self.others)
        ]
        prompt, completion = request.prompt_tokens, count_tokens(said)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    @property
    def finish(self) -> object:
        """The finish reason: the given one, else the one that fits."""
        if self.finish_reason is GENERATED:
            return "tool_calls" if self.calls else "stop"
        return self.finish_reason

    def to_message(self, request: RecordedRequest) -> JSONFields:
        """The message of a plain answer."""
        content = None if self.calls and not self.text else self.text
        made: JSONFields = {"role": self.role, "content": content}
        if self.thinking:
            made["reasoning_content"] = self.thinking
        if self.calls:
            made["tool_calls"] = [call.to_entry(at, request) for at, call in enumerate(self.calls)]
        return overlay_fields(made, self.message)

    def iter_deltas(self, request: RecordedRequest) -> Iterator[tuple[JSONFields, object]]:
        """The deltas of a stream, each with its finish reason, which only the last one has."""
        deltas = [self._add_role(delta) for delta in self._iter_plain_deltas(request)]
        if "finish_merged" not in self.quirks:
            deltas.append(self._add_role({}))
        yield from ((delta, None) for delta in deltas[:-1])
        yield deltas[-1], self.finish

    def _add_role(self, delta: JSONFields) -> JSONFields:
        return {"role": self.role, **delta} if "roles_repeated" in self.quirks else delta

    def _iter_plain_deltas(self, request: RecordedRequest) -> Iterator[JSONFields]:
        first = {"role": self.role, "content": "" if self.text or not self.calls else None}
        yield overlay_fields(first, self.message)
        for piece in split_text(self.thinking, self.size):
            yield {"reasoning_content": piece}
        if "content" not in self.message:
            for piece in split_text(self.text, self.size):
                yield {"content": piece}
        if "tool_calls" not in self.message:
            made = [call.to_entry(place, request) for place, call in enumerate(self.calls)]
            for entries in split_calls(made, self.quirks, self.size):
                yield {"tool_calls": entries}


@dataclass(frozen=True, slots=True)
class RepeatedReply:
    """A reply that a script plays `times` times over; None is for ever."""

    reply: Reply
    times: int | None

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """The reply's own answer."""
        return self.reply.answer(request)


Script: TypeAlias = Sequence[Reply] | Callable[[RecordedRequest], Reply]
ReplyFunction: TypeAlias = Callable[[list[JSONFields], list[JSONFields]], Reply]


def say(text: str, *, thinking: str = "") -> Completion:
    """A reply of text, after `thinking` (sent as `reasoning_content`) if there is any."""
    return Completion(text=text, thinking=thinking)


def call(name: str, /, **arguments: object) -> Completion:
    """A reply of one native tool call: `call("add", a=2, b=3)`."""
    return Completion(calls=(ScriptedCall(name, arguments),))


def calls(*parts: ScriptedCall | Completion, text: str = "") -> Completion:
    """A reply of several native tool calls, after `text`.

    `calls(call("add", a=1, b=2), Call("add", '{"a": 1', id="x"))`
    """
    flat = [(part,) if isinstance(part, ScriptedCall) else part.calls for part in parts]
    return Completion(text=text, calls=tuple(one for some in flat for one in some))


def choices(first: Completion, *others: Completion) -> Completion:
    """A reply of several choices."""
    return first.replace(others=others)


def times(reply: Reply, number: int) -> RepeatedReply:
    """The reply, `number` times over."""
    return RepeatedReply(reply, number)


def forever(reply: Reply) -> RepeatedReply:
    """The reply to every request from here on: the end of a script that never is over."""
    return RepeatedReply(reply, None)


def expand_script(script: Sequence[Reply]) -> Iterator[Reply]:
    """The replies of a script in the order they are played."""
    for reply in script:
        if not isinstance(reply, RepeatedReply):
            yield reply
        elif reply.times is not None:
            yield from [reply.reply] * reply.times
        else:
            while True:
                yield reply.reply


def overlay_fields(
    made: Mapping[str, object], over: Mapping[str, object] | None = None
) -> JSONFields:
    """`made` with `over` laid over it, and without the fields that are MISSING."""
    fields = {**made, **(over or {})}
    return {name: value for name, value in fields.items() if value is not MISSING}

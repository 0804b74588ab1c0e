"""What servers do wrong, on order: statuses, broken bodies, broken streams, broken connections.

A fault is a reply, or a reply wrapped: `reset(slow_loris(say("hi"), every=0.1), after=0.5)`.

What servers say when they refuse, in their own words.

Seen on LMDeploy 0.5.3 and 0.18.0, vLLM 0.8 and later, llama.cpp and OpenAI.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from agentcall.testing.http import (
    BreakKind,
    ConnectionBreak,
    FakeResponse,
    RecordedRequest,
    encode_json,
    make_json_response,
)
from agentcall.testing.replies import Completion, RepeatedReply, Reply, say

ServerKind = Literal["openai", "lmdeploy", "lmdeploy-0.5", "vllm", "vllm-0.8", "llama.cpp"]

_ERROR_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}


def openai_error(
    message: str, *, status: int = 500, code: object = None
) -> dict[str, dict[str, object]]:
    """An error body as OpenAI writes it: `{"error": {...}}`."""
    kind = _ERROR_TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def flat_error(message: str, *, status: int = 400) -> dict[str, object]:
    """An error body as LMDeploy 0.18 writes it: the same fields with no `error` around them."""
    kind = _ERROR_TYPES.get(status, "server_error")
    return {"message": message, "type": kind, "code": status, "param": None, "object": "error"}


def no_tools_error() -> dict[str, object]:
    """LMDeploy's refusal of tools when it was launched without a tool parser (from 0.13)."""
    return flat_error(
        "Please launch the api_server with --tool-call-parser if you want to use tools."
    )


@dataclass(frozen=True, slots=True)
class OverflowReply:
    """A refusal of a prompt that is longer than the context, in a server's own words."""

    like: ServerKind = "openai"
    context: int = 4096
    tokens: int | None = None

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """The refusal; it names `tokens`, or else the size of the request's own prompt."""
        count = request.prompt_tokens if self.tokens is None else self.tokens
        if self.like == "lmdeploy-0.5":
            return say("").replace(finish_reason="length").answer(request)
        return make_json_response(_make_overflow_body(self.like, self.context, count), status=400)


def overflow(
    like: ServerKind = "openai", *, context: int = 4096, tokens: int | None = None
) -> OverflowReply:
    """A refusal of a prompt of `tokens` tokens (without it: the request's own size).

    LMDeploy 0.5 refuses with HTTP 200, an empty text and finish reason `length`.
    """
    return OverflowReply(like, context, tokens)


def _make_overflow_body(like: ServerKind, context: int, tokens: int) -> Mapping[str, object]:
    limit = f"This model's maximum context length is {context} tokens. However,"
    ask = "Please reduce the length of the"
    match like:
        case "lmdeploy" | "lmdeploy-0.5":
            window = f"the model context length ({context})"
            return flat_error(f"Input length ({tokens}) must be smaller than {window}.")
        case "llama.cpp":
            size = (
                f"request ({tokens} tokens) exceeds the available context size ({context} tokens)"
            )
            error = {"code": 400, "message": f"{size}, try increasing it"}
            counts = {"n_prompt_tokens": tokens, "n_ctx": context}
            return {"error": {**error, "type": "exceed_context_size_error", **counts}}
        case "vllm":
            prompt = f"your prompt contains at least {tokens} input tokens"
            total = f"for a total of at least {tokens} tokens. {ask} input prompt"
            words = f"{limit} you requested 0 output tokens and {prompt}, {total} or the number of"
            kind = {"type": "BadRequestError", "param": "input_tokens", "code": 400}
            return {"error": {"message": f"{words} requested output tokens.", **kind}}
        case "vllm-0.8":
            words = f"{limit} you requested {tokens} tokens in the messages, {ask} messages."
            kind = {"type": "BadRequestError", "param": None, "code": 400}
            return {"object": "error", "message": words, **kind}
        case "openai":
            words = f"{limit} your messages resulted in {tokens} tokens. {ask} messages."
            body = openai_error(words, status=400, code="context_length_exceeded")
            return {"error": {**body["error"], "param": "messages"}}


SSEStyle = Literal["comments", "fields", "multiline", "no_space", "crlf", "joined", "split"]

_EMPTY_REPLY = Completion()


@dataclass(frozen=True, slots=True)
class FixedReply:
    """A reply that answers every request alike."""

    response: FakeResponse

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """The same answer, whatever was asked."""
        del request
        return self.response


@dataclass(frozen=True, slots=True)
class ChangedReply:
    """A reply whose answer is changed on its way out."""

    reply: Reply
    change: Callable[[FakeResponse], FakeResponse]

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """The reply's answer, changed."""
        return self.change(self.reply.answer(request))


@dataclass(frozen=True, slots=True)
class UnstreamedReply:
    """A reply that is plain JSON even to a request for a stream."""

    reply: Reply

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """The reply's answer to the same request without `stream`."""
        return self.reply.answer(replace(request, body={**request.body, "stream": False}))


def _change_response(reply: Reply, change: Callable[[FakeResponse], FakeResponse]) -> Reply:
    if isinstance(reply, RepeatedReply):
        return RepeatedReply(ChangedReply(reply.reply, change), reply.times)
    return ChangedReply(reply, change)


# --- whole answers ---


def status(
    code: int,
    *,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    times: int = 1,
) -> RepeatedReply:
    """An HTTP status, `times` times over.

    `body` is a str or bytes, sent as it is, or a value, sent as JSON; without one it is an error
    body in the words of OpenAI. `headers`: `{"Retry-After": "1"}`.
    """
    made = openai_error(f"status {code} on order", status=code) if body is None else body
    answer = FakeResponse(status=code, headers=headers or {}, pieces=(_encode_body(made),))
    return RepeatedReply(FixedReply(answer), times)


def _encode_body(body: object) -> bytes:
    if isinstance(body, str):
        return body.encode()
    return body if isinstance(body, bytes) else encode_json(body)


def error_under_200(message: str, *, code: int = 400) -> Reply:
    """LMDeploy 0.5.3's error: `{"object": "error"}` under HTTP 200."""
    return status(200, body={"object": "error", "message": message, "code": code})


def html(code: int = 502) -> Reply:
    """A proxy's HTML page."""
    page = f"<html><head><title>{code} Bad Gateway</title></head><body>nginx</body></html>"
    return status(code, body=page, headers={"content-type": "text/html"})


def bad_json(text: str = '{"choices": [{"message": {"role": ') -> Reply:
    """HTTP 200 with a body that says it is JSON and is not."""
    return status(200, body=text)


def empty_body(code: int = 200) -> Reply:
    """A status with no body at all."""
    return status(code, body=b"")


def no_choices() -> Completion:
    """A completion whose `choices` is an empty list."""
    return Completion(body={"choices": []})


def null_choices() -> Completion:
    """A completion whose `choices` is null."""
    return Completion(body={"choices": None})


def huge(size: int) -> Completion:
    """A text of `size` bytes, in pieces of 64 KiB when streamed."""
    return say("x" * size).replace(size=65_536)


def raw(data: bytes, *, ending: BreakKind = "close") -> Reply:
    """These very bytes instead of an HTTP answer: half of the headers, or no HTTP at all."""
    return FixedReply(FakeResponse(head=data, stop=ConnectionBreak(ending, after=1.0)))


# --- broken connections ---


def reset(reply: Reply = _EMPTY_REPLY, *, after: float | None = None) -> Reply:
    """The connection is reset (TCP RST) after a share of the body, or before the headers."""
    return _change_response(reply, partial(_break_response, stop=ConnectionBreak("reset", after)))


def drop(reply: Reply = _EMPTY_REPLY, *, after: float | None = None) -> Reply:
    """The connection is closed (FIN) after a share of the body, before its promised end."""
    return _change_response(reply, partial(_break_response, stop=ConnectionBreak("close", after)))


def hang(reply: Reply = _EMPTY_REPLY, *, after: float | None = None) -> Reply:
    """Silence after a share of the body (None: from the start) until the client goes away."""
    return _change_response(reply, partial(_break_response, stop=ConnectionBreak("hang", after)))


def never() -> Reply:
    """No answer: the connection stays open and silent until the client goes away."""
    return hang()


def _break_response(answer: FakeResponse, *, stop: ConnectionBreak) -> FakeResponse:
    return replace(answer, stop=stop)


def slow_loris(reply: Reply, *, every: float) -> Reply:
    """The body byte by byte, `every` seconds; the headers come at once."""
    return _change_response(reply, partial(_drip_response, every=every))


def _drip_response(answer: FakeResponse, *, every: float) -> FakeResponse:
    return replace(answer, pieces=_recut_pieces(answer.pieces, 1), delay=every)


def _recut_pieces(pieces: tuple[bytes, ...], size: int) -> tuple[bytes, ...]:
    whole = b"".join(pieces)
    return tuple(whole[start : start + size] for start in range(0, len(whole), size))


def gzip_body(reply: Reply) -> Reply:
    """The body in gzip, each piece flushed, with `Content-Encoding: gzip`."""
    return _change_response(reply, _compress_response)


def _compress_response(answer: FakeResponse) -> FakeResponse:
    packer = zlib.compressobj(wbits=31)
    pieces = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in answer.pieces]
    headers = {**answer.headers, "content-encoding": "gzip"}
    return replace(answer, pieces=(*pieces, packer.flush()), headers=headers)


# --- broken streams ---


def ignore_stream(reply: Reply) -> Reply:
    """Plain JSON even to a request for a stream (LMDeploy before 0.7.2 when tools are offered)."""
    if isinstance(reply, RepeatedReply):
        return RepeatedReply(UnstreamedReply(reply.reply), reply.times)
    return UnstreamedReply(reply)


def cut(reply: Reply, *, after: float | None = None) -> Reply:
    """A stream that ends early but cleanly: no finish reason, no usage, no [DONE].

    It ends after a share of its events; by default all but the last ones. A plain answer is a
    JSON text cut after a share of its bytes (by default half), with the right Content-Length.
    """
    return _change_response(reply, partial(_cut_response, after=after))


def _cut_response(answer: FakeResponse, *, after: float | None) -> FakeResponse:
    if not answer.events:
        whole = b"".join(answer.pieces)
        return replace(
            answer, pieces=(whole[: int(len(whole) * (0.5 if after is None else after))],)
        )
    return replace(
        answer, pieces=_cut_before_finish(answer.pieces, 1.0 if after is None else after)
    )


def _cut_before_finish(pieces: tuple[bytes, ...], share: float) -> tuple[bytes, ...]:
    # A quote inside of a JSON string is escaped, so these bytes are never in a text.
    finish = [at for at, piece in enumerate(pieces) if b'"finish_reason":"' in piece]
    kept = pieces[: finish[0]] if finish else pieces[:-1]
    return kept[: int(len(kept) * share)]


def no_done(reply: Reply) -> Reply:
    """A stream whose finish reason is there, but that ends without [DONE]."""
    return _change_response(reply, _drop_done)


def _drop_done(answer: FakeResponse) -> FakeResponse:
    return replace(answer, pieces=tuple(p for p in answer.pieces if p != b"data: [DONE]\n\n"))


def error_in_stream(
    reply: Reply, *, after: float = 0.5, error: object = "An internal server error occurred."
) -> Reply:
    """A stream that breaks off with `data: {"error": ...}` and [DONE] after a share of its events.

    A plain request gets the error with HTTP 500.
    """
    body = openai_error(error) if isinstance(error, str) else {"error": error}
    return _change_response(reply, partial(_add_error_event, after=after, body=body))


def _add_error_event(answer: FakeResponse, *, after: float, body: object) -> FakeResponse:
    if not answer.events:
        return make_json_response(body, status=500)
    kept = _cut_before_finish(answer.pieces, after)
    return replace(answer, pieces=(*kept, b"data: %b\n\n" % encode_json(body), b"data: [DONE]\n\n"))


def sse(reply: Reply, *styles: SSEStyle) -> Reply:
    """A stream that is right but written otherwise; a plain answer stays as it is.

    comments: comment lines between the events, as keep-alives; fields: `event:`, `id:` and `retry:`
    beside the data; multiline: the data over several `data:` lines; no_space: `data:` without its
    space; crlf: CR LF line ends; joined: everything in one write; split: cut every 5 bytes,
    through events and through characters.
    """
    return _change_response(reply, partial(_apply_styles, styles=styles))


def _apply_styles(answer: FakeResponse, *, styles: tuple[SSEStyle, ...]) -> FakeResponse:
    if not answer.events:
        return answer
    pieces = answer.pieces
    for style, change in _STYLES.items():
        if style in styles:
            pieces = change(pieces)
    return replace(answer, pieces=pieces)


def _add_comments(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(part for piece in pieces for part in (b": keep-alive\n\n", piece))


def _add_fields(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    head = b"event: message\nid: %d\nretry: 1000\n%b"
    return tuple(head % (at, p) if p.startswith(b"data") else p for at, p in enumerate(pieces))


def _split_data_lines(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(re.sub(rb"(?m)^data: (\{.*)$", _split_data, piece) for piece in pieces)


def _split_data(found: re.Match[bytes]) -> bytes:
    text = json.dumps(json.loads(found[1]), ensure_ascii=False, indent=1)
    return "\n".join(f"data: {line}" for line in text.split("\n")).encode(
        "utf-8", "backslashreplace"
    )


def _remove_space(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(re.sub(rb"(?m)^data: ", b"data:", piece) for piece in pieces)


def _use_crlf(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(piece.replace(b"\n", b"\r\n") for piece in pieces)


def _join_pieces(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (b"".join(pieces),)


_STYLES: Mapping[SSEStyle, Callable[[tuple[bytes, ...]], tuple[bytes, ...]]] = {
    "comments": _add_comments,
    "fields": _add_fields,
    "multiline": _split_data_lines,
    "no_space": _remove_space,
    "crlf": _use_crlf,
    "joined": _join_pieces,
    "split": partial(_recut_pieces, size=5),
}

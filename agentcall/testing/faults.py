"""Faults of servers: statuses, broken bodies, broken streams, broken connections.

A fault is a reply, or a wrapped reply: `reset(slow_loris(say("hi"), every=0.1), after=0.5)`.

The error messages are those of LMDeploy 0.5.3 and 0.18.0, vLLM 0.8 and later, llama.cpp and OpenAI.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from agentcall.testing.raw_http import (
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
    """Return an error body in OpenAI's format: `{"error": {...}}`."""
    kind = _ERROR_TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def flat_error(message: str, *, status: int = 400) -> dict[str, object]:
    """Return an error body in the format of LMDeploy 0.18: the same fields without `error`."""
    kind = _ERROR_TYPES.get(status, "server_error")
    return {"message": message, "type": kind, "code": status, "param": None, "object": "error"}


def no_tools_error() -> dict[str, object]:
    """Return LMDeploy's refusal of tools if it was launched without a tool parser (since 0.13)."""
    return flat_error(
        "Please launch the api_server with --tool-call-parser if you want to use tools."
    )


@dataclass(frozen=True, slots=True)
class OverflowReply:
    """A server's refusal of a prompt that is longer than the context; see `overflow`."""

    like: ServerKind = "openai"
    context: int = 4096
    tokens: int | None = None

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """Return the refusal."""
        count = request.prompt_tokens if self.tokens is None else self.tokens
        if self.like == "lmdeploy-0.5":
            return say("").replace(finish_reason="length").answer(request)
        return make_json_response(_make_overflow_body(self.like, self.context, count), status=400)


def overflow(
    like: ServerKind = "openai", *, context: int = 4096, tokens: int | None = None
) -> OverflowReply:
    """Return a refusal of a prompt of `tokens` tokens (default: the size of the request).

    LMDeploy 0.5 refuses with HTTP 200, an empty text and the finish reason `length`.
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
            text = f"{limit} you requested 0 output tokens and {prompt}, {total} or the number of"
            kind = {"type": "BadRequestError", "param": "input_tokens", "code": 400}
            return {"error": {"message": f"{text} requested output tokens.", **kind}}
        case "vllm-0.8":
            text = f"{limit} you requested {tokens} tokens in the messages, {ask} messages."
            kind = {"type": "BadRequestError", "param": None, "code": 400}
            return {"object": "error", "message": text, **kind}
        case "openai":
            text = f"{limit} your messages resulted in {tokens} tokens. {ask} messages."
            body = openai_error(text, status=400, code="context_length_exceeded")
            return {"error": {**body["error"], "param": "messages"}}


SSEStyle = Literal["comments", "fields", "multiline", "no_space", "crlf", "joined", "split"]

_EMPTY_REPLY = Completion()


# Complete responses


def status(
    code: int,
    *,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    times: int = 1,
) -> RepeatedReply:
    """Return an HTTP status, for `times` requests.

    `body` is str or bytes, sent unchanged, or a value, sent as JSON; by default it is an error body
    in OpenAI's format. `headers`: `{"Retry-After": "1"}`.
    """
    if body is None:
        body = openai_error(f"status {code} on order", status=code)
    if isinstance(body, str):
        data = body.encode()
    else:
        data = body if isinstance(body, bytes) else encode_json(body)
    response = FakeResponse(status=code, headers=headers or {}, pieces=(data,))
    return RepeatedReply(FixedReply(response), times)


def error_under_200(message: str, *, code: int = 400) -> Reply:
    """Return LMDeploy 0.5.3's error: `{"object": "error"}` under HTTP 200."""
    return status(200, body={"object": "error", "message": message, "code": code})


def html(code: int = 502) -> Reply:
    """Return the HTML page of a proxy."""
    page = f"<html><head><title>{code} Bad Gateway</title></head><body>nginx</body></html>"
    return status(code, body=page, headers={"content-type": "text/html"})


def bad_json(text: str = '{"choices": [{"message": {"role": ') -> Reply:
    """Return HTTP 200 with a body that is invalid JSON."""
    return status(200, body=text)


def empty_body(code: int = 200) -> Reply:
    """Return a status without a body."""
    return status(code, body=b"")


def no_choices() -> Completion:
    """Return a completion whose `choices` is an empty list."""
    return Completion(body={"choices": []})


def null_choices() -> Completion:
    """Return a completion whose `choices` is null."""
    return Completion(body={"choices": None})


def huge(size: int) -> Completion:
    """Return a text of `size` bytes, in pieces of 64 KiB if streamed."""
    return say("x" * size).replace(size=65_536)


def raw(data: bytes, *, ending: BreakKind = "close") -> Reply:
    """Send these bytes instead of an HTTP response: incomplete headers, or no HTTP at all."""
    return FixedReply(FakeResponse(head=data, stop=ConnectionBreak(ending, after=1.0)))


# Broken connections


def reset(reply: Reply = _EMPTY_REPLY, *, after: float | None = None) -> Reply:
    """Reset the connection (TCP RST) after a share of the body, or before the headers."""
    return _change_response(reply, partial(_break_response, stop=ConnectionBreak("reset", after)))


def drop(reply: Reply = _EMPTY_REPLY, *, after: float | None = None) -> Reply:
    """Close the connection (FIN) after a share of the body, before its announced end."""
    return _change_response(reply, partial(_break_response, stop=ConnectionBreak("close", after)))


def hang(reply: Reply = _EMPTY_REPLY, *, after: float | None = None) -> Reply:
    """Stop sending after a share of the body (None: at once) until the client disconnects."""
    return _change_response(reply, partial(_break_response, stop=ConnectionBreak("hang", after)))


def never() -> Reply:
    """Send nothing, and keep the connection open until the client disconnects."""
    return hang()


def _break_response(response: FakeResponse, *, stop: ConnectionBreak) -> FakeResponse:
    return replace(response, stop=stop)


def slow_loris(reply: Reply, *, every: float) -> Reply:
    """Send the body byte by byte, one every `every` seconds; the headers are sent at once."""
    return _change_response(reply, partial(_drip_response, every=every))


def _drip_response(response: FakeResponse, *, every: float) -> FakeResponse:
    return replace(response, pieces=_recut_pieces(response.pieces, 1), delay=every)


def _recut_pieces(pieces: tuple[bytes, ...], size: int) -> tuple[bytes, ...]:
    body = b"".join(pieces)
    return tuple(body[start : start + size] for start in range(0, len(body), size))


def gzip_body(reply: Reply) -> Reply:
    """Compress the body with gzip, flushing each piece, and set `Content-Encoding: gzip`."""
    return _change_response(reply, _compress_response)


def _compress_response(response: FakeResponse) -> FakeResponse:
    packer = zlib.compressobj(wbits=31)
    pieces = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in response.pieces]
    headers = {**response.headers, "content-encoding": "gzip"}
    return replace(response, pieces=(*pieces, packer.flush()), headers=headers)


# Broken streams


def ignore_stream(reply: Reply) -> Reply:
    """Send plain JSON also to a request for a stream, as LMDeploy before 0.7.2 with tools."""
    if isinstance(reply, RepeatedReply):
        return RepeatedReply(UnstreamedReply(reply.reply), reply.times)
    return UnstreamedReply(reply)


def cut(reply: Reply, *, after: float | None = None) -> Reply:
    """End a stream early but cleanly: without a finish reason, usage and [DONE].

    It ends after a share of the events before the finish reason (default: all). Plain JSON is cut
    after a share of its bytes (default: half), with the Content-Length of the rest.
    """
    return _change_response(reply, partial(_cut_response, after=after))


def _cut_response(response: FakeResponse, *, after: float | None) -> FakeResponse:
    if response.events:
        pieces = _cut_before_finish(response.pieces, 1.0 if after is None else after)
        return replace(response, pieces=pieces)
    body = b"".join(response.pieces)
    size = int(len(body) * (0.5 if after is None else after))
    return replace(response, pieces=(body[:size],))


def _cut_before_finish(pieces: tuple[bytes, ...], share: float) -> tuple[bytes, ...]:
    # A quote inside a JSON string is escaped, so these bytes never occur in a text.
    finish = [index for index, piece in enumerate(pieces) if b'"finish_reason":"' in piece]
    pieces = pieces[: finish[0]] if finish else pieces[:-1]
    return pieces[: int(len(pieces) * share)]


def no_done(reply: Reply) -> Reply:
    """End a stream with a finish reason, but without [DONE]."""
    return _change_response(reply, _drop_done)


def _drop_done(response: FakeResponse) -> FakeResponse:
    return replace(response, pieces=tuple(p for p in response.pieces if p != b"data: [DONE]\n\n"))


def error_in_stream(
    reply: Reply, *, after: float = 0.5, error: object = "An internal server error occurred."
) -> Reply:
    """End a stream with `data: {"error": ...}` and [DONE] after a share of its events.

    A request without a stream gets the error with HTTP 500.
    """
    body = openai_error(error) if isinstance(error, str) else {"error": error}
    return _change_response(reply, partial(_add_error_event, after=after, body=body))


def _add_error_event(response: FakeResponse, *, after: float, body: object) -> FakeResponse:
    if not response.events:
        return make_json_response(body, status=500)
    pieces = _cut_before_finish(response.pieces, after)
    error_event = b"data: %b\n\n" % encode_json(body)
    return replace(response, pieces=(*pieces, error_event, b"data: [DONE]\n\n"))


def sse(reply: Reply, *styles: SSEStyle) -> Reply:
    """Write a stream in another valid style; plain JSON is not changed.

    comments: comment lines between the events, as keep-alives. fields: `event:`, `id:` and `retry:`
    besides the data. multiline: the data in several `data:` lines. no_space: `data:` without a
    space. crlf: lines end with CR LF. joined: everything in one write. split: split every 5 bytes,
    also inside events and characters.
    """
    return _change_response(reply, partial(_apply_styles, styles=styles))


def _apply_styles(response: FakeResponse, *, styles: tuple[SSEStyle, ...]) -> FakeResponse:
    if not response.events:
        return response
    pieces = response.pieces
    for style, change in _STYLES.items():
        if style in styles:
            pieces = change(pieces)
    return replace(response, pieces=pieces)


def _add_comments(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(part for piece in pieces for part in (b": keep-alive\n\n", piece))


def _add_fields(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    head = b"event: message\nid: %d\nretry: 1000\n%b"
    return tuple(head % (i, p) if p.startswith(b"data") else p for i, p in enumerate(pieces))


def _split_data_lines(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(re.sub(rb"(?m)^data: (\{.*)$", _split_data, piece) for piece in pieces)


def _split_data(match: re.Match[bytes]) -> bytes:
    text = json.dumps(json.loads(match[1]), ensure_ascii=False, indent=1)
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


# Wrappers of replies


@dataclass(frozen=True, slots=True)
class FixedReply:
    """A reply with the same response to every request."""

    response: FakeResponse

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """Return the response; the request does not matter."""
        del request
        return self.response


@dataclass(frozen=True, slots=True)
class ChangedReply:
    """A reply whose response is changed before it is sent."""

    reply: Reply
    change: Callable[[FakeResponse], FakeResponse]

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """Return the reply's response, changed."""
        return self.change(self.reply.answer(request))


@dataclass(frozen=True, slots=True)
class UnstreamedReply:
    """A reply that is plain JSON also if the request asks for a stream."""

    reply: Reply

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """Return the reply's response to the same request without `stream`."""
        return self.reply.answer(replace(request, body={**request.body, "stream": False}))


def _change_response(reply: Reply, change: Callable[[FakeResponse], FakeResponse]) -> Reply:
    if isinstance(reply, RepeatedReply):
        return RepeatedReply(ChangedReply(reply.reply, change), reply.times)
    return ChangedReply(reply, change)

"""What servers do wrong, on order: statuses, broken bodies, broken streams, broken connections.

A fault is a reply, or a reply wrapped: `reset(slow_loris(say("hi"), every=0.1), after=0.5)`.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from agentcall.testing.refusals import openai_error
from agentcall.testing.script import Completion, Repeated, Reply, say
from agentcall.testing.wire import Answer, Ending, Request, Stop, as_json, json_answer

Style = Literal["comments", "fields", "multiline", "no_space", "crlf", "joined", "split"]

_NOTHING = Completion()


@dataclass(frozen=True, slots=True)
class Fixed:
    """A reply that answers every request alike."""

    fixed: Answer

    def answer(self, request: Request) -> Answer:
        """The same answer, whatever was asked."""
        del request
        return self.fixed


@dataclass(frozen=True, slots=True)
class Changed:
    """A reply whose answer is changed on its way out."""

    reply: Reply
    change: Callable[[Answer], Answer]

    def answer(self, request: Request) -> Answer:
        """The reply's answer, changed."""
        return self.change(self.reply.answer(request))


@dataclass(frozen=True, slots=True)
class Unstreamed:
    """A reply that is plain JSON even to a request for a stream."""

    reply: Reply

    def answer(self, request: Request) -> Answer:
        """The reply's answer to the same request without `stream`."""
        return self.reply.answer(replace(request, body={**request.body, "stream": False}))


def _changed(reply: Reply, change: Callable[[Answer], Answer]) -> Reply:
    if isinstance(reply, Repeated):
        return Repeated(Changed(reply.reply, change), reply.times)
    return Changed(reply, change)


# --- whole answers ---


def status(
    code: int,
    *,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    times: int = 1,
) -> Repeated:
    """An HTTP status, `times` times over.

    `body` is a str or bytes, sent as it is, or a value, sent as JSON; without one it is an error
    body in the words of OpenAI. `headers`: `{"Retry-After": "1"}`.
    """
    made = openai_error(f"status {code} on order", status=code) if body is None else body
    answer = Answer(status=code, headers=headers or {}, pieces=(_encoded(made),))
    return Repeated(Fixed(answer), times)


def _encoded(body: object) -> bytes:
    if isinstance(body, str):
        return body.encode()
    return body if isinstance(body, bytes) else as_json(body)


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
    return say("x" * size).but(size=65_536)


def raw(data: bytes, *, ending: Ending = "close") -> Reply:
    """These very bytes instead of an HTTP answer: half of the headers, or no HTTP at all."""
    return Fixed(Answer(head=data, stop=Stop(ending, after=1.0)))


# --- broken connections ---


def reset(reply: Reply = _NOTHING, *, after: float | None = None) -> Reply:
    """The connection is reset (TCP RST) after a share of the body, or before the headers."""
    return _changed(reply, partial(_stopped, stop=Stop("reset", after)))


def drop(reply: Reply = _NOTHING, *, after: float | None = None) -> Reply:
    """The connection is closed (FIN) after a share of the body, before its promised end."""
    return _changed(reply, partial(_stopped, stop=Stop("close", after)))


def hang(reply: Reply = _NOTHING, *, after: float | None = None) -> Reply:
    """Silence after a share of the body (None: from the start) until the client goes away."""
    return _changed(reply, partial(_stopped, stop=Stop("hang", after)))


def never() -> Reply:
    """No answer: the connection stays open and silent until the client goes away."""
    return hang()


def _stopped(answer: Answer, *, stop: Stop) -> Answer:
    return replace(answer, stop=stop)


def slow_loris(reply: Reply, *, every: float) -> Reply:
    """The body byte by byte, `every` seconds; the headers come at once."""
    return _changed(reply, partial(_dripping, every=every))


def _dripping(answer: Answer, *, every: float) -> Answer:
    return replace(answer, pieces=_recut(answer.pieces, 1), delay=every)


def _recut(pieces: tuple[bytes, ...], size: int) -> tuple[bytes, ...]:
    whole = b"".join(pieces)
    return tuple(whole[start : start + size] for start in range(0, len(whole), size))


def gzipped(reply: Reply) -> Reply:
    """The body in gzip, each piece flushed, with `Content-Encoding: gzip`."""
    return _changed(reply, _compressed)


def _compressed(answer: Answer) -> Answer:
    packer = zlib.compressobj(wbits=31)
    pieces = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in answer.pieces]
    headers = {**answer.headers, "content-encoding": "gzip"}
    return replace(answer, pieces=(*pieces, packer.flush()), headers=headers)


# --- broken streams ---


def unstreamed(reply: Reply) -> Reply:
    """Plain JSON even to a request for a stream (LMDeploy before 0.7.2 when tools are offered)."""
    if isinstance(reply, Repeated):
        return Repeated(Unstreamed(reply.reply), reply.times)
    return Unstreamed(reply)


def cut(reply: Reply, *, after: float | None = None) -> Reply:
    """A stream that ends early but cleanly: no finish reason, no usage, no [DONE].

    It ends after a share of its events; by default all but the last ones. A plain answer is a
    JSON text cut after a share of its bytes (by default half), with the right Content-Length.
    """
    return _changed(reply, partial(_shortened, after=after))


def _shortened(answer: Answer, *, after: float | None) -> Answer:
    if not answer.events:
        whole = b"".join(answer.pieces)
        return replace(
            answer, pieces=(whole[: int(len(whole) * (0.5 if after is None else after))],)
        )
    return replace(answer, pieces=_before_finish(answer.pieces, 1.0 if after is None else after))


def _before_finish(pieces: tuple[bytes, ...], share: float) -> tuple[bytes, ...]:
    # A quote inside of a JSON string is escaped, so these bytes are never in a text.
    finish = [at for at, piece in enumerate(pieces) if b'"finish_reason":"' in piece]
    kept = pieces[: finish[0]] if finish else pieces[:-1]
    return kept[: int(len(kept) * share)]


def no_done(reply: Reply) -> Reply:
    """A stream whose finish reason is there, but that ends without [DONE]."""
    return _changed(reply, _undone)


def _undone(answer: Answer) -> Answer:
    return replace(answer, pieces=tuple(p for p in answer.pieces if p != b"data: [DONE]\n\n"))


def error_in_stream(
    reply: Reply, *, after: float = 0.5, error: object = "An internal server error occurred."
) -> Reply:
    """A stream that breaks off with `data: {"error": ...}` and [DONE] after a share of its events.

    A plain request gets the error with HTTP 500.
    """
    body = openai_error(error) if isinstance(error, str) else {"error": error}
    return _changed(reply, partial(_failing, after=after, body=body))


def _failing(answer: Answer, *, after: float, body: object) -> Answer:
    if not answer.events:
        return json_answer(body, status=500)
    kept = _before_finish(answer.pieces, after)
    return replace(answer, pieces=(*kept, b"data: %b\n\n" % as_json(body), b"data: [DONE]\n\n"))


def sse(reply: Reply, *styles: Style) -> Reply:
    """A stream that is right but written otherwise; a plain answer stays as it is.

    comments: comment lines between the events, as keep-alives; fields: `event:`, `id:` and `retry:`
    beside the data; multiline: the data over several `data:` lines; no_space: `data:` without its
    space; crlf: CR LF line ends; joined: everything in one write; split: cut every 5 bytes,
    through events and through characters.
    """
    return _changed(reply, partial(_restyled, styles=styles))


def _restyled(answer: Answer, *, styles: tuple[Style, ...]) -> Answer:
    if not answer.events:
        return answer
    pieces = answer.pieces
    for style, change in _STYLES.items():
        if style in styles:
            pieces = change(pieces)
    return replace(answer, pieces=pieces)


def _commented(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(part for piece in pieces for part in (b": keep-alive\n\n", piece))


def _with_fields(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    head = b"event: message\nid: %d\nretry: 1000\n%b"
    return tuple(head % (at, p) if p.startswith(b"data") else p for at, p in enumerate(pieces))


def _over_lines(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(re.sub(rb"(?m)^data: (\{.*)$", _spread, piece) for piece in pieces)


def _spread(found: re.Match[bytes]) -> bytes:
    text = json.dumps(json.loads(found[1]), ensure_ascii=False, indent=1)
    return "\n".join(f"data: {line}" for line in text.split("\n")).encode(
        "utf-8", "backslashreplace"
    )


def _without_space(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(re.sub(rb"(?m)^data: ", b"data:", piece) for piece in pieces)


def _with_crlf(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(piece.replace(b"\n", b"\r\n") for piece in pieces)


def _joined(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (b"".join(pieces),)


_STYLES: Mapping[Style, Callable[[tuple[bytes, ...]], tuple[bytes, ...]]] = {
    "comments": _commented,
    "fields": _with_fields,
    "multiline": _over_lines,
    "no_space": _without_space,
    "crlf": _with_crlf,
    "joined": _joined,
    "split": partial(_recut, size=5),
}

"""Recordings of models: requests with their answers, in a JSON file without secrets.

    {"version": 1, "model": {...}, "window": 8192, "exchanges": [{"request": {...}, ...}]}

`model` is the dialect and the settings that the requests were made with; without it the exchanges
have `parts`, the parts of an answer, and else one of:

- `body`: the JSON of an answer in one piece;
- `pieces`: the bytes of a stream as they arrived, as text; `cut` is whether it ended too early;
- `error`: an error of the server.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

from agentcall.errors import (
    BadAnswer,
    ContextOverflow,
    ModelError,
    ModelRefused,
    RateLimited,
    ServerFailed,
    UsageError,
)
from agentcall.messages import JSON
from agentcall.models.errors import UnparsedAnswer, expand_secrets, mask_text
from agentcall.testing.raw_http import FakeResponse, RecordedRequest, encode_json

Fields: TypeAlias = dict[str, Any]  # Any: values of JSON

VERSION = 1
_HIDDEN = "***"
_STREAM_FIELDS = ("stream", "stream_options")
"""Fields that do not count: an answer can be played whole or streamed, as it is asked for."""

_SHORTEST_SECRET = 8
_SECRET = re.compile(
    r"\b(?:(?:sk|pk|rk)(?:-|_live_|_test_)(?=[-\w]{0,200}\d)[-\w]{16,}|(?:hf|gsk|gh[opsu])_\w{20,}"
    r"|github_pat_\w{20,}|glpat-[-\w]{16,}|xox[abprs]-[-\w]{10,}|A[KS]IA[0-9A-Z]{16}\b"
    r"|AIza[-\w]{30,}|nvapi-[-\w]{20,})"
    r"|\beyJ[-\w]{8,999}\.[-\w]{8,9999}\.[-\w]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"]*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?=\")|\Z)"
    r"|(?<=Bearer )[A-Za-z0-9._~+/=-]{16,}|(?<=://)[^\s/:@\"'\\]{1,99}:[^\s/@\"'\\]{1,999}(?=@)"
)
_NAMED_SECRET = re.compile(
    r"""((?:api[_-]?key|(?:access|auth|secret)[_-]?(?:token|key)|password|passwd)\\?["']?\s*[:=]"""
    r"""\s*\\?["']?)((?=[^\s"'\\,;}&]{0,200}\d)[^\s"'\\,;}&]{8,})""",
    re.IGNORECASE,
)
"""A value with a digit: words after a colon are an explanation. Neither pattern goes beyond a
quote, as a piece of a stream is JSON itself, and each looks only so far, as texts may be long."""


@dataclass(slots=True)
class Exchange:
    """A request and its answer, as fields of the file."""

    request: Fields
    answer: Fields


@dataclass(slots=True)
class Recording:
    """What a model was asked and answered.

    model: the dialect and settings of the requests; None if the answers are parts.
    window: the context window of the model in tokens, if it was asked for.
    secrets: what must not be in the file; it is not saved.
    """

    model: Fields | None = None
    window: int | None = None
    exchanges: list[Exchange] = field(default_factory=list[Exchange])
    secrets: set[str] = field(default_factory=set[str])

    def save(self, path: Path) -> None:
        """Write the file, without the secrets and what looks like one."""
        forms = [form for form in expand_secrets(self.secrets) if len(form) >= _SHORTEST_SECRET]
        exchanges = [{"request": each.request, **each.answer} for each in self.exchanges]
        document = {
            "version": VERSION,
            "model": self.model,
            "window": self.window,
            "exchanges": exchanges,
        }
        text = json.dumps(redact(document, forms), indent=1, ensure_ascii=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.part")
        temporary.write_bytes(text.encode("utf-8", "backslashreplace") + b"\n")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a file. Raises UsageError if it is not a recording."""
        try:
            document = json.loads(path.read_text("utf-8"))
            if document["version"] != VERSION:
                raise UsageError(
                    f"{path} is a recording of version {document['version']}, and this agentcall "
                    f"reads version {VERSION}; record it anew"
                )
            exchanges = [Exchange(each.pop("request"), each) for each in document["exchanges"]]
            return cls(document["model"], document.get("window"), exchanges)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} is not a recording of a cassette: {error!r}") from error


def redact(value: Any, forms: Sequence[str] = ()) -> Any:  # Any: a value of JSON
    """Return a value of JSON without these texts, and without what looks like a secret."""
    if isinstance(value, str):
        text = _NAMED_SECRET.sub(rf"\1{_HIDDEN}", _SECRET.sub(_HIDDEN, value))
        return mask_text(text, forms)
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {key: redact(item, forms) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [redact(item, forms) for item in cast("Sequence[Any]", value)]
    return value


# Answers.


def pieces_to_text(pieces: Iterable[bytes]) -> list[str]:
    """Return the pieces of a stream as text; a character that was cut is in the later piece."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    texts = [decoder.decode(piece) for piece in pieces]
    return [text for text in (*texts, decoder.decode(b"", final=True)) if text]


def text_to_bytes(text: str) -> bytes:
    """Return the bytes of a piece."""
    return text.encode("utf-8", "surrogateescape")


_ERRORS: dict[str, type[ModelError]] = {
    kind.__name__: kind
    for kind in (
        ModelRefused,
        RateLimited,
        ServerFailed,
        ContextOverflow,
        UnparsedAnswer,
        BadAnswer,
    )
}


def error_to_json(error: ModelError) -> Fields:
    """Return an error of a server as JSON."""
    return {"kind": type(error).__name__, "message": str(error), **vars(error)}


def error_from_json(fields: Fields) -> ModelError:
    """Return the error that `error_to_json` was given."""
    attributes = dict(fields)
    kind = _ERRORS.get(attributes.pop("kind"), ModelRefused)
    error = kind.__new__(kind)
    error.args = (attributes.pop("message"),)
    vars(error).update(attributes)
    return error


@dataclass(frozen=True, slots=True)
class RecordedReply:
    """A recorded answer as a reply of a `FakeServer` or a `ScriptedModel`."""

    answer_fields: Fields

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """Return the answer as it was recorded, whatever the request is."""
        match self.answer_fields:
            case {"error": {"status": int(status), "body": str(body)}}:
                error = encode_json({"error": {"message": body}})
                return FakeResponse(status=status, pieces=(error,))
            case {"pieces": pieces}:
                return FakeResponse(pieces=tuple(map(text_to_bytes, pieces)), events=True)
            case {"body": body}:
                return FakeResponse(pieces=(encode_json(body),))
            case _:
                raise UsageError("this answer was recorded in parts, which no server sends")


# Differences.


def normalize_request(body: Fields) -> Fields:
    """Return what counts when a request is compared with a recorded one."""
    return {key: redact(value) for key, value in body.items() if key not in _STREAM_FIELDS}


_MAX_DIFFERENCES = 5
_SHOWN = 60


def describe_differences(recorded: JSON, sent: JSON) -> str:
    """Return the first differences of two requests, one after the other."""
    found = list(_iterate_differences("", recorded, sent))
    lines = found[:_MAX_DIFFERENCES]
    if len(found) > _MAX_DIFFERENCES:
        lines.append(f"  and {len(found) - _MAX_DIFFERENCES} more differences")
    return "\n".join(lines)


def _iterate_differences(path: str, recorded: JSON, sent: JSON) -> Iterator[str]:
    if recorded == sent:
        return
    if isinstance(recorded, dict) and isinstance(sent, dict):
        for key in dict.fromkeys((*recorded, *sent)):
            where = f"{path}.{key}" if path else key
            if key not in sent:
                yield f"  {where}: recorded {_shorten(recorded[key])}, not sent"
            elif key not in recorded:
                yield f"  {where}: sent {_shorten(sent[key])}, not recorded"
            else:
                yield from _iterate_differences(where, recorded[key], sent[key])
        return
    if isinstance(recorded, list) and isinstance(sent, list):
        for index, (one, other) in enumerate(zip(recorded, sent, strict=False)):
            yield from _iterate_differences(f"{path}[{index}]", one, other)
        if len(recorded) != len(sent):
            yield f"  {path}: {len(recorded)} recorded, {len(sent)} sent"
        return
    if isinstance(recorded, str) and isinstance(sent, str):
        start = _count_equal(recorded, sent)
        start = max(0, start - _SHOWN // 3) if max(len(recorded), len(sent)) > _SHOWN else 0
        before = "..." if start else ""
        recorded, sent = before + recorded[start:], before + sent[start:]
    yield f"  {path}:\n    recorded {_shorten(recorded)}\n    sent     {_shorten(sent)}"


def _count_equal(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (one, other) in pairs if one != other), min(len(first), len(second)))


def _shorten(value: JSON) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."

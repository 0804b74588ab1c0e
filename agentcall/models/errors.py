"""An error body becomes a typed error, whichever server sent it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote

import orjson

from agentcall.errors import (
    BadAnswer,
    ContextOverflow,
    ModelError,
    ModelRefused,
    RateLimited,
    ServerFailed,
)
from agentcall.messages import JSON

Failure = TypeVar("Failure", bound=ModelError)

_OVERFLOW_PATTERN = re.compile(
    r"context[ _]length|context[ _](?:size|window)|maximum (?:context|sequence)|exceed_context"
    r"|too many (?:input )?tokens|prompt is too long|input (?:is too long|length)"
    r"|model context length|session_len|longer than the (?:model|context)",
    re.IGNORECASE,
)
"""What LMDeploy, vLLM, llama.cpp, SGLang, Ollama and OpenAI say of a conversation too long."""

_NO_VISION_PATTERN = re.compile(
    r"multimodal input is not supported|(?:not|n't) support (?:\w+ ){0,2}(?:image|vision)"
    r"|(?:image|vision)s? (?:\w+ ){0,2}(?:is|are) not supported|not a multimodal model"
    r"|at most 0 image|missing data required for image",
    re.IGNORECASE,
)
"""What LMDeploy, llama.cpp, vLLM, SGLang and Ollama say of an image to a model that sees none."""

_NO_VISION_ADVICE = (
    "the model takes no images: serve one that does, such as InternVL2, or leave them out"
)
_LOST_NODE_PATTERN = re.compile(rb'\s*\{\s*"error_code"\s*:\s*1040[12]\b')
_PATH_ADVICE = "check the base URL (it usually ends in /v1) and the model's name"
_ADVICE = {
    401: "check the API key (api_key=, or AGENTCALL_API_KEY)",
    403: "check the API key and what it may do",
    404: _PATH_ADVICE,
    405: _PATH_ADVICE,
    413: "the request is larger than the server takes",
    422: "the server does not know a field of the request",
}


def parse_error_response(
    status: int, body: JSON | bytes, *, url: str = "", retry_after: float | None = None
) -> ModelRefused:
    """The error that a status and an error body say; `retry_after` in seconds."""
    if isinstance(body, bytes):
        body = _decode_body(body)
    reason = extract_error_message(body)
    where = f" at {url}" if url else ""
    message = f"the server{where} answered {status}: {reason}"
    if status in (400, 413, 422, 500) and _OVERFLOW_PATTERN.search(
        f"{reason} {_get_error_type(body)}"
    ):
        return ContextOverflow(message, status=status, body=reason)
    if status in (400, 415, 422, 500, 501) and _NO_VISION_PATTERN.search(reason):
        return ModelRefused(f"{message}; {_NO_VISION_ADVICE}", status=status, body=reason)
    if status in (408, 409, 425, 429):
        return RateLimited(message, status=status, body=reason, retry_after=retry_after)
    if status >= 500 and status != 501:
        return ServerFailed(message, status=status, body=reason, retry_after=retry_after)
    advice = _ADVICE.get(status)
    return ModelRefused(f"{message}; {advice}" if advice else message, status=status, body=reason)


def build_not_json_error(data: bytes, server_url: str) -> BadAnswer:
    """The error for a good status with a body that is no JSON."""
    text = shorten_body(data[:1024].decode("utf-8", "replace")) or "(nothing)"
    return BadAnswer(
        f"{server_url} did not answer with JSON: {text}; is the base URL right? It usually "
        "ends in /v1"
    )


def is_lost_node(data: bytes) -> bool:
    """Whether LMDeploy's proxy says, with status 200, that a node of it does not answer.

    Source: lmdeploy 0.18.0 serve/proxy/utils.py (ErrorCodes), proxy.py (handle_api_timeout).
    """
    return _LOST_NODE_PATTERN.match(data) is not None


def build_lost_node_error(data: bytes, server_url: str) -> ServerFailed:
    """The error that says so: the proxy goes on choosing that node until it is taken out, so it is
    worth waiting a little.
    """
    reason = extract_error_message(_decode_body(data))
    message = f"a node behind the proxy at {server_url} does not answer: {reason}"
    return ServerFailed(message, status=503, body=reason, retry_after=2.0)


def mask_secrets(error: Failure, secrets: Iterable[str]) -> Failure:
    """The same error, its words without the secrets, whether they are quoted or encoded there."""
    forms = expand_secrets(secrets)
    if any(form in f"{error} {getattr(error, 'body', '')}" for form in forms):
        error.args = tuple(mask_text(str(arg), forms) for arg in error.args)
        if isinstance(error, ModelRefused):
            error.body = mask_text(error.body, forms)
    return error


def mask_text(text: str, forms: Iterable[str]) -> str:
    """The text with `***` for each of the forms that `forms_of` gave."""
    for form in forms:
        text = text.replace(form, "***")
    return text


def expand_secrets(secrets: Iterable[str]) -> Sequence[str]:
    """What these secrets may look like in a text, the longest first."""
    return sorted({form for secret in secrets for form in _expand_secret(secret)}, key=len)[::-1]


def _expand_secret(secret: str) -> Iterable[str]:
    """What a secret looks like in the words of a server; nothing that is too short to be one."""
    scheme, _, rest = secret.rpartition(" ")
    forms = [rest]
    if scheme == "Basic":
        with suppress(ValueError):
            forms += base64.b64decode(rest).decode().split(":", 1)
    return [form for bare in forms for form in (bare, quote(bare, safe="")) if len(bare) > 2]


def shorten_body(body: object) -> str:
    """At most 300 characters of a body, for an error message."""
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "..."


def extract_error_message(body: JSON) -> str:
    """What an error body says: `error.message`, `message`, `detail`, or a page's own words."""
    if isinstance(body, Mapping):
        error = body.get("error")
        inner = error if isinstance(error, Mapping) else body
        for key in ("message", "detail", "error", "msg", "text"):
            if inner.get(key):
                return _to_text(inner[key])[:1024]
    text = _to_text(body) if body else ""
    if "<html" in text[:1024].lower() or "<!doctype" in text[:1024].lower():
        text = re.sub(r"<[^<>]{0,200}>", " ", text[:8192])
    return " ".join(text.split())[:1024] or "(an empty body)"


def _to_text(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _decode_body(data: bytes) -> JSON:
    try:
        found: JSON = orjson.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")
    return found


def _get_error_type(body: JSON) -> str:
    error = body.get("error") if isinstance(body, Mapping) else None
    inner = error if isinstance(error, Mapping) else body
    if not isinstance(inner, Mapping):
        return ""
    return f"{inner.get('type')} {inner.get('code')}"


def parse_retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks to wait: a number, or a date (RFC 9110, 10.2.3)."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    if when.tzinfo is None:  # the date's zone is "-0000"
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - (now or datetime.now(timezone.utc))).total_seconds())

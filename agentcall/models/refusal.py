"""An error body becomes a typed error, whichever server sent it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from agentcall.errors import ContextOverflow, ModelRefused, RateLimited, ServerFailed
from agentcall.messages import JSON

_OVERFLOW = re.compile(
    r"context[ _]length|context[ _](?:size|window)|maximum (?:context|sequence)|exceed_context"
    r"|too many (?:input )?tokens|prompt is too long|input (?:is too long|length)"
    r"|model context length|session_len|longer than the (?:model|context)",
    re.IGNORECASE,
)
"""What LMDeploy, vLLM, llama.cpp, SGLang, Ollama and OpenAI say of a conversation too long."""

_ADVICE = {
    401: "check the API key (api_key=, or AGENTCALL_API_KEY)",
    403: "check the API key and what it may do",
    404: "check the base URL (it usually ends in /v1) and the model's name",
    413: "the request is larger than the server takes",
    422: "the server does not know a field of the request",
}


def refusal(
    status: int, body: JSON | str, *, url: str = "", retry_after: float | None = None
) -> ModelRefused:
    """The error that a status and an error body say; `retry_after` in seconds."""
    said = message_of(body)
    where = f" at {url}" if url else ""
    told = f"the server{where} answered {status}: {said}"
    cut = said[:1024]
    if status in (400, 413, 422, 500) and _OVERFLOW.search(f"{said} {_kind(body)}"):
        return ContextOverflow(told, status=status, body=cut)
    if status in (408, 409, 425, 429):
        return RateLimited(told, status=status, body=cut, retry_after=retry_after)
    if status >= 500:
        return ServerFailed(told, status=status, body=cut, retry_after=retry_after)
    advice = _ADVICE.get(status)
    return ModelRefused(f"{told}; {advice}" if advice else told, status=status, body=cut)


def message_of(body: JSON | str) -> str:
    """What an error body says: `error.message`, `message`, `detail`, or a page's own words."""
    if isinstance(body, Mapping):
        error = body.get("error")
        inner = error if isinstance(error, Mapping) else body
        for key in ("message", "detail", "error", "msg"):
            if inner.get(key):
                return str(inner[key])[:1024]
    text = str(body or "")
    if "<html" in text[:1024].lower() or "<!doctype" in text[:1024].lower():
        text = re.sub(r"<[^<>]{0,200}>", " ", text[:8192])
    return " ".join(text.split())[:1024] or "(an empty body)"


def _kind(body: JSON | str) -> str:
    error = body.get("error") if isinstance(body, Mapping) else None
    inner = error if isinstance(error, Mapping) else body
    if not isinstance(inner, Mapping):
        return ""
    return f"{inner.get('type')} {inner.get('code')}"


def retry_after_of(header: str | None, now: datetime | None = None) -> float | None:
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
    return max(0.0, (when - (now or datetime.now(timezone.utc))).total_seconds())

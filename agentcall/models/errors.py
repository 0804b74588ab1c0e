"""Convert error responses of any server to typed errors, and remove secrets from messages."""

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
from agentcall.models.adaptations import is_refusal

Failure = TypeVar("Failure", bound=ModelError)

_OVERFLOW_PATTERN = re.compile(
    r"context[ _]length|context[ _](?:size|window)|maximum (?:context|sequence)|exceed_context"
    r"|too many (?:input )?tokens|prompt is too long|input (?:is too long|length)"
    r"|model context length|session_len|longer than the (?:model|context)"
    r"|`inputs` (?:must have less than|tokens \+ `max_new_tokens` must be)|greater than max_seq_len"
    r"|reduce the length of|(?<!daily )token limit exceeded|tokens limit exceeded"
    r"|exceeded model token limit|超过最大长度|超出最大长度",
    re.IGNORECASE,
)
"""Matches how a too long prompt is refused: LMDeploy, vLLM, llama.cpp, SGLang, Ollama, OpenAI, TGI
(`inputs`), TabbyAPI (max_seq_len), Moonshot and Zhipu."""

_NO_VISION_PATTERN = re.compile(
    r"multimodal input is not supported|(?:not|n't) support (?:\w+ ){0,2}(?:image|vision)"
    r"|(?:image|vision)s? (?:\w+ ){0,2}(?:is|are) not supported|not a multimodal model"
    r"|at most 0 image|missing data required for image|no endpoints found that support image",
    re.IGNORECASE,
)
"""Matches how LMDeploy, llama.cpp, vLLM, SGLang, Ollama and OpenRouter refuse images for a text
model."""

_NO_VISION_ADVICE = (
    "the model does not accept images: serve one that does, such as InternVL2, or remove them"
)
_MODEL_GONE_PATTERN = re.compile(
    r"model.{0,100}(?:not found|(?:does not|doesn't|not) exist|not (?:loaded|available|served)"
    r"|no longer|unloaded|not a valid)|(?:no such|unknown|invalid|unsupported) model"
    r"|model_not_found|not a valid model|no models? (?:is |are )?loaded",
    re.IGNORECASE | re.DOTALL,
)
"""Matches how vLLM, LMDeploy, Ollama, LM Studio, LiteLLM and OpenRouter miss a model."""

_LOST_NODE_PATTERN = re.compile(rb'\s*\{\s*"error_code"\s*:\s*1040[12]\b')
_PATH_ADVICE = "check the base URL (it usually ends in /v1) and the model's name"
_ADVICE = {
    401: "check the API key (api_key=, or AGENTCALL_API_KEY)",
    403: "check the API key and its permissions",
    404: _PATH_ADVICE,
    405: _PATH_ADVICE,
    407: "the proxy asks for credentials (http://user:password@host:port)",
    413: "the request is larger than the server accepts",
    422: "the server does not know a field of the request",
}


class UnparsedAnswer(ModelRefused):
    """The server failed to parse the answer that its model had written.

    text: what the model wrote, or its end, as far as the error has it.
    is_whole: whether the text is all of the answer.
    """

    def __init__(
        self, message: str, *, status: int, body: str, text: str = "", is_whole: bool = False
    ) -> None:
        super().__init__(message, status=status, body=body)
        self.text = text
        self.is_whole = is_whole


_UNPARSED_PATTERN = (
    r"Failed to parse input(?: at pos (?P<position>\d+))?(?:: (?P<text>.*))?"
    r"|Failed to parse tool call|Invalid diff: |Error in extracting tool call"
    r"|tool call validation failed|Failed to call a function"
    r"|error parsing tool call|XML syntax error on line \d+: "
    r"|Failed to parse fc related info"
    r"|expecting start token|tokens remaining in message header"
)
"""Matches how llama.cpp, LM Studio, Ollama, LMDeploy, vLLM and Groq report an answer that they
cannot parse. llama.cpp adds the text from the position on: common/chat.cpp, common_chat_peg_parse.
"""
_UNPARSED_STATUSES = (400, 422, 500, 502)


def _find_unparsed_answer(status: int, body: JSON, message: str) -> UnparsedAnswer | None:
    """Return the error for an answer that the server could not parse; None for any other error."""
    if status not in _UNPARSED_STATUSES:
        return None
    details = body.get("error") if isinstance(body, Mapping) else None
    generation = details.get("failed_generation") if isinstance(details, Mapping) else None
    full = _find_message(body)
    reason = shorten_body(extract_error_message(body))
    if isinstance(generation, str):  # Groq, and gateways that follow it
        return UnparsedAnswer(message, status=status, body=reason, text=generation, is_whole=True)
    match = re.search(_UNPARSED_PATTERN, full, re.DOTALL)
    if match is None:
        return None
    is_encoded = not isinstance(body, Mapping) and full.lstrip().startswith(("{", "["))
    text = "" if is_encoded else match["text"] or ""
    is_whole = match["position"] == "0"
    return UnparsedAnswer(message, status=status, body=reason, text=text, is_whole=is_whole)


def parse_error_response(
    status: int, body: JSON | bytes, *, url: str = "", retry_after: float | None = None
) -> ModelRefused:
    """Return the error for an HTTP status and an error body; `retry_after` is in seconds."""
    if isinstance(body, bytes):
        body = _decode_body(body)
    reason = extract_error_message(body)
    location = f" at {url}" if url else ""
    message = f"the server{location} answered {status}: {reason}"
    unparsed = _find_unparsed_answer(status, body, message)
    if unparsed is not None:  # first, as the model's text may contain any words
        return unparsed
    if status in (400, 413, 422, 500) and _OVERFLOW_PATTERN.search(
        f"{reason} {_get_error_type(body)}"
    ):
        return ContextOverflow(message, status=status, body=reason)
    if status in (400, 404, 415, 422, 500, 501) and _NO_VISION_PATTERN.search(reason):
        return ModelRefused(f"{message}; {_NO_VISION_ADVICE}", status=status, body=reason)
    if status in (408, 409, 425, 429):
        return RateLimited(message, status=status, body=reason, retry_after=retry_after)
    if status >= 500 and status != 501 and not (status == 500 and is_refusal(reason)):
        return ServerFailed(message, status=status, body=reason, retry_after=retry_after)
    advice = _ADVICE.get(status)
    return ModelRefused(f"{message}; {advice}" if advice else message, status=status, body=reason)


_WINDOW_PATTERN = r"context (?:length|size|window)(?: is| of)?(?: only)? ?\(?(\d+)"


def find_window(refusal: str) -> int | None:
    """Return the window that the refusal of a too long prompt names, in tokens."""
    match = re.search(_WINDOW_PATTERN, refusal, re.IGNORECASE)
    return int(match.group(1)) or None if match else None


def is_model_gone(refused: ModelRefused) -> bool:
    """Whether a server says that it does not have the model of a request."""
    if refused.status not in (400, 404, 410, 422):
        return False
    return _MODEL_GONE_PATTERN.search(refused.body) is not None


def build_not_json_error(data: bytes, server_url: str) -> BadAnswer:
    """Return the error for a successful response whose body is not JSON."""
    text = shorten_body(data[:1024].decode("utf-8", "replace")) or "(nothing)"
    return BadAnswer(
        f"{server_url} did not answer with JSON: {text}; is the base URL right? It usually "
        "ends in /v1"
    )


def is_lost_node(data: bytes) -> bool:
    """Whether LMDeploy's proxy reports, under HTTP 200, that one of its nodes does not answer.

    Source: lmdeploy 0.18.0 serve/proxy/utils.py (ErrorCodes), proxy.py (handle_api_timeout).
    """
    return _LOST_NODE_PATTERN.match(data) is not None


def build_lost_node_error(data: bytes, server_url: str) -> ServerFailed:
    """Return the error for `is_lost_node`; it asks for a pause of 2 seconds.

    The proxy keeps choosing the lost node until it has removed it from its list.
    """
    reason = extract_error_message(_decode_body(data))
    message = f"a node behind the proxy at {server_url} does not answer: {reason}"
    return ServerFailed(message, status=503, body=reason, retry_after=2.0)


def mask_secrets(error: Failure, secrets: Iterable[str]) -> Failure:
    """Remove the secrets, plain or encoded, from the message and body of an error; return it."""
    forms = expand_secrets(secrets)
    if any(form in f"{error} {getattr(error, 'body', '')}" for form in forms):
        error.args = tuple(mask_text(str(arg), forms) for arg in error.args)
        if isinstance(error, ModelRefused):
            error.body = mask_text(error.body, forms)
    return error


def mask_text(text: str, forms: Iterable[str]) -> str:
    """Replace each of these forms (see `expand_secrets`) in a text by `***`."""
    for form in forms:
        text = text.replace(form, "***")
    return text


def expand_secrets(secrets: Iterable[str]) -> Sequence[str]:
    """Return the forms in which these secrets may appear in a text, the longest first."""
    return sorted({form for secret in secrets for form in _expand_secret(secret)}, key=len)[::-1]


def _expand_secret(secret: str) -> Iterable[str]:
    scheme, _, value = secret.rpartition(" ")
    forms = [value]
    if scheme == "Basic":
        with suppress(ValueError):
            forms += base64.b64decode(value).decode().split(":", 1)
    # One or two characters are too short for a secret, and would mask ordinary text.
    return [form for raw in forms for form in (raw, quote(raw, safe="")) if len(raw) > 2]


def shorten_body(body: object) -> str:
    """Return at most 300 characters of a body, for an error message."""
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "..."


def extract_error_message(body: JSON) -> str:
    """Return at most 1,024 characters of the message of an error body, or of its text."""
    text = _find_message(body)
    if body and isinstance(body, Mapping) and text != _to_text(body):
        return text[:1024]
    if "<html" in text[:1024].lower() or "<!doctype" in text[:1024].lower():
        text = re.sub(r"<[^<>]{0,200}>", " ", text[:8192])
    return " ".join(text.split())[:1024] or "(an empty body)"


def _find_message(body: JSON) -> str:
    """Return `error.message`, `message` or `detail` of an error body, or all of its text.

    A gateway's message is followed by the provider's (`error.metadata.raw` of OpenRouter).
    """
    if isinstance(body, Mapping):
        error = body.get("error")
        inner = error if isinstance(error, Mapping) else body
        for key in ("message", "detail", "error", "msg", "text"):
            if value := inner.get(key):
                metadata = inner.get("metadata")
                raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
                return ": ".join(map(_to_text, (value, raw) if raw else (value,)))
    return _to_text(body) if body else ""


def _to_text(value: JSON) -> str:
    if isinstance(value, str):
        return value
    problems = value.get("detail") if isinstance(value, Mapping) else value
    if problems and isinstance(problems, list) and all(map(_is_problem, problems)):
        return "; ".join(map(_format_problem, problems))
    return json.dumps(value, ensure_ascii=False, default=str)


def _is_problem(value: JSON) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("loc"), list)


def _format_problem(problem: JSON) -> str:
    """Return a validation error of FastAPI without its input: `body.messages.0: too long`."""
    match problem:
        case {"loc": [*path], "msg": message}:
            return f"{'.'.join(map(str, path))}: {message}"
        case _:
            return _to_text(problem)


def _decode_body(data: bytes) -> JSON:
    try:
        body: JSON = orjson.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")
    return body


def _get_error_type(body: JSON) -> str:
    error = body.get("error") if isinstance(body, Mapping) else None
    inner = error if isinstance(error, Mapping) else body
    if not isinstance(inner, Mapping):
        return ""
    return f"{inner.get('type')} {inner.get('code')}"


def parse_retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds of a `Retry-After` header: a number, or a date (RFC 9110, 10.2.3)."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    if date.tzinfo is None:  # the date's zone is "-0000"
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - (now or datetime.now(timezone.utc))).total_seconds())

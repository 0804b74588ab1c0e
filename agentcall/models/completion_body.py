"""Parses the body of a chat completion, or of one chunk of it.

Formats: the chat completion object and the chat completion chunk object of the OpenAI API
reference. Also accepted, as servers and gateways send them:

- errors: flat error bodies and errors under HTTP 200 (LMDeploy);
- choices: a `message` in place of a `delta` or the reverse, the `text` of a legacy completion, or
  no choices but a `message` (Ollama's own API);
- content: a list of parts, with thinking (Mistral) and calls (gateways to Anthropic) among them, or
  a JSON value, which stands for its text;
- thinking: `reasoning_content`, `reasoning`, `thinking`, or OpenRouter's `reasoning_details`;
- calls: arguments as an object or under another name, one call that is not in a list (TGI), the
  list as text, the legacy `function_call`;
- finish reasons of other APIs, which are mapped to OpenAI's;
- usage: as text, as floats, with the names of other APIs, beside the choice, in pieces (Groq,
  Ollama, llama.cpp). A count that is missing, zero or impossible is None.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from agentcall.dialects.answer_parts import MessageDelta, ToolCallDelta
from agentcall.errors import BadAnswer, RateLimited
from agentcall.messages import JSON
from agentcall.models.errors import parse_error_response, shorten_body

CompletionBody = Mapping[str, JSON]

_OTHER_ROLES = ("system", "developer", "user", "tool", "function")
"""Roles that an answer cannot have; an unknown role is accepted as the model's own."""

_FINISH_REASONS = {
    "length": (
        "length",
        "max_tokens",
        "max_length",
        "max_output_tokens",
        "model_length",
        "model_context_window_exceeded",
        "token_limit",
    ),
    "content_filter": (
        "content_filter",
        "content-filter",
        "content_filtered",
        "safety",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "sensitive",
        "refusal",
        "guardrail_intervened",
    ),
    "error": (
        "error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "failed",
        "network_error",
        "timeout",
        "insufficient_system_resource",
        "internal_error",
        "malformed_function_call",
    ),
    "": ("null", "none", "finish_reason_unspecified"),
}
_FINISH_REASON_BY_ALIAS = {
    alias: reason for reason, aliases in _FINISH_REASONS.items() for alias in aliases
}
"""OpenAI's finish reasons by those of Anthropic, Gemini, Bedrock, Mistral, Zhipu, DeepSeek and
vLLM; "error" stands for an answer that the server abandoned, and "" for none."""

_OTHER_USAGES = frozenset({"usage_metadata", "x_groq", "timings", "eval_count"})
_OTHER_FIELDS = frozenset(
    ("tool_calls", "function_call", "refusal", "reasoning", "thinking", "reasoning_details")
)
_ARGUMENT_ALIASES = ("parameters", "input", "args")
_MAX_COUNT = 10**12


class TokenCounts(NamedTuple):
    """The tokens that a server reports for one request; None if it does not report them."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None

    def merge(self, other: TokenCounts) -> TokenCounts:
        """Return the larger of both counts: servers report in pieces, or as they count."""
        return TokenCounts(
            *(
                max((count for count in pair if count is not None), default=None)
                for pair in zip(self, other, strict=True)
            )
        )


class CompletionChunk(NamedTuple):
    """The content of one body or chunk: a delta, and the finish reason and usage if it has them.

    is_message: the delta was a whole `message`, which may repeat the deltas before it.
    """

    delta: MessageDelta
    finish_reason: str | None = None
    usage: TokenCounts | None = None
    is_message: bool = False


def decode_json(data: bytes) -> JSON:
    """Decode the JSON of a body or an event. Raises ValueError.

    Bytes that are not UTF-8 and lone surrogates, which servers send when a token ends inside a
    character, become U+FFFD. Control characters in strings are accepted.
    """
    try:
        value: JSON = orjson.loads(data)
    except ValueError:  # orjson is strict, also about NaN
        text = data.decode(json.detect_encoding(data), "replace")
        try:
            text = json.dumps(json.loads(text, strict=False), ensure_ascii=False)
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error
        value = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return value


def parse_completion(body: JSON) -> CompletionChunk:
    """Parse a complete answer. Raises ModelRefused or BadAnswer."""
    checked = _require_body(body)
    choice = _find_choice(checked, 0) or _find_choice(checked, find_first_choice(body))
    if choice is None:
        raise _make_no_answer_error(body, "choices")
    message = choice.get("message")
    if not (message and isinstance(message, dict)):
        message = _find_message(choice)
    if message is None:
        raise _make_no_answer_error(body, "message")
    text, thinking, calls, _ = _parse_delta(message)
    delta = MessageDelta(text, thinking, renumber_calls(calls) if calls else ())
    return CompletionChunk(delta, _get_finish_reason(choice), parse_usage(checked, choice))


def renumber_calls(calls: Iterable[ToolCallDelta]) -> tuple[ToolCallDelta, ...]:
    """Give each call of a whole message its own index: they are complete, and not pieces."""
    return tuple([ToolCallDelta(index, *call[1:]) for index, call in enumerate(calls)])


def parse_chunk(body: JSON, index: int = 0) -> CompletionChunk:
    """Parse one chunk of a stream: its choice with this index, if it has one, and its usage."""
    checked = _require_body(body)
    choice = _find_choice(checked, index)
    if choice is None:
        return CompletionChunk(MessageDelta(), None, parse_usage(checked))
    message = choice.get("delta")
    is_message = False
    if not (message and isinstance(message, dict)):
        message = _find_message(choice)
        is_message = message is not None and message is choice.get("message")
    return CompletionChunk(
        _parse_delta(message) if message else MessageDelta(),
        _get_finish_reason(choice),
        parse_usage(checked, choice),
        is_message,
    )


def _require_body(body: JSON) -> CompletionBody:
    if not isinstance(body, dict):
        raise BadAnswer(f"the server's answer is not a JSON object: {shorten_body(body)}")
    error = body.get("error")
    if error or body.get("object") == "error" or _is_notice(body):  # under HTTP 200, or in a stream
        code = error.get("code") if isinstance(error, dict) else body.get("code")
        number = _parse_index(code)
        status = number if number is not None and 400 <= number < 600 else 500
        refusal = parse_error_response(status, body)
        # The answer has begun, so a transient error cannot be retried here: the run repeats the
        # request after a BadAnswer.
        raise BadAnswer(str(refusal)) if isinstance(refusal, RateLimited) else refusal
    return body


def _make_no_answer_error(body: JSON, missing: str) -> Exception:
    """Return the error for a body under HTTP 200 that has no answer, but perhaps a refusal."""
    refusal = parse_error_response(500, body)
    if isinstance(refusal, RateLimited):  # as any other error
        return BadAnswer(f"the server's answer has no {missing}: {shorten_body(body)}")
    return refusal


def _is_notice(body: CompletionBody) -> bool:
    """Whether it has a `detail`, or a message and a code, in place of an answer: an error."""
    if "choices" in body:
        return False
    message = body.get("message", body.get("msg")) if "code" in body else None
    return isinstance(body.get("detail"), str) or isinstance(message, str)


# The choice


def _list_odd_choices(body: CompletionBody) -> Sequence[JSON]:
    """Return the choices of a body in which they are not a list."""
    choices = body.get("choices")
    if isinstance(choices, dict):
        return [choices]
    if choices is None and isinstance(body.get("message"), dict):  # Ollama's own API
        return [{**body, "finish_reason": body.get("done_reason") if body.get("done") else None}]
    return ()


def find_first_choice(body: JSON) -> int | None:
    """Return the index of the choice to read: 0 if there is one, else the first; None if none."""
    if not isinstance(body, dict):
        return None
    listed = body.get("choices")
    choices = listed if isinstance(listed, list) else _list_odd_choices(body)
    if not choices:
        return None
    indexes = [
        _parse_index(choice.get("index")) or 0 for choice in choices if isinstance(choice, dict)
    ]
    return 0 if 0 in indexes or not indexes else indexes[0]


def _find_choice(body: CompletionBody, index: int | None) -> CompletionBody | None:
    """Return the choice with this index; None if there is none."""
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else _list_odd_choices(body):
        if not isinstance(choice, dict):
            raise BadAnswer(f"a choice is not a JSON object: {shorten_body(body)}")
        choice_index = choice.get("index")
        if choice_index == index or (_parse_index(choice_index) or 0) == index:
            return choice
    return None


def _parse_index(index: JSON) -> int | None:
    """Return the index, which servers send as a number or as text; None if there is none."""
    if index is None or type(index) is int:
        return index
    if isinstance(index, str) and index.strip().isdecimal():
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return None


def _find_message(choice: CompletionBody) -> CompletionBody | None:
    """Return the message of a choice that lacks its usual field; None if there is none."""
    found = [v for name in ("message", "delta") if isinstance(v := choice.get(name), dict)]
    if not any(found) and isinstance(choice.get("text"), str):
        return {"content": choice["text"]}
    return next(filter(None, found), found[0] if found else None)


def _get_finish_reason(choice: CompletionBody) -> str | None:
    reason = choice.get("finish_reason")
    if not reason or not isinstance(reason, str):
        return None
    return _FINISH_REASON_BY_ALIAS.get(reason.lower(), reason) or None


# The message


def _parse_delta(message: CompletionBody) -> MessageDelta:
    if message.get("role") in _OTHER_ROLES:
        raise BadAnswer(
            f"the server answered with the role {message['role']!r}: {shorten_body(message)}"
        )
    content: JSON = message.get("content") or ""
    thinking: JSON = message.get("reasoning_content") or ""
    calls: tuple[ToolCallDelta, ...] = ()
    if not _OTHER_FIELDS.isdisjoint(message):
        content = content or message.get("refusal") or ""
        thinking = (
            thinking
            or message.get("reasoning")
            or message.get("thinking")
            or message.get("reasoning_details")
            or ""
        )
        calls = _parse_tool_calls(message)
    if isinstance(content, str) and isinstance(thinking, str):
        return MessageDelta(content, thinking, calls)
    return _parse_parts(content, thinking, calls)


def _parse_parts(content: JSON, thinking: JSON, calls: tuple[ToolCallDelta, ...]) -> MessageDelta:
    """Parse a message whose content or thinking is not plain text."""
    texts: list[str] = []
    thoughts = [_join_text(thinking)]
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, dict) and kind in ("thinking", "reasoning"):
            thoughts.append(_join_text(part.get("thinking") or part))
        elif isinstance(part, dict) and kind in ("tool_use", "tool_call") and part.get("name"):
            calls += (_parse_tool_call(part),)
        elif kind is not None or isinstance(part, str) or isinstance(content, list):
            texts.append(_join_text(part))
    text = "".join(texts)
    if content and not (text or calls or _has_typed_part(content)):  # a gateway parsed the JSON
        text = json.dumps(content, ensure_ascii=False)
    return MessageDelta(text, "".join(thoughts), calls)


def _has_typed_part(content: JSON) -> bool:
    parts = content if isinstance(content, list) else [content]
    return any(isinstance(part, dict) and "type" in part for part in parts)


def _join_text(content: JSON) -> str:
    """Return a text, or the texts of a part or of several."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return _join_text(content.get("text") or content.get("content") or content.get("summary"))
    if isinstance(content, list):
        return "".join(map(_join_text, content))
    return ""


# The calls


def _parse_tool_calls(message: CompletionBody) -> tuple[ToolCallDelta, ...]:
    calls = message.get("tool_calls")
    if not calls:
        legacy = message.get("function_call")
        return (
            (_parse_tool_call({"index": 0, "function": legacy}),)
            if isinstance(legacy, dict)
            else ()
        )
    if isinstance(calls, str):
        with suppress(ValueError):
            calls = decode_json(calls.encode("utf-8", "replace"))
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list):
        raise BadAnswer(f"tool_calls is not a list: {shorten_body(message)}")
    return tuple([_parse_tool_call(call) for call in calls if isinstance(call, dict)])


def _parse_tool_call(call: CompletionBody) -> ToolCallDelta:
    function = call.get("function")
    fields = function if isinstance(function, dict) else call
    name = function if isinstance(function, str) else fields.get("name")
    arguments = fields.get("arguments")
    if arguments is None:
        arguments = next((fields[key] for key in _ARGUMENT_ALIASES if key in fields), None)
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    index, call_id = call.get("index"), call.get("id")
    return ToolCallDelta(
        _parse_index(index),
        str(call_id) if call_id else "",
        name if isinstance(name, str) else "",
        arguments or "",
    )


def find_extra_contents(body: Any) -> dict[str, JSON]:  # Any: an odd form has none
    """Return `extra_content` of the calls in a body or chunk by call id.

    Gemini's signatures of thoughts are there, and have to come back with the call.
    """
    found: dict[str, JSON] = {}
    try:
        for choice in body["choices"]:
            for call in (choice.get("message") or choice["delta"])["tool_calls"]:
                if "extra_content" in call:
                    found[call["id"]] = call["extra_content"]
    except (AttributeError, KeyError, TypeError):
        pass  # not the form of the API, which Gemini follows
    return found


# The usage


def parse_usage(body: CompletionBody, choice: CompletionBody | None = None) -> TokenCounts | None:
    """Return the tokens that a body reports for its request; None if it reports none.

    choice: the choice that is read, which may have a usage of its own.
    """
    usage = body.get("usage")
    if isinstance(usage, dict):
        found, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if (
            type(found) is int
            and type(output) is int
            and 0 < found <= _MAX_COUNT
            and 0 < output <= _MAX_COUNT
        ):
            return TokenCounts(found, output, _get_cached(usage))
    elif (choice is None or "usage" not in choice) and _OTHER_USAGES.isdisjoint(body):
        return None
    counts = TokenCounts()
    for source in _iter_usages(body, choice):
        counts = counts.merge(_parse_counts(source))
    return counts if any(counts) else None


def _iter_usages(body: CompletionBody, choice: CompletionBody | None) -> Iterable[CompletionBody]:
    """Yield the objects of a body that may have counts of tokens."""
    for holder in (body, body.get("x_groq"), choice):
        if isinstance(holder, dict):
            for source in (holder.get("usage"), holder.get("usage_metadata")):
                if isinstance(source, dict):
                    yield source
    if isinstance(timings := body.get("timings"), dict):  # llama.cpp
        yield {
            "prompt_tokens": _add_counts(timings.get("prompt_n"), timings.get("cache_n")),
            "completion_tokens": timings.get("predicted_n"),
        }
    if "eval_count" in body:  # Ollama's own API
        yield body


def _parse_counts(usage: CompletionBody) -> TokenCounts:
    output = _get_count(
        usage, "completion_tokens", "output_tokens", "candidates_token_count", "eval_count"
    )
    found = _get_count(
        usage, "prompt_tokens", "input_tokens", "prompt_token_count", "prompt_eval_count"
    )
    total = _get_count(usage, "total_tokens")
    if total is not None and output is not None and found is None and total > output:
        found = total - output
    if total is not None and found is not None and output is None and total > found:
        output = total - found
    return TokenCounts(found, output, _get_cached(usage))


def _get_cached(usage: CompletionBody) -> int | None:
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    return _get_count(details, "cached_tokens") if isinstance(details, dict) else None


def _get_count(usage: CompletionBody, *names: str) -> int | None:
    """Return the first of these counts that is possible; zero is as good as none."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if 0 < value <= _MAX_COUNT:
            return round(value) or 1
    return None


def _add_counts(*values: JSON) -> int:
    return sum(value for value in values if isinstance(value, int) and value > 0)

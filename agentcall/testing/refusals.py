"""What servers say when they refuse, in their own words.

Seen on LMDeploy 0.5.3 and 0.18.0, vLLM 0.8 and later, llama.cpp and OpenAI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agentcall.testing.script import say
from agentcall.testing.wire import FakeResponse, RecordedRequest, make_json_response

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

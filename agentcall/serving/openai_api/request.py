"""The body of POST /v1/chat/completions, parsed and checked.

Source: OpenAI's API reference, "Create chat completion". The fields for sampling are the settings
of the run, and replace those of the agent; other fields are ignored. Fields that would change the
form of the answer are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentcall.errors import UsageError
from agentcall.messages import JSON, Message, clear_provenance
from agentcall.runtime.history import read_history
from agentcall.serving.run_requests import MAX_MESSAGES, InvalidRequest, parse_object
from agentcall.settings import ModelSettings, merge_settings

_UNSUPPORTED_FIELDS = {
    "tools": "the agent has its own tools; send none",
    "functions": "the agent has its own tools; send none",
    "response_format": "the agent decides the form of its answers; send none",
}


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A parsed request; `include_steps` asks for the tool steps as `reasoning_content`.

    settings: the settings of the run; None if the request has none.
    """

    messages: tuple[Message, ...]
    settings: ModelSettings | None
    stream: bool
    include_usage: bool
    include_steps: bool


def parse_request(body: bytes, model: str) -> CompletionRequest:
    """Parse the body of a request for the model. Raise InvalidRequest if it is refused."""
    fields = parse_object(body)
    _check_fields(fields, model)
    options = fields.get("stream_options")
    wants_usage = isinstance(options, Mapping) and options.get("include_usage") is True
    steps = fields.get("include_steps") is True
    return CompletionRequest(
        _parse_messages(fields),
        _parse_settings(fields),
        fields.get("stream") is True,
        wants_usage,
        steps,
    )


def _check_fields(fields: Mapping[str, JSON], model: str) -> None:
    name = fields.get("model", model)
    if name != model:
        raise InvalidRequest(
            f"the model {name!r:.100} does not exist; the model of this server is {model!r}",
            status=404,
            code="model_not_found",
            param="model",
        )
    for param, message in _UNSUPPORTED_FIELDS.items():
        if fields.get(param) and fields[param] != {"type": "text"}:
            raise InvalidRequest(message, param=param)
    if fields.get("n") not in (None, 1):
        raise InvalidRequest(f"n is {fields['n']!r:.100}; only one answer is supported", param="n")


_SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",  # OpenAI's deprecated name of the next one, which most clients send
    "max_completion_tokens": "max_tokens",
    "seed": "seed",
    "stop": "stop",
}


def _parse_settings(fields: Mapping[str, JSON]) -> ModelSettings | None:
    settings: ModelSettings | None = None
    for param, name in _SETTINGS.items():
        if (value := fields.get(param)) is not None:
            given: dict[str, Any] = {name: value}  # Any: checked by ModelSettings
            try:
                settings = merge_settings(settings, ModelSettings(**given))
            except UsageError as error:
                reason = str(error).rpartition("): ")[2]
                raise InvalidRequest(f"{param} is {value!r:.100}: {reason}", param=param) from None
    return settings


def _parse_messages(fields: Mapping[str, JSON]) -> tuple[Message, ...]:
    messages = fields.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise InvalidRequest("messages is not a list of messages", param="messages")
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequest(
            f"there are {len(messages):,} messages, more than {MAX_MESSAGES:,}; leave out the "
            "oldest ones",
            param="messages",
        )
    last = messages[-1]
    if not isinstance(last, Mapping) or last.get("role") != "user":
        raise InvalidRequest("the last message is not the user's", param="messages")
    try:
        return clear_provenance(read_history(messages))
    except (UsageError, AttributeError, TypeError, KeyError) as error:
        raise InvalidRequest(f"{error!s:.500}", param="messages") from None

"""The settings of a run and of a model: how much a run may use, and how a model samples."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from sys import float_info
from typing import Any, cast

from agentcall.errors import UsageError
from agentcall.messages import JSON, encode_json


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a run; None is no limit. No limit raises: the run ends with what it has.

    requests: model requests; the last one is made without tools, for a final answer.
    tool_calls: executed tool calls.
    tokens: input and output tokens together.
    seconds: wall-clock time, tools included.
    parallel: calls of one turn that run at the same time.
    result_chars: characters of a tool's result that the model gets; it reads the rest in pages.
    calls_per_turn: calls of one turn that are executed; the model is told about the others.
    context: the context window of the model in tokens, where the server does not report it, or for
        a smaller one. A conversation that does not fit is compacted or trimmed before it is sent.
    """

    requests: int | None = 20
    tool_calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    parallel: int | None = 8
    result_chars: int | None = 50_000
    calls_per_turn: int | None = 128
    context: int | None = None

    def __post_init__(self) -> None:
        for name in type(self).__slots__:
            value = getattr(self, name)
            types = (int, float) if name == "seconds" else int
            if value is None or (
                type(value) is not bool and isinstance(value, types) and value > 0
            ):
                continue
            kind = "a number" if name == "seconds" else "an integer"
            raise UsageError(f"Limits({name}={value!r}): it has to be {kind} above 0, or None")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model answers; None leaves a setting to the server (docs/settings.md).

    A run's settings replace the agent's, which replace the model's, one by one; `extra_body` and
    `extra_headers` are merged by key.

    temperature: 0 or more. top_p: 0 to 1. seed: an integer; not every server honours it.
    max_tokens: the length of one answer, thinking and tool calls included.
    stop: one stop word, or several. The stop words of a chat template are sent as well.
    tool_choice: "auto", "required" or a tool's name for the first turn of a run, after which the
        model is free; or "none", for the whole run. It is never sent with the request that closes
        the tools.
    parallel_tool_calls: whether one turn may have several calls; sent if tools are.
    reasoning_effort: such as "low" or "high"; the server knows the values.
    thinking: False turns a model's thinking off, True on, where it has a switch.
    send_thinking: whether the model is sent its earlier thinking: True with every answer, False
        never. None sends what led to calls, as the models that think between calls need it.
    extra_body: further fields of the request, such as `{"top_k": 1}`.
    extra_headers: further HTTP headers. They may be secret, so they are not shown or saved.
    timeout: seconds for one request, from its first attempt to its last byte.

    Raises UsageError for a value that no server accepts, and for a field of `extra_body` that has a
    setting of its own.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    thinking: bool | None = None
    send_thinking: bool | None = None
    extra_body: Mapping[str, JSON] = field(default_factory=dict[str, JSON], hash=False)
    extra_headers: Mapping[str, str] = field(default_factory=dict[str, str], hash=False, repr=False)
    timeout: float | None = None

    def __post_init__(self) -> None:
        for name, (is_valid, expected) in _CHECKS.items():
            value = getattr(self, name)
            if value is not None and not is_valid(value):
                shown = "..." if name == "extra_headers" else repr(value)
                raise UsageError(f"ModelSettings({name}={shown}): it has to be {expected}")
        for name in self.extra_body:
            if name in _OWN_SETTINGS:
                raise UsageError(
                    f"ModelSettings(extra_body={{{name!r}: ...}}): {_OWN_SETTINGS[name]}"
                )
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        object.__setattr__(self, "stop", None if stop is None else tuple(stop))
        object.__setattr__(self, "extra_body", dict(self.extra_body))
        object.__setattr__(self, "extra_headers", dict(self.extra_headers))

    def merge(self, other: ModelSettings) -> ModelSettings:
        """Return these settings with those of `other` in their place where it has any."""
        given = {
            name: value
            for name in type(self).__slots__
            if (value := getattr(other, name)) is not None
        }
        given["extra_body"] = {**self.extra_body, **other.extra_body}
        given["extra_headers"] = merge_headers(self.extra_headers, other.extra_headers)
        return replace(self, **given)

    def to_fields(self) -> dict[str, JSON]:
        """Return the settings as fields of a chat completion request, without `tool_choice`."""
        stop: JSON = None if self.stop is None else list(self.stop) or None
        settings: dict[str, JSON] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "stop": stop,
            "parallel_tool_calls": self.parallel_tool_calls,
            "reasoning_effort": self.reasoning_effort,
        }
        return {**{k: v for k, v in settings.items() if v is not None}, **self.extra_body}

    def to_json(self) -> dict[str, JSON]:
        """Return the settings as JSON, to save them; without the headers."""
        saved = {name: getattr(self, name) for name in type(self).__slots__}
        del saved["extra_headers"]
        return {name: value for name, value in saved.items() if value not in (None, {})}

    @classmethod
    def from_json(cls, wire: Mapping[str, Any]) -> ModelSettings:  # Any: checked when it is made
        """Return the settings that `to_json` returned. Raises TypeError and UsageError."""
        return cls(**wire)


def merge_headers(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Return both sets of HTTP headers; the second replace the first, in any case of letters."""
    names = {name.lower() for name in second}
    return {**{k: v for k, v in first.items() if k.lower() not in names}, **second}


def merge_settings(
    first: ModelSettings | None, second: ModelSettings | None
) -> ModelSettings | None:
    """Return the first settings with those of the second in their place; None if both are."""
    if first is None or second is None:
        return second if first is None else first
    return first.merge(second)


def check_settings(settings: object) -> None:
    """Raise UsageError for anything but ModelSettings or None."""
    if settings is not None and not isinstance(settings, ModelSettings):
        raise UsageError(
            f"settings={settings!r:.200} is not ModelSettings: ModelSettings(temperature=0.2)"
        )


_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
"""RFC 9110, section 5.1: a token. Not compiled here: most programs send no headers."""
_LINE_END = r"[\r\n\0]"


def _is_number(value: object, low: float, high: float = inf) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _is_integer(value: object, low: int = -(2**63)) -> bool:
    """Whether it is an integer of 64 bits, which every server can read."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**63


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_stop(value: object) -> bool:
    if isinstance(value, str):
        return bool(value)
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Collection):
        return False
    return all(map(_is_text, cast("Collection[object]", value)))


def _is_json_object(value: object) -> bool:
    try:
        if not isinstance(value, Mapping):
            return False
        return bool(encode_json(dict(cast("Mapping[str, JSON]", value))))
    except (TypeError, ValueError):
        return False


def _are_headers(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    headers = cast("Mapping[object, object]", value)
    return all(
        isinstance(name, str) and re.fullmatch(_HEADER_NAME, name) and _is_header_value(text)
        for name, text in headers.items()
    )


def _is_header_value(value: object) -> bool:
    return isinstance(value, str) and re.search(_LINE_END, value) is None


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "temperature": (lambda value: _is_number(value, 0, float_info.max), "a number of at least 0"),
    "top_p": (lambda value: _is_number(value, 0, 1), "a number from 0 to 1"),
    "max_tokens": (lambda value: _is_integer(value, 1), "an integer of at least 1"),
    "seed": (_is_integer, "an integer of at most 64 bits"),
    "stop": (_is_stop, "a text, or a sequence of texts, none of them empty"),
    "tool_choice": (_is_text, '"auto", "none", "required", or the name of a tool'),
    "parallel_tool_calls": (lambda value: isinstance(value, bool), "True or False"),
    "reasoning_effort": (_is_text, 'a text such as "low"'),
    "thinking": (
        lambda value: isinstance(value, bool),
        'True or False; an effort is reasoning_effort="low"',
    ),
    "send_thinking": (lambda value: isinstance(value, bool), "True or False"),
    "extra_body": (_is_json_object, "a mapping of names to JSON values"),
    "extra_headers": (_are_headers, "a mapping of header names to texts of one line"),
    "timeout": (
        lambda value: _is_number(value, 0, float_info.max) and value != 0,
        "above 0 (seconds)",
    ),
}
_OWN_SETTINGS = {
    "model": 'name the model in Agent(model="http://host:port/v1#NAME")',
    "messages": "pass a prompt or messages= to the run",
    "stream": "use run_stream for a stream",
    "stream_options": "streams are asked for their usage already",
    "tools": "pass functions in Agent(tools=)",
    "functions": "pass functions in Agent(tools=)",
    "function_call": "use ModelSettings(tool_choice=)",
    "response_format": "pass the type of the answer in Agent(output_type=)",
    "n": "a run reads one answer",
    **{
        name: f"use ModelSettings({name}=)"
        for name in ModelSettings.__slots__
        # `thinking` is also a field of hosted servers, with a value of another form
        if not name.startswith("extra_") and name not in ("timeout", "thinking", "send_thinking")
    },
}

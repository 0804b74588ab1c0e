"""The settings of a run and of a model: how much a run may use, and how a model samples."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentcall.errors import UsageError
from agentcall.messages import JSON

_RESERVED_FIELDS = ("model", "messages", "stream", "stream_options")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a run; None is no limit. No limit raises: the run ends with what it has.

    requests: model requests; the last one is made without tools, for a final answer.
    tool_calls: executed tool calls.
    tokens: input and output tokens together.
    seconds: wall-clock time, tools included.
    parallel: calls of one turn that run at the same time.
    result_chars: characters of a tool's result that the model reads.
    calls_per_turn: calls of one turn that are executed; the model is told about the others.
    """

    requests: int | None = 20
    tool_calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    parallel: int | None = 8
    result_chars: int | None = 50_000
    calls_per_turn: int | None = 128

    def __post_init__(self) -> None:
        for name in type(self).__slots__:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"Limits({name}={value!r}): it has to be above 0, or None")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model samples; None leaves a setting to the server.

    extra: further fields of the request, such as `{"top_k": 1}`. Raises UsageError for a field
        that every request has.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    extra: dict[str, JSON] = field(default_factory=dict[str, JSON])

    def __post_init__(self) -> None:
        reserved = [name for name in _RESERVED_FIELDS if name in self.extra]
        if reserved:
            raise UsageError(
                f"ModelSettings.extra has {', '.join(reserved)}, which every request has; remove it"
            )

    def to_fields(self) -> dict[str, JSON]:
        """Return the settings as fields of a chat completion request."""
        settings = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "stop": list(self.stop) or None,
        }
        return {**{k: v for k, v in settings.items() if v is not None}, **self.extra}

"""How much a run may use before it ends with what it has."""

from __future__ import annotations

from dataclasses import dataclass

from agentcall.errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a run; None is no bound. None of them raises: the run ends with what it has.

    requests: model requests; the last one is asked for an answer without tools.
    tool_calls: calls carried out.
    tokens: input and output tokens together.
    seconds: time on the clock, tools included.
    parallel: calls of one turn that run at the same time.
    result_chars: characters of a tool's result that the model is shown.
    calls_per_turn: calls of one turn that are carried out; the model is told of the others.
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

"""Time the answers of a model, and compute the statistics of a benchmark.

Percentiles use the nearest rank: they are always one of the samples, never interpolated.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from time import monotonic

from agentcall.messages import Usage
from agentcall.models.base import (
    Model,
    ModelRequest,
    ResponseEnd,
    ResponseEvent,
    ResponseStart,
    close_response,
)


@dataclass(frozen=True, slots=True)
class AnswerTiming:
    """The timing of one complete answer, in seconds since the request.

    `first` and `last` are the times of the first and the last part, `parts` is their number.
    """

    seconds: float
    first: float
    last: float
    parts: int
    usage: Usage

    @property
    def rate(self) -> float | None:
        """Tokens per second after the first token; None if the answer was not streamed."""
        streamed = self.parts > 1 and self.last > self.first and self.usage.output_tokens > 1
        return (self.usage.output_tokens - 1) / (self.last - self.first) if streamed else None


class TimedModel:
    """A model that passes on another model's answers and records the complete ones in `timings`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.timings: list[AnswerTiming] = []

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the model's parts. Raises ModelError."""
        start = monotonic()
        times: list[float] = []
        answer = self._model.ask(request)
        try:
            async for part in answer:
                if isinstance(part, ResponseEnd):
                    self._record(part, monotonic() - start, times)
                elif not isinstance(part, ResponseStart):
                    times.append(monotonic() - start)
                yield part
        finally:
            await close_response(answer)

    def _record(self, end: ResponseEnd, seconds: float, times: list[float]) -> None:
        if end.finish_reason is not None:
            first, last = (times[0], times[-1]) if times else (seconds, seconds)
            self.timings.append(AnswerTiming(seconds, first, last, len(times), end.usage))


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The median and the 95th percentile of samples."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class AgentTrial:
    """One run of an agent that reached its final answer."""

    seconds: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class IncompleteCounts:
    """How many attempts failed, and how many were unfinished when the time was over.

    `why` is the reason of the first failure.
    """

    failed: int = 0
    unfinished: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Streamed answers without tools. Times in seconds, rates in tokens per second.

    first_token: time from the request to the first part.
    each: rate of one stream after its first part; None if the answers were not streamed.
    in_all: rate of all streams together, waiting included.
    rest: the attempts without a complete answer.

    A value is None if no answer was complete.
    """

    answers: int
    first_token: Percentiles | None
    each: Percentiles | None
    in_all: float | None
    tokens: int
    seconds: float
    rest: IncompleteCounts


@dataclass(frozen=True, slots=True)
class AgentStats:
    """Runs of agents with tools. Times in seconds, rates per second; None if no run was complete.

    called: the number of runs in which the model called a tool.
    rest: the runs without a final answer.
    """

    runs: int
    called: int
    run: Percentiles | None
    request: Percentiles | None
    runs_rate: float | None
    requests_rate: float | None
    tokens_rate: float | None
    usage: Usage
    seconds: float
    rest: IncompleteCounts


def compute_percentiles(samples: Sequence[float]) -> Percentiles | None:
    """Return the percentiles of samples; None if there are none.

    >>> compute_percentiles([3.0, 1.0, 2.0])
    Percentiles(median=2.0, p95=3.0)
    """
    if not samples:
        return None
    ordered = sorted(samples)

    def get_rank(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Percentiles(get_rank(0.5), get_rank(0.95))


def compute_stream_stats(
    timings: Sequence[AnswerTiming], seconds: float, rest: IncompleteCounts
) -> StreamStats:
    """Return the statistics of streamed answers that took `seconds` together."""
    tokens = sum(timing.usage.output_tokens for timing in timings)
    return StreamStats(
        len(timings),
        compute_percentiles([timing.first for timing in timings]),
        compute_percentiles([rate for timing in timings if (rate := timing.rate) is not None]),
        _compute_rate(tokens, seconds),
        tokens,
        seconds,
        rest,
    )


def compute_agent_stats(
    trials: Sequence[AgentTrial],
    timings: Sequence[AnswerTiming],
    seconds: float,
    rest: IncompleteCounts,
) -> AgentStats:
    """Return the statistics of runs and of all their requests."""
    usage = sum((trial.usage for trial in trials), Usage())
    tokens = sum(timing.usage.output_tokens for timing in timings)
    return AgentStats(
        len(trials),
        sum(trial.usage.tool_calls > 0 for trial in trials),
        compute_percentiles([trial.seconds for trial in trials]),
        compute_percentiles([timing.seconds for timing in timings]),
        _compute_rate(len(trials), seconds),
        _compute_rate(len(timings), seconds),
        _compute_rate(tokens, seconds),
        usage,
        seconds,
        rest,
    )


def _compute_rate(count: int, seconds: float) -> float | None:
    return count / seconds if count and seconds > 0 else None

"""What the samples of a measurement come to: pure arithmetic.

A percentile is by the nearest rank: one of the samples, never a value between two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agentcall.diagnostics.bench.timing import AnswerTiming
from agentcall.messages import Usage


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The median and the 95th percentile of some samples."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class AgentTrial:
    """One run of an agent that came to its final answer."""

    seconds: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class IncompleteCounts:
    """What was begun and did not come to its end: failed, or under way when the time was over."""

    failed: int = 0
    unfinished: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Bare answers, streamed. Seconds, and tokens a second; None where nothing was whole.

    first_token: from request to first part. each: of one stream, once it has begun; None where
    answers did not come in pieces. in_all: of all together, waiting included.
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
    """Runs of agents with tools. Seconds, and rates a second; None where no run was whole.

    called: runs in which the model called a tool. cached: tokens of the prompts that the server
    says it found in its prefix cache.
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
    """The spread of samples; None of none.

    >>> spread([3.0, 1.0, 2.0])
    Spread(median=2.0, p95=3.0)
    """
    if not samples:
        return None
    ordered = sorted(samples)

    def rank(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Percentiles(rank(0.5), rank(0.95))


def compute_stream_stats(
    timings: Sequence[AnswerTiming], seconds: float, rest: IncompleteCounts
) -> StreamStats:
    """The figures of bare answers that took so long together."""
    tokens = sum(span.usage.output_tokens for span in timings)
    return StreamStats(
        len(timings),
        compute_percentiles([span.first for span in timings]),
        compute_percentiles([rate for span in timings if (rate := span.rate) is not None]),
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
    """The figures of runs, and of all requests that they made."""
    usage = sum((trial.usage for trial in trials), Usage())
    tokens = sum(span.usage.output_tokens for span in timings)
    return AgentStats(
        len(trials),
        sum(trial.usage.tool_calls > 0 for trial in trials),
        compute_percentiles([trial.seconds for trial in trials]),
        compute_percentiles([span.seconds for span in timings]),
        _compute_rate(len(trials), seconds),
        _compute_rate(len(timings), seconds),
        _compute_rate(tokens, seconds),
        usage,
        seconds,
        rest,
    )


def _compute_rate(count: int, seconds: float) -> float | None:
    return count / seconds if count and seconds > 0 else None

"""What the samples of a measurement come to: pure arithmetic.

A percentile is by the nearest rank: one of the samples, never a value between two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agentcall.bench.stopwatch import Span
from agentcall.messages import Usage


@dataclass(frozen=True, slots=True)
class Spread:
    """The median and the 95th percentile of some samples."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of an agent that came to its final answer."""

    seconds: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class Tried:
    """What was begun and did not come to its end: failed, or under way when the time was over."""

    failed: int = 0
    unfinished: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """Bare answers, streamed. Seconds, and tokens a second; None where nothing was whole.

    first_token: from request to first part. each: of one stream, once it has begun; None where
    answers did not come in pieces. in_all: of all together, waiting included.
    """

    answers: int
    first_token: Spread | None
    each: Spread | None
    in_all: float | None
    tokens: int
    seconds: float
    rest: Tried


@dataclass(frozen=True, slots=True)
class AgentFigures:
    """Runs of agents with tools. Seconds, and rates a second; None where no run was whole.

    called: runs in which the model called a tool. cached: tokens of the prompts that the server
    says it found in its prefix cache.
    """

    runs: int
    called: int
    run: Spread | None
    request: Spread | None
    runs_rate: float | None
    requests_rate: float | None
    tokens_rate: float | None
    usage: Usage
    seconds: float
    rest: Tried


def spread(samples: Sequence[float]) -> Spread | None:
    """The spread of samples; None of none.

    >>> spread([3.0, 1.0, 2.0])
    Spread(median=2.0, p95=3.0)
    """
    if not samples:
        return None
    ordered = sorted(samples)

    def rank(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Spread(rank(0.5), rank(0.95))


def stream_figures(spans: Sequence[Span], seconds: float, rest: Tried) -> StreamFigures:
    """The figures of bare answers that took so long together."""
    tokens = sum(span.usage.output_tokens for span in spans)
    return StreamFigures(
        len(spans),
        spread([span.first for span in spans]),
        spread([rate for span in spans if (rate := span.rate) is not None]),
        _rate(tokens, seconds),
        tokens,
        seconds,
        rest,
    )


def agent_figures(
    trials: Sequence[Trial], spans: Sequence[Span], seconds: float, rest: Tried
) -> AgentFigures:
    """The figures of runs, and of all requests that they made."""
    usage = sum((trial.usage for trial in trials), Usage())
    tokens = sum(span.usage.output_tokens for span in spans)
    return AgentFigures(
        len(trials),
        sum(trial.usage.tool_calls > 0 for trial in trials),
        spread([trial.seconds for trial in trials]),
        spread([span.seconds for span in spans]),
        _rate(len(trials), seconds),
        _rate(len(spans), seconds),
        _rate(tokens, seconds),
        usage,
        seconds,
        rest,
    )


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if count and seconds > 0 else None

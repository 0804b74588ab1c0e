"""The outcome of an evaluation: what passed, how sure that is, and what has changed.

Formulas:
1. Interval: Wilson's score interval with 95 % confidence, E. B. Wilson 1927, JASA 22, 209-212. The
   trials of a case are not independent, so that it is of the cases if each was run once, and too
   narrow if each was run often.
2. Comparison: McNemar's exact test over the cases that one report passes and the other does not
   (a case passes if more than half of its trials do): twice the tail of a binomial distribution
   with p = 1/2. Q. McNemar 1947, Psychometrika 12, 153-157.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Any, NamedTuple, cast

import orjson

from agentcall.errors import UsageError
from agentcall.messages import JSON, Usage, usage_to_json
from agentcall.result import RunResult, run_result_to_json

_Z = 1.959964
"""The quantile of 95 %."""


class Interval(NamedTuple):
    """A share between 0 and 1, and the bounds of its confidence interval."""

    share: float
    low: float
    high: float

    @classmethod
    def of(cls, passed: int, count: int) -> Interval:
        """Return the interval of `passed` of `count`.

        >>> Interval.of(9, 10)
        Interval(share=0.9, low=0.596, high=0.982)
        """
        if not count:
            return cls(0.0, 0.0, 1.0)
        share, square = passed / count, _Z * _Z
        middle = (share + square / (2 * count)) / (1 + square / count)
        spread = _Z / (1 + square / count)
        half = spread * sqrt(share * (1 - share) / count + square / (4 * count * count))
        return cls(
            round(share, 4), round(max(middle - half, 0.0), 3), round(min(middle + half, 1.0), 3)
        )

    def __str__(self) -> str:
        return f"{self.share:.0%} ({self.low:.0%} to {self.high:.0%})"


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One run of a case.

    number: from 1. problems: what its checks found; none if it passed. result: of its run; None if
    the run raised before it had any. seconds: its wall-clock time.
    """

    case: str
    number: int
    problems: tuple[str, ...]
    result: RunResult[Any] | None = None  # Any: of any type
    seconds: float = 0.0
    tags: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return not self.problems


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The trials of an evaluation."""

    label: str
    trials: tuple[Trial, ...]

    @property
    def cases(self) -> Mapping[str, Sequence[Trial]]:
        """The trials of each case, by its name."""
        found: dict[str, list[Trial]] = {}
        for trial in self.trials:
            found.setdefault(trial.case, []).append(trial)
        return found

    @property
    def passed(self) -> Interval:
        """The share of the trials that passed."""
        return _count(self.trials)

    @property
    def tags(self) -> Mapping[str, Interval]:
        """The share that passed of the trials with each tag."""
        names = dict.fromkeys(tag for trial in self.trials for tag in trial.tags)
        return {name: _count([t for t in self.trials if name in t.tags]) for name in names}

    @property
    def usage(self) -> Usage:
        """The usage of all runs together."""
        results = [trial.result for trial in self.trials if trial.result is not None]
        return sum((result.usage for result in results), Usage())

    def to_json(self) -> str:
        """Return the report as JSON text, with the conversation of each trial; see `from_json`."""
        trials: list[JSON] = [
            {
                "case": trial.case,
                "number": trial.number,
                "problems": list(trial.problems),
                "seconds": round(trial.seconds, 3),
                "tags": list(trial.tags),
                "result": None if trial.result is None else run_result_to_json(trial.result),
            }
            for trial in self.trials
        ]
        wire: dict[str, JSON] = {
            "label": self.label,
            "passed": list(self.passed),
            "usage": usage_to_json(self.usage),
            "trials": trials,
        }
        return orjson.dumps(wire, option=orjson.OPT_INDENT_2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Return the report that `to_json` wrote. Raises UsageError for any other text."""
        try:
            wire = cast("Mapping[str, Any]", orjson.loads(text))
            trials = tuple(
                Trial(
                    str(trial["case"]),
                    int(trial["number"]),
                    tuple(map(str, trial["problems"])),
                    trial["result"] and RunResult[Any].from_json(orjson.dumps(trial["result"])),
                    float(trial["seconds"]),
                    tuple(map(str, trial["tags"])),
                )
                for trial in wire["trials"]
            )
            return cls(str(wire["label"]), trials)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"this is not the report of an evaluation: {error}") from error


def _count(trials: Sequence[Trial]) -> Interval:
    return Interval.of(sum(trial.passed for trial in trials), len(trials))


class Comparison(NamedTuple):
    """Two reports over the same cases.

    gained, lost: the cases that only the second, or only the first report passes.
    p_value: the probability of so uneven a result if both were equally good.
    """

    gained: tuple[str, ...]
    lost: tuple[str, ...]
    p_value: float


def compare_reports(before: Report, after: Report) -> Comparison:
    """Compare the cases that both reports have."""
    one, other = before.cases, after.cases
    common = [name for name in one if name in other]
    gained = tuple(n for n in common if _is_passed(other[n]) and not _is_passed(one[n]))
    lost = tuple(n for n in common if _is_passed(one[n]) and not _is_passed(other[n]))
    count, fewer = len(gained) + len(lost), min(len(gained), len(lost))
    tail = sum(comb(count, k) for k in range(fewer + 1)) / 2**count
    return Comparison(gained, lost, min(1.0, round(2 * tail, 4)))


def _is_passed(trials: Sequence[Trial]) -> bool:
    return 2 * sum(trial.passed for trial in trials) > len(trials)

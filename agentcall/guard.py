"""Notices a model that goes round in circles.

Rules, over the turns in which something was carried out, in order:
1. A call (a tool and its values) that the last turn made too is a repetition, unless that turn
   also made another one that is not asked for again: read, act, read is no circle.
2. So is a call that begins the third round of a circle of up to `LONGEST_CIRCLE` turns, if both
   rounds gave the same results.
3. A repetition is not carried out; the model is told what the call gave. A second turn of nothing
   but repetitions closes the tools: the model is asked for its answer.
4. So does the same error in `SAME_ERRORS` turns, or in as many as the tool's own retries allow, if
   no call went well in between.
5. A call that failed may be made again: rule 4 is for it.
6. A call of a tool that declares `polling` is no repetition, and between two calls it counts as
   another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import cast

import orjson

from agentcall.messages import JSON
from agentcall.snapshot import snapshot

SAME_ERRORS = 3
LONGEST_CIRCLE = 4
_SCALARS = frozenset({str, int, float, bool, type(None)})


@dataclass(slots=True)
class LoopGuard:
    """Remembers what the turns of a run called; calls are known by their `sign`."""

    _turns: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    _texts: dict[str, str] = field(default_factory=dict[str, str])
    _errors: dict[str, int] = field(default_factory=dict[str, int])
    _barren: int = 0

    def repeated(self, signs: Set[str]) -> Set[str]:
        """Those of the calls that a turn asks for which are repetitions."""
        found = {sign for sign in signs if self._is_repetition(sign, signs)}
        if signs:
            self._barren = self._barren + 1 if found == signs else 0
        return found

    @property
    def is_circling(self) -> bool:
        """Whether the model has asked for nothing but repetitions twice in a row."""
        return self._barren >= 2

    def last(self, sign: str) -> str:
        """What the call gave the last time."""
        return self._texts.get(sign, "")

    def record(self, results: Mapping[str, str]) -> None:
        """Remembers what the calls of a turn gave."""
        if results:
            self._turns.append({**results})
            self._texts.update(results)

    def record_errors(self, errors: Mapping[str, int], *, all_failed: bool) -> bool:
        """Remembers a turn's errors, each with the turns that it may come back in.

        Says whether one of them has come back too often.
        """
        before = self._errors if all_failed else {}
        self._errors = {words: before.get(words, 0) + 1 for words in errors}
        return any(self._errors[words] >= most for words, most in errors.items())

    def _is_repetition(self, sign: str, signs: Set[str]) -> bool:
        last = self._turns[-1] if self._turns else {}
        if sign in last and last.keys() <= signs:
            return True
        longest = min(LONGEST_CIRCLE, len(self._turns) // 2)
        return any(self._begins_circle(sign, size) for size in range(2, longest + 1))

    def _begins_circle(self, sign: str, size: int) -> bool:
        rounds = self._turns[-2 * size :]
        return sign in rounds[0] and rounds[:size] == rounds[size:]


def signed(name: str, values: Mapping[str, object]) -> str:
    """What a call is known by: calls that differ in spelling alone have the same."""
    given = dict(values)
    try:
        is_plain = _SCALARS.issuperset(map(type, given.values()))
        plain = _plain(cast("JSON", given)) if is_plain else _taken(given)
        text = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # what orjson refuses, a snapshot can say
        text = orjson.dumps(_taken(given), option=orjson.OPT_SORT_KEYS)
    return f"{name} {text.decode()}"


def _taken(values: dict[str, object]) -> JSON:
    return _plain(orjson.loads(snapshot(values)))


def repeated_words(name: str, last: str) -> str:
    """What the model is told of a call that it repeats."""
    return (
        f"You have already called {name} with these arguments, and it was not called again. "
        f"It gave:\n{last}\nUse that result, call another tool, or give your final answer."
    )


def _plain(value: JSON) -> JSON:
    """The value without what spelling varies: white space, and 1.0 for 1."""
    match value:
        case str():
            return " ".join(value.split())
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _:
            return value


__all__ = ["LONGEST_CIRCLE", "SAME_ERRORS", "LoopGuard", "repeated_words", "signed"]

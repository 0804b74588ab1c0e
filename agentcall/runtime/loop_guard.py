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
from agentcall.tools.serialize import serialize

MAX_SAME_ERRORS = 3
MAX_CYCLE_TURNS = 4
_SCALARS = frozenset({str, int, float, bool, type(None)})


@dataclass(slots=True)
class LoopGuard:
    """Remembers what the turns of a run called; calls are known by their `sign`."""

    _turns: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    _texts: dict[str, str] = field(default_factory=dict[str, str])
    _errors: dict[str, int] = field(default_factory=dict[str, int])
    _repeated_turns: int = 0

    def find_repetitions(self, fingerprints: Set[str]) -> Set[str]:
        """Those of the calls that a turn asks for which are repetitions."""
        found = {sign for sign in fingerprints if self._is_repetition(sign, fingerprints)}
        if fingerprints:
            self._repeated_turns = self._repeated_turns + 1 if found == fingerprints else 0
        return found

    @property
    def is_looping(self) -> bool:
        """Whether the model has asked for nothing but repetitions twice in a row."""
        return self._repeated_turns >= 2

    def get_last_text(self, fingerprint: str) -> str:
        """What the call gave the last time."""
        return self._texts.get(fingerprint, "")

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

    def _is_repetition(self, fingerprint: str, fingerprints: Set[str]) -> bool:
        last = self._turns[-1] if self._turns else {}
        if fingerprint in last and last.keys() <= fingerprints:
            return True
        longest = min(MAX_CYCLE_TURNS, len(self._turns) // 2)
        return any(self._is_cycle_start(fingerprint, size) for size in range(2, longest + 1))

    def _is_cycle_start(self, fingerprint: str, size: int) -> bool:
        rounds = self._turns[-2 * size :]
        return fingerprint in rounds[0] and rounds[:size] == rounds[size:]


def call_fingerprint(name: str, values: Mapping[str, object]) -> str:
    """What a call is known by: calls that differ in spelling alone have the same."""
    given = dict(values)
    try:
        is_plain = _SCALARS.issuperset(map(type, given.values()))
        plain = _normalize(cast("JSON", given)) if is_plain else _normalize_snapshot(given)
        text = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # what orjson refuses, a snapshot can say
        text = orjson.dumps(_normalize_snapshot(given), option=orjson.OPT_SORT_KEYS)
    return f"{name} {text.decode()}"


def _normalize_snapshot(values: dict[str, object]) -> JSON:
    return _normalize(orjson.loads(serialize(values)))


def format_repeated_call(name: str, last: str) -> str:
    """What the model is told of a call that it repeats."""
    return (
        f"You have already called {name} with these arguments, and it was not called again. "
        f"It gave:\n{last}\nUse that result, call another tool, or give your final answer."
    )


def _normalize(value: JSON) -> JSON:
    """The value without what spelling varies: white space, and 1.0 for 1."""
    match value:
        case str():
            return " ".join(value.split())
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case dict():
            return {key: _normalize(item) for key, item in value.items()}
        case list():
            return [_normalize(item) for item in value]
        case _:
            return value


__all__ = [
    "MAX_CYCLE_TURNS",
    "MAX_SAME_ERRORS",
    "LoopGuard",
    "call_fingerprint",
    "format_repeated_call",
]

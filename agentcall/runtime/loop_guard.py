"""Detects a model that repeats itself.

Rules, over the turns with at least one executed call, in order:
1. A call (a tool and its values) that the last turn made too is a repetition, unless that turn
   also made another call that is not repeated: read, act, read is not a loop.
2. So is a call that starts the third round of a cycle of up to `MAX_CYCLE_TURNS` turns, if both
   rounds had the same results.
3. A repetition is not executed; the model reads the result that the call had. A second turn of
   nothing but repetitions closes the tools: the model is asked for its final answer.
4. So does the same error in `MAX_SAME_ERRORS` turns, or in as many as the tool's own retries allow,
   if no call succeeded in between.
5. A call that failed may be made again: rule 4 limits it. So may one whose result only says that
   it failed for now and should be tried again, until it was made `MAX_SAME_ERRORS` times.
6. A call of a tool that declares `polling` is never a repetition, and between two equal calls it
   counts as another call.
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
    """Records the calls of a run's turns, by their fingerprints."""

    _turns: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    _texts: dict[str, str] = field(default_factory=dict[str, str])
    _errors: dict[str, int] = field(default_factory=dict[str, int])
    _repeated_turns: int = 0

    def find_repetitions(self, fingerprints: Set[str]) -> Set[str]:
        """Return the calls of a turn that are repetitions."""
        found = {each for each in fingerprints if self._is_repetition(each, fingerprints)}
        if found:
            found = {each for each in found if not self._may_pass(each)}
        if fingerprints:
            self._repeated_turns = self._repeated_turns + 1 if found == fingerprints else 0
        return found

    @property
    def is_looping(self) -> bool:
        """Whether the last two turns were nothing but repetitions."""
        return self._repeated_turns >= 2

    def get_last_text(self, fingerprint: str) -> str:
        """Return the last result of the call."""
        return self._texts.get(fingerprint, "")

    def record(self, results: Mapping[str, str]) -> None:
        """Record the results of a turn, by fingerprint."""
        if results:
            self._turns.append({**results})
            self._texts.update(results)

    def record_errors(self, errors: Mapping[str, int], *, all_failed: bool) -> bool:
        """Record a turn's errors, each with the number of turns that may have it in a row.

        Returns whether one of them has occurred too often.
        """
        before = self._errors if all_failed else {}
        self._errors = {error: before.get(error, 0) + 1 for error in errors}
        return any(self._errors[error] >= limit for error, limit in errors.items())

    def _may_pass(self, fingerprint: str) -> bool:
        """Whether the last result of a call says that it failed for now, and it was made rarely."""
        from agentcall.tools.retry import says_try_again  # late, as few calls are repeated

        text = self.get_last_text(fingerprint)
        made = sum(turn.get(fingerprint) == text for turn in self._turns)
        return made < MAX_SAME_ERRORS and says_try_again(text)

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
    """Return what identifies a call: calls that differ only in spelling are equal."""
    arguments = dict(values)
    try:
        is_plain = _SCALARS.issuperset(map(type, arguments.values()))
        plain = _normalize(cast("JSON", arguments)) if is_plain else _normalize_objects(arguments)
        text = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # such as an integer of more than 64 bits
        text = orjson.dumps(_normalize_objects(arguments), option=orjson.OPT_SORT_KEYS)
    return f"{name} {text.decode()}"


def _normalize_objects(values: dict[str, object]) -> JSON:
    return _normalize(orjson.loads(serialize(values)))


def _normalize(value: JSON) -> JSON:
    """Return the value with white space collapsed, and 1 for 1.0."""
    match value:
        case str():
            return " ".join(value.split())
        case int():
            return value
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case dict():
            return {key: _normalize(item) for key, item in value.items()}
        case list():
            return [_normalize(item) for item in value]
        case _:
            return value

"""Decisions about calls that wait, out of what the command line says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from agentcall.approvals import Approved, Decision, Denied, Edited
from agentcall.cli.deciding import DecisionOptions
from agentcall.errors import UsageError
from agentcall.result import RunResult

ALL_CALLS = "all"
"""Stands for the ids of all calls that wait."""

DECISION_HINT = "decide with --approve ID, --deny ID=WHY or --edit ID=JSON"


def parse_decision_options(
    options: DecisionOptions,
    result: RunResult[Any],  # Any: known to the agent alone
) -> Iterator[tuple[str, Decision]]:
    """What the options decide. Raises UsageError for a call that does not wait, or twice."""
    ids = [pending.call.id for pending in result.pending]
    seen: set[str] = set()
    for identity, decision in _iter_decisions(options, ids):
        if identity in seen:
            raise UsageError(f"two decisions are about {identity}; give one")
        seen.add(identity)
        yield identity, decision


def _iter_decisions(options: DecisionOptions, ids: list[str]) -> Iterator[tuple[str, Decision]]:
    plain: list[tuple[Iterable[str] | None, Decision]] = [
        (options.approve, Approved()),
        (options.always_tool, Approved(always="tool")),
        (options.always_call, Approved(always="call")),
    ]
    for words, decision in plain:
        for word in words or ():
            yield from (
                (identity, decision) for identity, _ in _match_call_ids(word, ids, bare=True)
            )
    for word in options.deny or ():
        yield from ((identity, Denied(why)) for identity, why in _match_call_ids(word, ids))
    for word in options.edit or ():
        yield from ((identity, Edited(json)) for identity, json in _match_call_ids(word, ids))


def _match_call_ids(word: str, ids: list[str], *, bare: bool = False) -> Iterator[tuple[str, str]]:
    """The ids of an `ID` or `ID=VALUE`, with the value."""
    known = [*ids, *([] if ALL_CALLS in ids else [ALL_CALLS])]
    for identity in sorted(known, key=len, reverse=True):
        if word == identity or (not bare and word.startswith(f"{identity}=")):
            value = word[len(identity) + 1 :]
            yield from ((each, value) for each in (ids if identity == ALL_CALLS else [identity]))
            return
    raise UsageError(f"{word!r} names no call that waits; there are: {', '.join(known)}")

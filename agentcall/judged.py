"""A call of a turn and what is to become of it; and what became of a turn's calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agentcall.execute import Job
from agentcall.messages import ToolCall, ToolResult
from agentcall.result import Paused, PendingCall, StopReason


class Judged(NamedTuple):
    """A call and its place in its turn, and one of: work to do, words that answer it, a call of
    the same turn that it repeats, a result that it has, or none of them: it waits for approval.

    `reason` is why it waits. `sign` is what the loop guard knows it by, empty for calls that it
    does not mind; `is_wrong` says that the words are about a mistake in the call itself,
    `untrusted` that strangers may have written of them.
    """

    call: ToolCall
    job: Job | None = None
    words: str = ""
    twin: str = ""
    done: ToolResult | None = None
    reason: str = ""
    sign: str = ""
    is_wrong: bool = False
    untrusted: bool = False

    @property
    def waits(self) -> bool:
        """Whether a person has to decide."""
        return not (self.job or self.words or self.twin or self.done)

    @property
    def told(self) -> ToolResult:
        """The result of a call that is answered with words."""
        call, words = self.call, self.words
        return ToolResult(call.id, call.name, words, True, self.untrusted, assessed=True)


class Round(NamedTuple):
    """What became of the calls of a turn.

    `close` says why the tools have to be closed. `pending` has the calls of agents that are tools
    too; `paused` are the calls of these agents.
    """

    results: tuple[ToolResult, ...]
    pending: tuple[PendingCall, ...]
    close: StopReason | None
    paused: tuple[Paused, ...] = ()


def texts_by_sign(judged: Iterable[Judged], known: Mapping[str, ToolResult]) -> dict[str, str]:
    """What the calls of a turn gave, by sign; a polled call has its id for one.

    A call that failed has another sign, as it may be made again.
    """
    texts: dict[str, str] = {}
    for item in judged:
        if item.sign and not item.waits:
            result = known[item.call.id]
            failed = item.job is not None and result.is_error
            texts[f"failed {item.sign}" if failed else item.sign] = result.text
        elif item.job:
            texts[item.call.id] = ""
    return texts

"""A call of a turn and what is to become of it; and what became of a turn's calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agentcall.execute import ToolInvocation
from agentcall.messages import ToolCall, ToolResult
from agentcall.result import PausedAgentCall, PendingCall, StopReason


class PlannedCall(NamedTuple):
    """A call and its place in its turn, and one of: work to do, words that answer it, a call of
    the same turn that it repeats, a result that it has, or none of them: it waits for approval.

    `reason` is why it waits. `sign` is what the loop guard knows it by, empty for calls that it
    does not mind; `is_wrong` says that the words are about a mistake in the call itself,
    `untrusted` that strangers may have written of them.
    """

    call: ToolCall
    invocation: ToolInvocation | None = None
    message: str = ""
    duplicate_of: str = ""
    result: ToolResult | None = None
    reason: str = ""
    fingerprint: str = ""
    is_invalid: bool = False
    untrusted: bool = False

    @property
    def is_pending(self) -> bool:
        """Whether a person has to decide."""
        return not (self.invocation or self.message or self.duplicate_of or self.result)

    @property
    def message_result(self) -> ToolResult:
        """The result of a call that is answered with words."""
        call, words = self.call, self.message
        return ToolResult(call.id, call.name, words, True, self.untrusted, assessed=True)


class TurnResults(NamedTuple):
    """What became of the calls of a turn.

    `close` says why the tools have to be closed. `pending` has the calls of agents that are tools
    too; `paused` are the calls of these agents.
    """

    results: tuple[ToolResult, ...]
    pending: tuple[PendingCall, ...]
    close_reason: StopReason | None
    paused: tuple[PausedAgentCall, ...] = ()


def collect_texts(
    planned: Iterable[PlannedCall], results: Mapping[str, ToolResult]
) -> dict[str, str]:
    """What the calls of a turn gave, by sign; a polled call has its id for one.

    A call that failed has another sign, as it may be made again.
    """
    texts: dict[str, str] = {}
    for item in planned:
        if item.fingerprint and not item.is_pending:
            result = results[item.call.id]
            failed = item.invocation is not None and result.is_error
            texts[f"failed {item.fingerprint}" if failed else item.fingerprint] = result.text
        elif item.invocation:
            texts[item.call.id] = ""
    return texts

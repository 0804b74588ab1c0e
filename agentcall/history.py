"""A conversation that may be sent: every tool call in it has a result right behind it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from agentcall.messages import Assistant, Message, ToolCall, ToolResult

NO_RESULT = "The run ended before this call did; its outcome is unknown."


def fill_missing_results(
    messages: Iterable[Message],
    results: Mapping[str, ToolResult] | None = None,
    *,
    pending: Collection[ToolCall] = (),
) -> tuple[Message, ...]:
    """The messages, with a result for each call that has none.

    known: results by call id; a call that is not there gets words that say so.
    waiting: calls that are left without a result.
    """
    return tuple(
        _iter_with_results(messages, results or {}, frozenset(call.id for call in pending))
    )


def _iter_with_results(
    messages: Iterable[Message], results: Mapping[str, ToolResult], pending: frozenset[str]
) -> Iterator[Message]:
    open_calls: dict[str, ToolCall] = {}
    for message in messages:
        if isinstance(message, ToolResult):
            open_calls.pop(message.call_id, None)
        else:
            if open_calls:
                yield from (
                    results.get(id_) or _missing_result(call) for id_, call in open_calls.items()
                )
                open_calls = {}
        yield message
        if isinstance(message, Assistant):
            open_calls = {call.id: call for call in message.calls if call.id not in pending}
    yield from (results.get(id_) or _missing_result(call) for id_, call in open_calls.items())


def _missing_result(call: ToolCall) -> ToolResult:
    return ToolResult(call.id, call.name, NO_RESULT, is_error=True, assessed=True)


def pair_calls(messages: Iterable[Message]) -> tuple[tuple[ToolCall, ToolResult | None], ...]:
    """Each tool call with the result behind it; None for one that has none."""
    pairs: list[tuple[ToolCall, ToolResult | None]] = []
    start = 0
    for message in messages:
        if isinstance(message, Assistant):
            start = len(pairs)
            pairs += [(call, None) for call in message.calls]
        elif isinstance(message, ToolResult):
            _attach_result(pairs, start, message)
    return tuple(pairs)


def _attach_result(
    pairs: list[tuple[ToolCall, ToolResult | None]], start: int, result: ToolResult
) -> None:
    """Puts a result down beside the first call of the turn that it may belong to."""
    for place in range(start, len(pairs)):
        call, found = pairs[place]
        if found is None and call.id == result.call_id:
            pairs[place] = (call, result)
            return

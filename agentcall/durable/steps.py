"""The steps of a run, each recorded before it counts.

Rules:
1. A call whose result is recorded is never carried out again.
2. A call is recorded as begun, on the disk, before its tool starts; its result is on the disk
   before the model is told.
3. A call that an earlier process began and that has no result is carried out again if its tool is
   idempotent; else its outcome is unknown, which is recorded as its result.
4. The model's turn is written without waiting; the records behind it wait for it, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from time import monotonic, time

from agentcall.durable.codec import dump_checkpoint, dump_turn
from agentcall.durable.journal import JournalEntry, RecordKind, RunStatus, seal_record
from agentcall.durable.state import DurableRunState
from agentcall.durable.writer_thread import WriterThread, wait_shielded
from agentcall.messages import JSON, ToolCall, ToolResult, to_json, tool_call_to_json
from agentcall.runtime.checkpoint import (
    RecordedCall,
    RunCheckpoint,
    create_unknown_result,
)
from agentcall.runtime.planned_call import PlannedCall
from agentcall.runtime.turn import ModelTurn


class StepRecorder:
    """Carries out the steps of one run under a hold on it; `ledger` is what is known of it."""

    def __init__(self, writer: WriterThread, lease_id: str, state: DurableRunState) -> None:
        self.state = state
        self._writer = writer
        self._lease_id = lease_id
        self._turns = dict(state.last_turns)
        self._pending_writes: list[Future[None]] = []
        self._spent, self._started_at = state.spent, monotonic()

    def load_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Where the model last answered."""
        is_left = any(key.rpartition(":")[0] == run_id for key in self._turns)
        return self.state.get_checkpoint(run_id) if is_left else None

    def find_recorded_call(self, key: str) -> RecordedCall | None:
        """What became of a call, unless a person wants it carried out again."""
        return self.state.get_call(key)

    async def call_model(
        self,
        key: str,
        request: Callable[[], Awaitable[ModelTurn]],
        checkpoint: Callable[[], RunCheckpoint],
    ) -> ModelTurn:
        """The recorded turn, once; else what the model says now."""
        recorded = self._turns.pop(key, None)
        if recorded is not None:
            return recorded
        current = checkpoint()
        turn = await request()
        run_id, _, _ = key.rpartition(":")
        dumped_checkpoint = dump_checkpoint(current, self.state.get_messages(run_id))
        body: dict[str, JSON] = {"key": key, "point": dumped_checkpoint, "turn": dump_turn(turn)}
        self._pending_writes.append(self.append_nowait("turn", body))
        return turn

    async def call_tool(
        self, step: PlannedCall, call: Callable[[], Awaitable[ToolResult]]
    ) -> ToolResult:
        """The recorded result; else that of carrying it out, if it may be carried out."""
        recorded = self.state.get_call(step.key)
        if recorded is not None and recorded.result is not None:
            return recorded.result
        if recorded is not None and not step.tool.options.idempotent:
            return await self.record_unknown_outcome(step.key, create_unknown_result(recorded.call))
        await self.append("start", {"key": step.key, "call": tool_call_to_json(step.call)})
        result = await call()
        await self.append("end", {"key": step.key, "result": to_json(result)})
        return result

    async def record_unknown_outcome(self, key: str, result: ToolResult) -> ToolResult:
        """Records what the model is told of a call whose outcome is unknown."""
        call = self.state.interrupted_calls[key]
        body: dict[str, JSON] = {
            "key": key,
            "result": to_json(result),
            "note": describe_unknown_outcome(call),
        }
        await self.append("end", body)
        return result

    async def append(
        self,
        kind: RecordKind,
        body: Mapping[str, JSON],
        state: RunStatus = "open",
        outcome: str = "",
    ) -> None:
        """Writes a record, and waits until it is on the disk. Raises JournalError."""
        last = self.append_nowait(kind, body, state, outcome)
        before, self._pending_writes = self._pending_writes, []
        for order in (*before, last):  # the first that failed says why
            await wait_shielded(order)

    def append_nowait(
        self,
        kind: RecordKind,
        body: Mapping[str, JSON],
        state: RunStatus = "open",
        outcome: str = "",
    ) -> Future[None]:
        """Writes a record behind those that were written before."""
        run = self.state
        spent = round(self._spent + monotonic() - self._started_at, 3)
        full_body = {**body, "at": round(time(), 3), "spent": spent}
        previous_digest = run.digest
        record = seal_record(run.run_id, run.sequence + 1, kind, full_body, previous_digest)
        run.apply(record)
        return self._writer.write(
            JournalEntry(record, self._lease_id, previous_digest, state, outcome)
        )


def describe_unknown_outcome(call: ToolCall) -> str:
    """What a person is told of a call whose outcome is unknown."""
    return f"{call.name}({call.arguments}) was begun and cut off; its outcome is unknown"

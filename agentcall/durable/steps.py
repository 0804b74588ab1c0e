"""The steps of a run, each recorded before the run depends on it.

Rules:
1. A call whose result is recorded is never executed again.
2. The start of a call is on the disk before its tool starts, and its result is on the disk before
   the model gets it.
3. A call that an earlier process started and that has no result is executed again if its tool is
   idempotent. Otherwise its outcome is unknown, which is recorded as its result.
4. A model's turn is written without waiting for it; the next record waits for both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from time import monotonic, time

from agentcall.durable.journal import JournalEntry, RecordKind, RunStatus, seal_record
from agentcall.durable.run_state import DurableRunState
from agentcall.durable.writer_thread import WriterThread, wait_shielded
from agentcall.messages import JSON, ToolCall, ToolResult, to_json, tool_call_to_json
from agentcall.runtime.checkpoint import (
    RecordedCall,
    RunCheckpoint,
    create_unknown_result,
)
from agentcall.runtime.planned_call import PlannedCall
from agentcall.runtime.turn import ModelTurn
from agentcall.storage.codec import checkpoint_to_json, turn_to_json


class StepRecorder:
    """Executes and records the steps of one run, under a lease on it."""

    def __init__(self, writer: WriterThread, lease_id: str, state: DurableRunState) -> None:
        self.state = state
        self._writer = writer
        self._lease_id = lease_id
        self._turns = dict(state.last_turns)
        self._pending_writes: list[Future[None]] = []
        self._spent, self._started_at = state.spent, monotonic()

    def load_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Return the checkpoint of the last recorded turn, unless that turn has been used."""
        is_unused = run_id in self.state.open_checkpoints or any(
            key.rpartition(":")[0] == run_id for key in self._turns
        )
        return self.state.get_checkpoint(run_id) if is_unused else None

    def find_recorded_call(self, key: str) -> RecordedCall | None:
        """Return a recorded call, unless a person wants it executed again."""
        return self.state.get_call(key)

    async def save_checkpoint(self, run_id: str, checkpoint: RunCheckpoint) -> None:
        """Record the state before a turn, and wait until it is on the disk."""
        point = checkpoint_to_json(checkpoint, self.state.get_messages(run_id))
        await self.append("point", {"run": run_id, "point": point})

    async def call_model(
        self,
        key: str,
        request: Callable[[], Awaitable[ModelTurn]],
        checkpoint: Callable[[], RunCheckpoint],
    ) -> ModelTurn:
        """Return the recorded turn once; after that, request and record one."""
        recorded = self._turns.pop(key, None)
        if recorded is not None:
            return recorded
        current = checkpoint()
        turn = await request()
        known = self.state.get_messages(key.rpartition(":")[0])
        point = checkpoint_to_json(current, known)
        body: dict[str, JSON] = {"key": key, "point": point, "turn": turn_to_json(turn)}
        self._pending_writes.append(self.append_nowait("turn", body))
        return turn

    async def call_tool(
        self, step: PlannedCall, call: Callable[[], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Return the recorded result; otherwise execute and record the call, if that is allowed."""
        recorded = self.state.get_call(step.key)
        if recorded is not None and recorded.result is not None:
            step.context.call_state.sent = recorded.sent
            return recorded.result
        if recorded is not None and not step.tool.options.idempotent:
            return await self.record_unknown_outcome(step.key, create_unknown_result(recorded.call))
        await self.append("start", {"key": step.key, "call": tool_call_to_json(step.call)})
        result = await call()
        body: dict[str, JSON] = {"key": step.key, "result": to_json(result)}
        if step.context.call_state.sent:
            body["sent"] = list(step.context.call_state.sent)
        await self.append("end", body)
        return result

    async def record_unknown_outcome(self, key: str, result: ToolResult) -> ToolResult:
        """Record the result that the model gets for a call whose outcome is unknown."""
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
        """Write a record and wait until it is on the disk. Raises JournalError."""
        last = self.append_nowait(kind, body, state, outcome)
        earlier, self._pending_writes = self._pending_writes, []
        for future in (*earlier, last):  # the first one that failed has the cause
            await wait_shielded(future)

    def append_nowait(
        self,
        kind: RecordKind,
        body: Mapping[str, JSON],
        state: RunStatus = "open",
        outcome: str = "",
    ) -> Future[None]:
        """Write a record after the earlier ones; the future is done when it is on the disk."""
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
    """Describe a call whose outcome is unknown, for a person."""
    return f"{call.name}({call.arguments}) was started and interrupted; its outcome is unknown"

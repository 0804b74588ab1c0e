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

from agentcall.durable.clerk import Clerk, done
from agentcall.durable.journal import Entry, State
from agentcall.durable.ledger import Ledger
from agentcall.durable.record import Kind, sealed
from agentcall.durable.wire import point_json, turn_json
from agentcall.messages import JSON, ToolCall, ToolResult, call_json, to_json
from agentcall.steps import Past, Point, ToolStep, unknown_outcome
from agentcall.turn import Turn


class Recorder:
    """Carries out the steps of one run under a hold on it; `ledger` is what is known of it."""

    def __init__(self, clerk: Clerk, hold: str, ledger: Ledger) -> None:
        self.ledger = ledger
        self._clerk = clerk
        self._hold = hold
        self._turns = dict(ledger.turns)
        self._unwaited: list[Future[None]] = []
        self._spent, self._since = ledger.spent, monotonic()

    def reached(self, run_id: str) -> Point | None:
        """Where the model last answered."""
        is_left = any(key.rpartition(":")[0] == run_id for key in self._turns)
        return self.ledger.reached(run_id) if is_left else None

    def past(self, key: str) -> Past | None:
        """What became of a call, unless a person wants it carried out again."""
        return self.ledger.past(key)

    async def model(
        self, key: str, ask: Callable[[], Awaitable[Turn]], point: Callable[[], Point]
    ) -> Turn:
        """The recorded turn, once; else what the model says now."""
        kept = self._turns.pop(key, None)
        if kept is not None:
            return kept
        stands = point()
        turn = await ask()
        run_id, _, _ = key.rpartition(":")
        said = point_json(stands, self.ledger.said(run_id))
        body: dict[str, JSON] = {"key": key, "point": said, "turn": turn_json(turn)}
        self._unwaited.append(self.write("turn", body))
        return turn

    async def tool(self, step: ToolStep, call: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        """The recorded result; else that of carrying it out, if it may be carried out."""
        past = self.ledger.past(step.key)
        if past is not None and past.result is not None:
            return past.result
        if past is not None and not step.marks.idempotent:
            return await self.settle(step.key, unknown_outcome(past.call))
        await self.written("start", {"key": step.key, "call": call_json(step.call)})
        result = await call()
        await self.written("end", {"key": step.key, "result": to_json(result)})
        return result

    async def settle(self, key: str, result: ToolResult) -> ToolResult:
        """Records what the model is told of a call whose outcome is unknown."""
        call = self.ledger.cut_off[key]
        body: dict[str, JSON] = {"key": key, "result": to_json(result), "note": unknown_note(call)}
        await self.written("end", body)
        return result

    async def written(
        self, kind: Kind, body: Mapping[str, JSON], state: State = "open", outcome: str = ""
    ) -> None:
        """Writes a record, and waits until it is on the disk. Raises JournalError."""
        last = self.write(kind, body, state, outcome)
        before, self._unwaited = self._unwaited, []
        for order in (*before, last):  # the first that failed says why
            await done(order)

    def write(
        self, kind: Kind, body: Mapping[str, JSON], state: State = "open", outcome: str = ""
    ) -> Future[None]:
        """Writes a record behind those that were written before."""
        ledger = self.ledger
        spent = round(self._spent + monotonic() - self._since, 3)
        whole = {**body, "at": round(time(), 3), "spent": spent}
        before = ledger.digest
        record = sealed(ledger.run_id, ledger.place + 1, kind, whole, before)
        ledger.take(record)
        return self._clerk.write(Entry(record, self._hold, before, state, outcome))


def unknown_note(call: ToolCall) -> str:
    """What a person is told of a call whose outcome is unknown."""
    return f"{call.name}({call.arguments}) was begun and cut off; its outcome is unknown"

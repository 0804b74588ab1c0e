"""What the records of a run say: where it stands, what it has begun, how it ended.

The process that runs it takes each record down as it writes it, and the one that goes on with it
takes them down as it reads them: so both know the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from agentcall.approvals import Decision, Denied, Edited
from agentcall.durable.codec import (
    parse_call,
    parse_checkpoint,
    parse_decision,
    parse_messages,
    parse_tool_result,
    parse_turn,
)
from agentcall.durable.fingerprint import AgentFingerprint
from agentcall.durable.journal import JournalRecord, RecordBody
from agentcall.messages import (
    JSON,
    Assistant,
    Message,
    ToolCall,
    Usage,
    fill_missing_results,
    is_tainted,
    load_messages,
)
from agentcall.result import MissingOutput, RunResult
from agentcall.runtime.checkpoint import RecordedCall, RunCheckpoint
from agentcall.runtime.turn import ModelTurn

Result = RunResult[Any]  # Any: the output's type is known to the agent alone


@dataclass(frozen=True, slots=True)
class BeginRecord:
    """How a run began: `start` is where its own messages begin."""

    agent: str
    messages: tuple[Message, ...]
    start: int
    recipe: Mapping[str, JSON] | None


class DurableRunState:
    """Takes the records of one run."""

    def __init__(self, run_id: str, records: Iterable[JournalRecord] = ()) -> None:
        self.run_id = run_id
        self.sequence, self.digest = 0, ""
        self.begin = BeginRecord("", (), 0, None)
        self.fingerprint = AgentFingerprint()
        self.notes: list[str] = []
        self.spent = 0.0
        self.paused_result: Result | None = None
        self.final_result: Result | None = None
        self.pending_resume: tuple[Result, Mapping[str, Decision]] | None = None
        self.error: tuple[str, str] | None = None
        self._messages: dict[str, tuple[Message, ...]] = {}
        self._checkpoints: dict[str, RunCheckpoint] = {}
        self._turns: dict[str, ModelTurn] = {}
        self._calls: dict[str, RecordedCall] = {}
        for record in records:
            self.apply(record)

    def apply(self, record: JournalRecord) -> None:
        """Takes a record down."""
        self.sequence, self.digest = record.sequence, record.digest
        body = record.fields
        self.spent = max(self.spent, body.get("spent", 0.0))
        match record.kind:
            case "begin":
                self._apply_begin(body)
            case "resume":
                self._apply_resume(body)
            case "turn":
                self._apply_turn(body)
            case "start":
                self._calls[body["key"]] = RecordedCall(parse_call(body["call"]), None)
            case "end":
                self._apply_end(body)
            case "pause":
                self._apply_pause(body)
            case "decide":
                self._apply_decide(body)
            case "finish":
                self.final_result = self._parse_result(body)
            case _:
                self.error = (body["type"], body["message"])

    @property
    def result(self) -> Result | None:
        """What the run gave, if it ended or waits for approval."""
        return self.final_result or self.paused_result

    def get_messages(self, run_id: str) -> tuple[Message, ...]:
        """The messages that are known of a run, or of a run within it."""
        return self._messages.get(run_id, ())

    def get_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Where a run, or a run within it, stood when the model last answered."""
        return self._checkpoints.get(run_id)

    @property
    def last_turns(self) -> Mapping[str, ModelTurn]:
        """The last turn of the run, and of each run within it, by key."""
        return self._turns

    def get_call(self, key: str) -> RecordedCall | None:
        """What became of a call."""
        return self._calls.get(key)

    @property
    def interrupted_calls(self) -> dict[str, ToolCall]:
        """The calls that were begun and have no result, by key."""
        return {key: past.call for key, past in self._calls.items() if past.result is None}

    def build_cancelled_result(self, reason: str) -> Result:
        """The result of a run that is cancelled where it stands."""
        found = self.paused_result or (self.pending_resume[0] if self.pending_resume else None)
        point = self.get_checkpoint(self.run_id)
        if point is None:
            usage, turns = (found.usage, found.turns) if found else (Usage(), 0)
            point = RunCheckpoint(self.get_messages(self.run_id), usage, turns)
        known = {past.call.id: past.result for past in self._calls.values() if past.result}
        return RunResult(
            answer=MissingOutput(reason),
            messages=fill_missing_results((*point.messages, *self._build_last_turn(point)), known),
            start=self.begin.start,
            usage=point.usage,
            stop_reason="cancelled",
            run_id=self.run_id,
            turns=point.turns,
            agent=point.agent or self.begin.agent,
            notes=tuple(self.notes),
        )

    def _build_last_turn(self, point: RunCheckpoint) -> tuple[Message, ...]:
        """What the model called in its last turn, as far as it was begun."""
        key = f"{self.run_id}:{point.turns}"
        begun = tuple(past.call for name, past in self._calls.items() if _get_run_id(name) == key)
        turn = self._turns.get(key)
        if turn is None or not begun:
            return ()
        tainted = is_tainted(point.messages)
        return (Assistant(turn.text, begun, turn.thinking, tainted, assessed=True),)

    # What each kind of record says.

    def _apply_begin(self, body: RecordBody) -> None:
        messages = load_messages(body["messages"])
        self.begin = BeginRecord(body["agent"], messages, body["start"], body.get("recipe"))
        self.fingerprint = AgentFingerprint.from_json(body["code"])
        self._messages[self.run_id] = messages

    def _apply_resume(self, body: RecordBody) -> None:
        self.fingerprint = AgentFingerprint.from_json(body["code"])
        self.notes += body["notes"]
        self.error = None

    def _apply_turn(self, body: RecordBody) -> None:
        run_id, _, _ = body["key"].rpartition(":")
        point = parse_checkpoint(body["point"], self.get_messages(run_id))
        self._messages[run_id] = point.messages
        self._checkpoints[run_id] = point
        self._turns = {key: turn for key, turn in self._turns.items() if _get_run_id(key) != run_id}
        self._turns[body["key"]] = parse_turn(body["turn"])

    def _apply_end(self, body: RecordBody) -> None:
        call = self._calls[body["key"]].call
        self._calls[body["key"]] = RecordedCall(call, parse_tool_result(body["result"]))
        if "note" in body:
            self.notes.append(body["note"])

    def _apply_pause(self, body: RecordBody) -> None:
        self.paused_result = self._parse_result(body)
        self._messages[self.run_id] = self.paused_result.messages

    def _apply_decide(self, body: RecordBody) -> None:
        waiting = self.paused_result
        if waiting is None:
            return
        decisions = {name: parse_decision(wire) for name, wire in body["decisions"].items()}
        self.pending_resume, self.paused_result = (waiting, decisions), None
        edits = {
            call.id: replace(call, arguments=decision.arguments_json)
            for call in (pending.call for pending in waiting.own_pending)
            if isinstance(decision := decisions.get(call.id), Edited)
        }
        self._messages[self.run_id] = tuple(
            _apply_edits(message, edits) for message in waiting.messages
        )
        names = map_decision_ids(waiting)
        # what waited goes on from the decision, not from the turn that led to it
        for run_id in {self.run_id, *(run_id for run_id, _ in names)}:
            self._checkpoints.pop(run_id, None)
            self._turns = {
                key: turn for key, turn in self._turns.items() if _get_run_id(key) != run_id
            }
        again = {
            place
            for place, name in names.items()
            if name in decisions and not isinstance(decisions[name], Denied)
        }
        self._calls = {
            key: past
            for key, past in self._calls.items()
            if past.result is not None or (get_call_run_id(key), past.call.id) not in again
        }

    def _parse_result(self, body: RecordBody) -> Result:
        wire = dict(body["result"])
        messages = parse_messages(wire.pop("said"), self.get_messages(self.run_id))
        wire["messages"] = []
        return replace(RunResult.from_json(orjson.dumps(wire)), messages=messages)


def _get_run_id(key: str) -> str:
    return key.rpartition(":")[0]


def get_call_run_id(key: str) -> str:
    """The run whose call has this key."""
    return key.rsplit(":", 2)[0]


def map_decision_ids(result: Result, before: str = "") -> dict[tuple[str, str], str]:
    """By which names a person decides about the calls that wait, by run and call id."""
    ids = [pending.call.id for pending in result.own_pending]
    names = {(result.run_id, call_id): before + call_id for call_id in ids}
    for paused in result.paused:
        names |= map_decision_ids(paused.result, f"{before}{paused.call.id}/")
    return names


def _apply_edits(message: Message, edits: Mapping[str, ToolCall]) -> Message:
    if not isinstance(message, Assistant) or not edits:
        return message
    return replace(message, calls=tuple(edits.get(call.id, call) for call in message.calls))

"""The state of a durable run, built from its records.

The process that executes a run applies each record when it writes it. A process that continues the
run applies the records when it reads them, and so arrives at the same state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from agentcall.agent import Agent
from agentcall.approvals import Decision, Denied, Edited
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
    tool_call_from_json,
)
from agentcall.result import MissingOutput, RunResult, SavedOverrides
from agentcall.runtime.checkpoint import RecordedCall, RunCheckpoint
from agentcall.runtime.turn import ModelTurn
from agentcall.settings import ModelSettings
from agentcall.storage.codec import (
    AnyResult,
    checkpoint_from_json,
    compute_digest,
    decision_from_json,
    result_from_json,
    tool_result_from_json,
    turn_from_json,
)


@dataclass(frozen=True, slots=True)
class AgentFingerprint:
    """Digests of what the model is given by an agent, to report what changes between processes.

    tools: by name. answer: of the schema of the output.
    """

    instructions: str = ""
    answer: str = ""
    tools: dict[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_agent(cls, agent: Agent[Any, Any]) -> AgentFingerprint:  # Any: its own types
        """Compute the fingerprint of an agent."""
        prompt = agent.spec.prompt
        return cls(
            compute_digest(prompt.instructions),
            compute_digest(_dump_sorted(prompt.answer_schema)),
            {tool.name: compute_digest(_dump_sorted(tool.definition)) for tool in prompt.tools},
        )

    @classmethod
    def from_json(cls, wire: RecordBody) -> AgentFingerprint:
        """Read the JSON form."""
        return cls(wire["instructions"], wire["answer"], dict(wire["tools"]))

    def describe_changes(self, now: AgentFingerprint) -> list[str]:
        """Describe the differences to a later fingerprint."""
        changes: list[str] = []
        if self.instructions != now.instructions:
            changes.append("the instructions have changed")
        if self.answer != now.answer:
            changes.append("the type of the answer has changed")
        changes += [f"the tool {name} is gone" for name in self.tools.keys() - now.tools.keys()]
        changes += [f"the tool {name} is new" for name in now.tools.keys() - self.tools.keys()]
        for name in self.tools.keys() & now.tools.keys():
            if self.tools[name] != now.tools[name]:
                changes.append(f"the tool {name} has changed")
        return changes


def _dump_sorted(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


@dataclass(frozen=True, slots=True)
class BeginRecord:
    """The first record: `start` is the index of the first message of the run itself."""

    agent: str
    messages: tuple[Message, ...]
    start: int
    recipe: Mapping[str, JSON] | None
    settings: ModelSettings | None = None
    overrides: SavedOverrides | None = None


class DurableRunState:
    """The state of one run after its last record.

    sequence, digest: those of the last record.
    notes: what a person has to know: unknown outcomes, and changes of the agent.
    spent: seconds that the run has been executed for.
    pending_resume: the result of the last pause and the decisions about it.
    error: type and message of the error that the run failed with.
    """

    def __init__(self, run_id: str, records: Iterable[JournalRecord] = ()) -> None:
        self.run_id = run_id
        self.sequence, self.digest = 0, ""
        self.begin = BeginRecord("", (), 0, None)
        self.fingerprint = AgentFingerprint()
        self.notes: list[str] = []
        self.spent = 0.0
        self.paused_result: AnyResult | None = None
        self.final_result: AnyResult | None = None
        self.pending_resume: tuple[AnyResult, Mapping[str, Decision]] | None = None
        self.error: tuple[str, str] | None = None
        self._messages: dict[str, tuple[Message, ...]] = {}
        self._checkpoints: dict[str, RunCheckpoint] = {}
        self._turns: dict[str, ModelTurn] = {}
        self._calls: dict[str, RecordedCall] = {}
        self.open_checkpoints: set[str] = set()  # the runs whose next turn is not recorded
        for record in records:
            self.apply(record)

    def apply(self, record: JournalRecord) -> None:
        """Update the state with the next record."""
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
            case "point":
                self._apply_point(body["run"], body["point"])
            case "start":
                self._calls[body["key"]] = RecordedCall(tool_call_from_json(body["call"]), None)
            case "end":
                self._apply_end(body)
            case "pause":
                self._apply_pause(body)
            case "decide":
                self._apply_decide(body)
            case "finish":
                self.final_result, self.paused_result = self._read_result(body), None
            case _:
                self.error = (body["type"], body["message"])

    @property
    def result(self) -> AnyResult | None:
        """The result of a run that has ended or waits for approval."""
        return self.final_result or self.paused_result

    def get_messages(self, run_id: str) -> tuple[Message, ...]:
        """Return the messages that the records contain of a run, or of a run nested in it."""
        return self._messages.get(run_id, ())

    def get_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Return the checkpoint of the last turn of a run, or of a run nested in it."""
        return self._checkpoints.get(run_id)

    @property
    def last_turns(self) -> Mapping[str, ModelTurn]:
        """The last turn of the run, and of each run nested in it, by key."""
        return self._turns

    def get_call(self, key: str) -> RecordedCall | None:
        """Return a recorded call."""
        return self._calls.get(key)

    @property
    def interrupted_calls(self) -> dict[str, ToolCall]:
        """The calls that were started and have no result, by key."""
        return {
            key: recorded.call for key, recorded in self._calls.items() if recorded.result is None
        }

    def build_cancelled_result(self, reason: str) -> AnyResult:
        """Build the result of a run that is cancelled in its present state."""
        paused = self.paused_result or (self.pending_resume[0] if self.pending_resume else None)
        point = self.get_checkpoint(self.run_id)
        if point is None:
            usage, turns = (paused.usage, paused.turns) if paused else (Usage(), 0)
            point = RunCheckpoint(self.get_messages(self.run_id), usage, turns)
        known = {c.call.id: c.result for c in self._calls.values() if c.result}
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
        """Return the model's last message with the calls that were started."""
        key = f"{self.run_id}:{point.turns}"
        started = tuple(c.call for name, c in self._calls.items() if _get_run_id(name) == key)
        turn = self._turns.get(key)
        if turn is None or not started:
            return ()
        tainted = is_tainted(point.messages)
        return (Assistant(turn.text, started, turn.thinking, tainted, assessed=True),)

    # One method for each kind of record.

    def _apply_begin(self, body: RecordBody) -> None:
        messages = load_messages(body["messages"])
        settings = ModelSettings.from_json(body["settings"]) if "settings" in body else None
        wire = body.get("overrides")
        overrides = None if wire is None else SavedOverrides.from_json(wire)
        self.begin = BeginRecord(
            body["agent"], messages, body["start"], body.get("recipe"), settings, overrides
        )
        self.fingerprint = AgentFingerprint.from_json(body["code"])
        self._messages[self.run_id] = messages

    def _apply_resume(self, body: RecordBody) -> None:
        self.fingerprint = AgentFingerprint.from_json(body["code"])
        self.notes += body["notes"]
        self.error = None

    def _apply_turn(self, body: RecordBody) -> None:
        run_id, _, _ = body["key"].rpartition(":")
        self._apply_point(run_id, body["point"])
        self.open_checkpoints.discard(run_id)
        self._turns[body["key"]] = turn_from_json(body["turn"])

    def _apply_point(self, run_id: str, wire: RecordBody) -> None:
        point = checkpoint_from_json(wire, self.get_messages(run_id))
        self._messages[run_id] = point.messages
        self._checkpoints[run_id] = point
        self._turns = {key: turn for key, turn in self._turns.items() if _get_run_id(key) != run_id}
        self.open_checkpoints.add(run_id)

    def _apply_end(self, body: RecordBody) -> None:
        call = self._calls[body["key"]].call
        result, sent = tool_result_from_json(body["result"]), tuple(body.get("sent", ()))
        self._calls[body["key"]] = RecordedCall(call, result, sent)
        if "note" in body:
            self.notes.append(body["note"])

    def _apply_pause(self, body: RecordBody) -> None:
        self.paused_result = self._read_result(body)
        self._messages[self.run_id] = self.paused_result.messages

    def _apply_decide(self, body: RecordBody) -> None:
        waiting = self.paused_result
        if waiting is None:
            return
        decisions = {name: decision_from_json(wire) for name, wire in body["decisions"].items()}
        self.pending_resume, self.paused_result = (waiting, decisions), None
        edits = {
            call.id: replace(call, arguments=decision.arguments_json)
            for call in (p.call for p in waiting.own_pending if p.question is None)
            if isinstance(decision := decisions.get(call.id), Edited)
        }
        self._messages[self.run_id] = tuple(
            _apply_edits(message, edits) for message in waiting.messages
        )
        decision_ids = map_decision_ids(waiting)
        # a run that waited continues from the decision, not from the turn before it
        for run_id in {self.run_id, *(run_id for run_id, _ in decision_ids)}:
            self._checkpoints.pop(run_id, None)
            self.open_checkpoints.discard(run_id)
            self._turns = {
                key: turn for key, turn in self._turns.items() if _get_run_id(key) != run_id
            }
        retried = {
            call
            for call, decision_id in decision_ids.items()
            if decision_id in decisions and not isinstance(decisions[decision_id], Denied)
        }
        self._calls = {
            key: recorded
            for key, recorded in self._calls.items()
            if recorded.result is not None
            or (get_call_run_id(key), recorded.call.id) not in retried
        }

    def _read_result(self, body: RecordBody) -> AnyResult:
        return result_from_json(body["result"], self.get_messages(self.run_id))


def _get_run_id(key: str) -> str:
    return key.rpartition(":")[0]


def get_call_run_id(key: str) -> str:
    """Return the id of the run that made the call of this key."""
    return key.rsplit(":", 2)[0]


def map_decision_ids(result: AnyResult, prefix: str = "") -> dict[tuple[str, str], str]:
    """Map each waiting call, as its run and call id, to its id in a person's decisions.

    The id of a call of a nested run begins with the id of the call that runs the agent.
    """
    ids = [pending.call.id for pending in result.own_pending]
    decision_ids = {(result.run_id, call_id): prefix + call_id for call_id in ids}
    for paused in result.paused:
        decision_ids |= map_decision_ids(paused.result, f"{prefix}{paused.call.id}/")
    return decision_ids


def _apply_edits(message: Message, edits: Mapping[str, ToolCall]) -> Message:
    if not isinstance(message, Assistant) or not edits:
        return message
    return replace(message, calls=tuple(edits.get(call.id, call) for call in message.calls))

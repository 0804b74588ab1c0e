"""What the records of a run say: where it stands, what it has begun, how it ended.

The process that runs it takes each record down as it writes it, and the one that goes on with it
takes them down as it reads them: so both know the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from agentcall.approval import Decision, Denied, Edited
from agentcall.durable.code import Code
from agentcall.durable.record import Body, Record
from agentcall.durable.wire import (
    call_from,
    decision_from,
    messages_from,
    point_from,
    result_from,
    turn_from,
)
from agentcall.history import completed
from agentcall.messages import JSON, Assistant, Message, ToolCall, Usage, load
from agentcall.result import Missing, RunResult
from agentcall.steps import Past, Point
from agentcall.taint import is_tainted
from agentcall.turn import Turn

Result = RunResult[Any]  # Any: the output's type is known to the agent alone


@dataclass(frozen=True, slots=True)
class Begin:
    """How a run began: `start` is where its own messages begin."""

    agent: str
    messages: tuple[Message, ...]
    start: int
    recipe: Mapping[str, JSON] | None


class Ledger:
    """Takes the records of one run."""

    def __init__(self, run_id: str, records: Iterable[Record] = ()) -> None:
        self.run_id = run_id
        self.place, self.digest = 0, ""
        self.begin = Begin("", (), 0, None)
        self.code = Code()
        self.notes: list[str] = []
        self.spent = 0.0
        self.waiting: Result | None = None
        self.finished: Result | None = None
        self.decided: tuple[Result, Mapping[str, Decision]] | None = None
        self.error: tuple[str, str] | None = None
        self._said: dict[str, tuple[Message, ...]] = {}
        self._points: dict[str, Point] = {}
        self._turns: dict[str, Turn] = {}
        self._begun: dict[str, Past] = {}
        for record in records:
            self.take(record)

    def take(self, record: Record) -> None:
        """Takes a record down."""
        self.place, self.digest = record.place, record.digest
        body = record.fields
        self.spent = max(self.spent, body.get("spent", 0.0))
        match record.kind:
            case "begin":
                self._take_begin(body)
            case "resume":
                self._take_resume(body)
            case "turn":
                self._take_turn(body)
            case "start":
                self._begun[body["key"]] = Past(call_from(body["call"]), None)
            case "end":
                self._take_end(body)
            case "pause":
                self._take_pause(body)
            case "decide":
                self._take_decide(body)
            case "finish":
                self.finished = self._result(body)
            case _:
                self.error = (body["type"], body["message"])

    @property
    def result(self) -> Result | None:
        """What the run gave, if it ended or waits for approval."""
        return self.finished or self.waiting

    def said(self, run_id: str) -> tuple[Message, ...]:
        """The messages that are known of a run, or of a run within it."""
        return self._said.get(run_id, ())

    def reached(self, run_id: str) -> Point | None:
        """Where a run, or a run within it, stood when the model last answered."""
        return self._points.get(run_id)

    @property
    def turns(self) -> Mapping[str, Turn]:
        """The last turn of the run, and of each run within it, by key."""
        return self._turns

    def past(self, key: str) -> Past | None:
        """What became of a call."""
        return self._begun.get(key)

    @property
    def cut_off(self) -> dict[str, ToolCall]:
        """The calls that were begun and have no result, by key."""
        return {key: past.call for key, past in self._begun.items() if past.result is None}

    def stopped(self, reason: str) -> Result:
        """The result of a run that is cancelled where it stands."""
        found = self.waiting or (self.decided[0] if self.decided else None)
        point = self.reached(self.run_id)
        if point is None:
            usage, turns = (found.usage, found.turns) if found else (Usage(), 0)
            point = Point(self.said(self.run_id), usage, turns)
        known = {past.call.id: past.result for past in self._begun.values() if past.result}
        return RunResult(
            answer=Missing(reason),
            messages=completed((*point.messages, *self._last_turn(point)), known),
            start=self.begin.start,
            usage=point.usage,
            stop_reason="cancelled",
            run_id=self.run_id,
            turns=point.turns,
            agent=point.agent or self.begin.agent,
            notes=tuple(self.notes),
        )

    def _last_turn(self, point: Point) -> tuple[Message, ...]:
        """What the model called in its last turn, as far as it was begun."""
        key = f"{self.run_id}:{point.turns}"
        begun = tuple(past.call for name, past in self._begun.items() if _run_of(name) == key)
        turn = self._turns.get(key)
        if turn is None or not begun:
            return ()
        tainted = is_tainted(point.messages)
        return (Assistant(turn.text, begun, turn.thinking, tainted, assessed=True),)

    # What each kind of record says.

    def _take_begin(self, body: Body) -> None:
        messages = load(body["messages"])
        self.begin = Begin(body["agent"], messages, body["start"], body.get("recipe"))
        self.code = Code.from_json(body["code"])
        self._said[self.run_id] = messages

    def _take_resume(self, body: Body) -> None:
        self.code = Code.from_json(body["code"])
        self.notes += body["notes"]
        self.error = None

    def _take_turn(self, body: Body) -> None:
        run_id, _, _ = body["key"].rpartition(":")
        point = point_from(body["point"], self.said(run_id))
        self._said[run_id] = point.messages
        self._points[run_id] = point
        self._turns = {key: turn for key, turn in self._turns.items() if _run_of(key) != run_id}
        self._turns[body["key"]] = turn_from(body["turn"])

    def _take_end(self, body: Body) -> None:
        call = self._begun[body["key"]].call
        self._begun[body["key"]] = Past(call, result_from(body["result"]))
        if "note" in body:
            self.notes.append(body["note"])

    def _take_pause(self, body: Body) -> None:
        self.waiting = self._result(body)
        self._said[self.run_id] = self.waiting.messages

    def _take_decide(self, body: Body) -> None:
        waiting = self.waiting
        if waiting is None:
            return
        decisions = {name: decision_from(wire) for name, wire in body["decisions"].items()}
        self.decided, self.waiting = (waiting, decisions), None
        edits = {
            call.id: replace(call, arguments=decision.text)
            for call in (pending.call for pending in waiting.own_pending)
            if isinstance(decision := decisions.get(call.id), Edited)
        }
        self._said[self.run_id] = tuple(_edited(message, edits) for message in waiting.messages)
        names = waiting_names(waiting)
        # what waited goes on from the decision, not from the turn that led to it
        for run_id in {self.run_id, *(run_id for run_id, _ in names)}:
            self._points.pop(run_id, None)
            self._turns = {key: turn for key, turn in self._turns.items() if _run_of(key) != run_id}
        again = {
            place
            for place, name in names.items()
            if name in decisions and not isinstance(decisions[name], Denied)
        }
        self._begun = {
            key: past
            for key, past in self._begun.items()
            if past.result is not None or (run_of_call(key), past.call.id) not in again
        }

    def _result(self, body: Body) -> Result:
        wire = dict(body["result"])
        messages = messages_from(wire.pop("said"), self.said(self.run_id))
        wire["messages"] = []
        return replace(RunResult.from_json(orjson.dumps(wire)), messages=messages)


def _run_of(key: str) -> str:
    return key.rpartition(":")[0]


def run_of_call(key: str) -> str:
    """The run whose call has this key."""
    return key.rsplit(":", 2)[0]


def waiting_names(result: Result, before: str = "") -> dict[tuple[str, str], str]:
    """By which names a person decides about the calls that wait, by run and call id."""
    ids = [pending.call.id for pending in result.own_pending]
    names = {(result.run_id, call_id): before + call_id for call_id in ids}
    for paused in result.paused:
        names |= waiting_names(paused.result, f"{before}{paused.call.id}/")
    return names


def _edited(message: Message, edits: Mapping[str, ToolCall]) -> Message:
    if not isinstance(message, Assistant) or not edits:
        return message
    return replace(message, calls=tuple(edits.get(call.id, call) for call in message.calls))

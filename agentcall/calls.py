"""The calls of a turn: repaired, judged, carried out; each ends in a result or waits for approval.

Rules:
1. What was repaired is what is judged, shown for approval, carried out and recorded.
2. Every call of a turn has an id of its own, whatever the server gave.
3. A call that is refused has a result that says why; it costs no tool call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agentcall.approval import Approved, Decision, Denied, denied_words
from agentcall.dialects.parts import Called
from agentcall.events import ApprovalRequested, LoopDetected, ToolCallRepaired
from agentcall.execute import Emit, Job, carry_out_all
from agentcall.guard import LoopGuard, repeated_words
from agentcall.limits import Limits
from agentcall.messages import Message, ToolCall, ToolResult, Usage
from agentcall.registry import ToolRegistry
from agentcall.repair import Refused, Repaired, repair
from agentcall.result import StopReason
from agentcall.steps import Steps
from agentcall.tool import RunContext


@dataclass(frozen=True, slots=True)
class Scene:
    """Where calls are made: what their tools may know of the run."""

    run_id: str
    turn: int
    deps: object
    usage: Usage
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """What became of the calls of a turn; `close` says why the tools have to be closed."""

    calls: tuple[ToolCall, ...]
    results: tuple[ToolResult, ...]
    pending: tuple[ToolCall, ...]
    close: StopReason | None


@dataclass(frozen=True, slots=True)
class _Judged:
    """A call, and either the work to do, or the words that answer it, or neither: it waits."""

    call: ToolCall
    job: Job | None = None
    words: str = ""


class CallDesk:
    """Takes the calls of a run's turns; remembers what the run has called."""

    def __init__(
        self, registry: ToolRegistry, limits: Limits, steps: Steps, emit: Emit | None
    ) -> None:
        self._registry = registry
        self._limits = limits
        self._steps = steps
        self._emit = emit
        self._guard = LoopGuard()
        self._failures: Counter[str] = Counter()
        self._ids: set[str] = set()
        self._close: StopReason | None = None
        self.carried_out = 0

    async def round(self, asked: Sequence[Called], scene: Scene) -> Round:
        """What becomes of the calls that a turn asks for."""
        judged = [self._judge(index, called, scene) for index, called in enumerate(asked)]
        return await self._finish(judged)

    async def decided(
        self, waiting: Sequence[ToolCall], decisions: Mapping[str, Decision], scene: Scene
    ) -> Round:
        """What becomes of calls that waited; one without a decision goes on waiting."""
        judged = [
            self._decide(index, call, decisions.get(call.id), scene)
            for index, call in enumerate(waiting)
        ]
        return await self._finish(judged)

    async def _finish(self, judged: Sequence[_Judged]) -> Round:
        jobs = [item.job for item in judged if item.job is not None]
        done = await carry_out_all(jobs, self._limits, self._steps, self._emit)
        for job, result in zip(jobs, done, strict=True):
            self._guard.record(job.tool, job.call, result)
            self._failures[job.call.name] = (
                self._failures[job.call.name] + 1 if result.is_error else 0
            )
        by_id = {result.call_id: result for result in done}
        told = {
            item.call.id: ToolResult(item.call.id, item.call.name, item.words, is_error=True)
            for item in judged
            if item.words
        }
        calls = tuple(item.call for item in judged)
        known = {**by_id, **told}
        pending = tuple(call for call in calls if call.id not in known)
        results = tuple(known[call.id] for call in calls if call.id in known)
        return Round(calls, results, pending, self._close)

    def _judge(self, index: int, called: Called, scene: Scene) -> _Judged:
        identity = self._fresh_id(called.id, scene.turn, index)
        mended = repair(called, self._registry.by_name)
        if isinstance(mended, Refused):
            return self._refused(ToolCall(identity, called.name, _object(called.arguments)), mended)
        call = ToolCall(identity, mended.tool.name, mended.arguments)
        for fix in mended.fixes:
            self._tell(ToolCallRepaired(call, fix.rule, fix.before, fix.after))
        objection = self._objection(mended, call)
        if objection:
            return _Judged(call, words=objection)
        if mended.tool.marks.requires_approval:
            self._tell(ApprovalRequested(call))
            return _Judged(call)
        return self._ready(call, mended, scene, index)

    def _decide(
        self, index: int, call: ToolCall, decision: Decision | None, scene: Scene
    ) -> _Judged:
        if decision is None:
            return _Judged(call)
        if isinstance(decision, Denied):
            return _Judged(call, words=denied_words(decision))
        arguments = call.arguments if isinstance(decision, Approved) else decision.arguments
        mended = repair(Called(call.name, arguments), self._registry.by_name)
        if isinstance(mended, Refused):
            return _Judged(call, words=mended.words)
        return self._ready(ToolCall(call.id, call.name, mended.arguments), mended, scene, index)

    def _refused(self, call: ToolCall, refused: Refused) -> _Judged:
        self._guard.record_error(refused.words)
        if self._guard.is_stuck:
            self._tell(LoopDetected(call, "the same error again; the tools are closed"))
            self._close = "loop"
        return _Judged(call, words=refused.words)

    def _objection(self, mended: Repaired, call: ToolCall) -> str:
        """Why a valid call is not carried out; nothing if it may be."""
        limit = self._limits.tool_calls
        if limit is not None and self.carried_out >= limit:
            self._close = "max_tool_calls"
            return f"Not called: this run may make {limit} tool calls, and all are used up."
        verdict = self._guard.judge(mended.tool, call)
        if verdict == "go":
            return ""
        if verdict == "close":
            self._close = "loop"
        told = "; the tools are closed" if verdict == "close" else ""
        self._tell(LoopDetected(call, f"the same call again{told}"))
        return repeated_words(call, self._guard.last(call))

    def _ready(self, call: ToolCall, mended: Repaired, scene: Scene, index: int) -> _Judged:
        self.carried_out += 1
        context = RunContext[Any](  # Any: the user's own type
            deps=scene.deps,
            usage=scene.usage,
            messages=scene.messages,
            retry=self._failures[call.name],
            tool_call_id=call.id,
            tool_name=call.name,
            run_id=scene.run_id,
            idempotency_key=f"{scene.run_id}:{scene.turn}:{index}",
        )
        return _Judged(call, Job(call, mended.tool, mended.values, context))

    def _fresh_id(self, given: str, turn: int, index: int) -> str:
        identity = given if given and given not in self._ids else f"call_{turn}_{index}"
        while identity in self._ids:
            identity += "_"
        self._ids.add(identity)
        return identity

    def _tell(self, event: ApprovalRequested | LoopDetected | ToolCallRepaired) -> None:
        if self._emit is not None:
            self._emit(event)


def _object(arguments: str) -> str:
    """The arguments if they are a JSON object, else an empty one: servers refuse anything else."""
    try:
        return arguments if isinstance(orjson.loads(arguments), dict) else "{}"
    except ValueError:
        return "{}"

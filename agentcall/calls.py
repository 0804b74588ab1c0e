"""The calls of a turn: repaired, judged, carried out; each ends in a result or waits for approval.

Rules:
1. What was repaired is what is judged, shown for approval, carried out and recorded.
2. Every call of a conversation has an id of its own, whatever the server gave.
3. A call that is refused has a result that says why; it costs no tool call.
4. What a turn asks for twice is carried out once, and both calls have its result.
5. The policy rules on a call before it is carried out, and once more when a person has decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from agentcall.approval import Approved, Denied, denied_words
from agentcall.dialects.parts import Called
from agentcall.events import (
    ApprovalRequested,
    Event,
    LoopDetected,
    ToolCallDenied,
    ToolCallRefused,
    ToolCallRepaired,
)
from agentcall.execute import Job, carry_out_all
from agentcall.grants import granted
from agentcall.guard import SAME_ERRORS, LoopGuard, repeated_words, signed
from agentcall.judged import Judged, Round, texts_by_sign
from agentcall.limits import Limits
from agentcall.messages import Assistant, Message, ToolCall, ToolResult, Usage
from agentcall.origin import Lineage
from agentcall.policy import (
    Ask,
    Attempt,
    Deny,
    Policy,
    Ruling,
    default_policy,
    denied_by_policy,
    ruling,
)
from agentcall.registry import ToolRegistry
from agentcall.repair import Refused, Repaired, repair
from agentcall.result import Paused, PendingCall, RunResult, StopReason
from agentcall.steps import CUT_OFF, Past, unknown_outcome
from agentcall.taint import is_tainted
from agentcall.tool import RunContext

_CHANGED = "The tool has changed since this call was made, and it was not called. Call it again."
_ONCE_MORE = "it was approved always before untrusted content came into the conversation"
_NONE: Mapping[int, Past] = {}
_TWICE = "(You made this call twice in one turn; it was carried out once, and gave:)\n"


class Scene(NamedTuple):
    """Where calls are made: what their tools may know of the run."""

    run_id: str
    turn: int
    deps: object
    usage: Usage
    messages: tuple[Message, ...]

    def key(self, index: int) -> str:
        """The idempotency key of the turn's call at this place."""
        return f"{self.run_id}:{self.turn}:{index}"


class CallDesk:
    """Takes the calls of a run's turns; remembers what the run has called.

    `known` has every result so far by call id, also those of a turn that is under way;
    `is_tainted` says whether untrusted content has been read.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        limits: Limits,
        home: Lineage,
        *,
        policy: Policy | None = None,
    ) -> None:
        self._registry = registry
        self._policy = policy
        self.is_tainted = False
        self._limits = limits
        self._home = home
        self._goes_on = False
        self._guard = LoopGuard()
        self._failures: Counter[str] = Counter()
        self._ids: set[str] = set()
        self._close: StopReason | None = None
        self._paused: dict[str, RunResult[Any]] = {}  # Any: there is no output yet
        self.known: dict[str, ToolResult] = {}

    def offer(self, registry: ToolRegistry) -> None:
        """Takes calls of these tools from now on."""
        self._registry = registry

    def move(self, home: Lineage, policy: Policy | None) -> None:
        """Makes calls for another agent from now on."""
        self._home = home
        self._policy = policy

    def recall(self, history: Sequence[Message]) -> None:
        """Remembers what came before: used ids, and whether untrusted content is in it."""
        self._ids.update(c.id for m in history if isinstance(m, Assistant) for c in m.calls)
        self.is_tainted = is_tainted(history)

    def recall_turns(self, messages: Sequence[Message]) -> None:
        """Takes down what the turns of this run called in an earlier process, and goes on."""
        self._goes_on = True
        for place, message in enumerate(messages):
            if not isinstance(message, Assistant) or not message.calls:
                continue
            behind = takewhile(lambda m: isinstance(m, ToolResult), messages[place + 1 :])
            results = {m.call_id: m for m in behind if isinstance(m, ToolResult)}
            texts: dict[str, str] = {}
            for call in message.calls:
                result = results.get(call.id)
                sign = _sign(repair(Called(call.name, call.arguments), self._registry.by_name))
                if result is not None and sign:
                    texts[f"failed {sign}" if result.is_error else sign] = result.text
                    self._failures[call.name] += 1
                    if not result.is_error:
                        self._failures[call.name] = 0
            self._guard.record(texts)

    def judged(self, asked: Sequence[Called], scene: Scene) -> list[Judged]:
        """The calls that a turn asks for, each with what is to become of it."""
        mended = [repair(called, self._registry.by_name) for called in asked]
        signs = [_sign(found) for found in mended]
        repeated = self._guard.repeated({sign for sign in signs if sign})
        if self._guard.is_circling:
            self._close = "loop"
        begun = self._begun_before(len(asked), scene) if self._goes_on else _NONE
        first: dict[str, str] = {}
        done: list[Judged] = []
        for index, (called, found, sign) in enumerate(zip(asked, mended, signs, strict=True)):
            if index in begun:
                if sign:
                    first.setdefault(sign, begun[index].call.id)
                done.append(self._begun(begun[index], scene, index))
                continue
            identity = self._fresh_id(called.id, scene.turn, index)
            if isinstance(found, Refused):
                call = ToolCall(identity, called.name, _object(called.arguments))
                done.append(Judged(call, words=found.words, is_wrong=True))
                continue
            call = ToolCall(identity, found.tool.name, found.arguments)
            self._tell_repairs(call, found)
            if sign in repeated:
                done.append(self._repetition(call, sign, scene))
            elif sign in first:
                done.append(Judged(call, twin=first[sign]))
            else:
                if sign:
                    first[sign] = identity
                done.append(self._admitted(call, found, sign, scene, index))
        return done

    def decided(
        self,
        waiting: Sequence[PendingCall],
        decisions: Mapping[str, Approved | Denied],
        scene: Scene,
    ) -> list[Judged]:
        """Calls that waited, each with what was decided; one without a decision waits on."""
        places = _places(scene.messages)
        done: list[Judged] = []
        for pending in waiting:
            index = places.get(pending.call.id, 0)
            past = self._home.steps.past(scene.key(index))
            if past is not None:
                done.append(self._begun(past, scene, index))
            else:
                decision = decisions.get(pending.call.id)
                done.append(self._decided(pending, decision, scene, index))
        return done

    def continued(self, paused: Iterable[Paused], scene: Scene) -> list[Judged]:
        """Calls of agents that waited: those about which something was decided go on."""
        places = _places(scene.messages)
        self._paused = {each.call.id: each.result for each in paused}
        return [self._continued(each.call, scene, places.get(each.call.id, 0)) for each in paused]

    async def carry_out(self, judged: Sequence[Judged]) -> Round:
        """What became of the calls."""
        for item in judged:
            if item.words:
                told = self.known[item.call.id] = item.told
                self._tell(ToolCallRefused(item.call, told))
            elif item.done:
                self.known[item.call.id] = item.done
        jobs = [item.job for item in judged if item.job is not None]
        paused = await carry_out_all(jobs, self._limits, self._home, self.known)
        if paused:
            self._paused |= paused
            judged = [_left(item, paused) for item in judged]
        for item in judged:
            if item.twin:
                self.known[item.call.id] = self._twin_result(item)
        self._remember(judged)
        waits = [item for item in judged if item.waits]
        calls = (item.call for item in judged)
        results = tuple(self.known[call.id] for call in calls if call.id in self.known)
        self.is_tainted = self.is_tainted or is_tainted(results)
        if not waits:
            return Round(results, (), self._close)
        pending, below = self._waiting(waits)
        return Round(results, pending, self._close, below)

    def _waiting(
        self, items: Sequence[Judged]
    ) -> tuple[tuple[PendingCall, ...], tuple[Paused, ...]]:
        """The calls that wait, with those of agents; and the calls of these agents."""
        agent = self._home.asker
        own = (PendingCall(i.call, agent, i.reason) for i in items if i.call.id not in self._paused)
        calls = (item.call for item in items)
        paused = tuple(Paused(c, self._paused[c.id]) for c in calls if c.id in self._paused)
        below = [pending for each in paused for pending in each.pending]
        for pending in below:
            self._tell(ApprovalRequested(pending.call, pending.reason))
        return (*own, *below), paused

    def _admitted(
        self, call: ToolCall, found: Repaired, sign: str, scene: Scene, index: int
    ) -> Judged:
        """A valid call that is no repetition."""
        most = self._limits.calls_per_turn
        if most is not None and index >= most:
            words = f"Not called: only {most} calls of one turn are. Make it in your next turn."
            return Judged(call, words=words)
        job = self._job(call, found, scene, index)
        ruled = self._ruled(job)
        if isinstance(ruled, Deny):
            return Judged(call, words=denied_by_policy(ruled), sign=sign, is_wrong=True)
        home = self._home
        if isinstance(ruled, Ask) and not self._is_granted(call, tainted=self.is_tainted):
            was_granted = self.is_tainted and self._is_granted(call, tainted=False)
            reason = ruled.reason or (_ONCE_MORE if was_granted else "")
            self._tell(ApprovalRequested(call, reason))
            return Judged(call, reason=reason, sign=sign)
        limit = home.budget.take_call()
        if limit is not None:
            self._close = "max_tool_calls"
            words = f"Not called: this run may make {limit} tool calls, and all are used up."
            return Judged(call, words=words)
        return Judged(call, job, sign=sign)

    def _is_granted(self, call: ToolCall, *, tainted: bool) -> bool:
        return granted(self._home.grants, call, self._home.path, tainted=tainted)

    def _begun_before(self, count: int, scene: Scene) -> Mapping[int, Past]:
        """The calls of a turn that an earlier process began; asked once, for its last turn."""
        self._goes_on = False
        found = {index: self._home.steps.past(scene.key(index)) for index in range(count)}
        return {index: past for index, past in found.items() if past is not None}

    def _begun(self, past: Past, scene: Scene, index: int) -> Judged:
        """A call that an earlier process began; its tool may have changed since."""
        call = past.call
        self._ids.add(call.id)
        found = repair(Called(call.name, call.arguments), self._registry.by_name)
        if isinstance(found, Refused):
            self._home.budget.take_call(approved=True)
            return Judged(call, done=past.result or unknown_outcome(call))
        marks = found.tool.marks
        if past.result is None and marks.after_crash == "ask" and not marks.idempotent:
            self._tell(ApprovalRequested(call, CUT_OFF))
            return Judged(call, reason=CUT_OFF, sign=_sign(found))
        self._home.budget.take_call(approved=True)
        return Judged(call, self._job(call, found, scene, index), sign=_sign(found))

    def _decided(
        self, pending: PendingCall, decision: Approved | Denied | None, scene: Scene, index: int
    ) -> Judged:
        call = pending.call
        if decision is None:
            return Judged(call, reason=pending.reason)
        found = self._as_shown(call)
        if isinstance(found, Refused):
            return Judged(call, words=found.words, is_wrong=True)
        sign = _sign(found)
        if isinstance(decision, Denied):
            return Judged(call, words=denied_words(decision), sign=sign)
        job = self._job(call, found, scene, index)
        ruled = self._ruled(job)
        if isinstance(ruled, Deny):
            return Judged(call, words=denied_by_policy(ruled), sign=sign)
        self._home.budget.take_call(approved=True)
        return Judged(call, job, sign=sign)

    def _continued(self, call: ToolCall, scene: Scene, index: int) -> Judged:
        found = self._as_shown(call)
        if isinstance(found, Refused) or not found.tool.marks.delegates:
            del self._paused[call.id]
            return Judged(call, words=_CHANGED, is_wrong=True)
        if call.id not in self._home.children:
            return Judged(call)
        del self._paused[call.id]
        return Judged(call, self._job(call, found, scene, index), sign=_sign(found))

    def _as_shown(self, call: ToolCall) -> Repaired | Refused:
        """The call to the letter: nothing else was approved. Refused if the tools have changed."""
        found = repair(Called(call.name, call.arguments), self._registry.by_name)
        if isinstance(found, Refused) or _is_as_written(found, call):
            return found
        return Refused(_CHANGED)

    def _ruled(self, job: Job) -> Ruling:
        attempt = Attempt(job.call, job.tool, MappingProxyType(job.values), job.context)
        policy = self._policy
        ruled = default_policy(attempt) if policy is None else ruling(policy, attempt)
        if isinstance(ruled, Deny):
            self._tell(ToolCallDenied(job.call, ruled.reason))
        return ruled

    def _job(self, call: ToolCall, found: Repaired, scene: Scene, index: int) -> Job:
        context: RunContext[Any] = RunContext(  # Any: the user's own type
            deps=scene.deps,
            usage=scene.usage,
            messages=scene.messages,
            retry=self._failures[call.name],
            tool_call_id=call.id,
            tool_name=call.name,
            run_id=scene.run_id,
            idempotency_key=f"{scene.run_id}:{scene.turn}:{index}",  # as key, without a call
            tainted=self.is_tainted,
        )
        return Job(call, found.tool, found.values, context)

    def _repetition(self, call: ToolCall, sign: str, scene: Scene) -> Judged:
        told = "; the tools are closed" if self._guard.is_circling else ""
        self._tell(LoopDetected(call, f"the same call again{told}"))
        words = repeated_words(call.name, self._guard.last(sign))
        results = (m for m in (*scene.messages, *self.known.values()) if isinstance(m, ToolResult))
        untrusted = is_tainted(result for result in results if result.name == call.name)
        return Judged(call, words=words, untrusted=untrusted)

    def _twin_result(self, item: Judged) -> ToolResult:
        found = self.known.get(item.twin)
        if found is None:
            waits = "Not called: the same call of this turn waits for approval."
            return item._replace(words=waits).told
        return replace(found, call_id=item.call.id, text=_TWICE + found.text)

    def _remember(self, judged: Sequence[Judged]) -> None:
        """Lets the guard know what a turn gave."""
        self._guard.record(texts_by_sign(judged, self.known))
        errors = {item.words: SAME_ERRORS for item in judged if item.is_wrong}
        went_well: dict[str, bool] = {}
        for job in (item.job for item in judged if item.job):
            name, result = job.call.name, self.known[job.call.id]
            went_well[name] = went_well.get(name, False) or not result.is_error
            if result.is_error:
                words = f"{name}: {result.text}"
                errors[words] = max(SAME_ERRORS, job.tool.marks.retries + 1)
        for name, well in went_well.items():
            self._failures[name] = 0 if well else self._failures[name] + 1
        if errors or went_well:
            stuck = self._guard.record_errors(errors, all_failed=not any(went_well.values()))
            if stuck:
                self._close = "loop"
                self._tell(LoopDetected(judged[-1].call, "the same error again and again"))

    def _fresh_id(self, given: str, turn: int, index: int) -> str:
        # A slash joins the ids of calls of agents that are tools: no server may make such an id.
        is_free = given and given not in self._ids and "/" not in given
        identity = given if is_free else f"call_{turn}_{index}"
        while identity in self._ids:
            identity += "_"
        self._ids.add(identity)
        return identity

    def _tell_repairs(self, call: ToolCall, found: Repaired) -> None:
        for fix in found.fixes:
            self._tell(ToolCallRepaired(call, fix.rule, fix.before, fix.after))

    def _tell(self, event: Event) -> None:
        if self._home.emit is not None:
            self._home.emit(event)


def _left(item: Judged, paused: Collection[str]) -> Judged:
    """A call that was carried out and is not done: the agent that it asks waits."""
    return item._replace(job=None) if item.call.id in paused else item


def _is_as_written(found: Repaired, call: ToolCall) -> bool:
    return (found.tool.name, found.arguments) == (call.name, call.arguments)


def _sign(found: Repaired | Refused) -> str:
    if isinstance(found, Refused) or found.tool.marks.polling:
        return ""
    return signed(found.tool.name, found.values)


def _places(messages: Iterable[Message]) -> dict[str, int]:
    """Where each call stands in its turn."""
    turns = (message.calls for message in messages if isinstance(message, Assistant))
    return {call.id: place for calls in turns for place, call in enumerate(calls)}


def _object(arguments: str) -> str:
    """The arguments if they are a JSON object, else an empty one: servers refuse anything else."""
    try:
        return arguments if isinstance(orjson.loads(arguments), dict) else "{}"
    except ValueError:
        return "{}"

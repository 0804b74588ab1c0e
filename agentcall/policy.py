"""Whether a call that the model asks for may be carried out: allow, ask a person, or deny.

Rules:
1. A policy is a function, or any object that can be called: it is given an `Attempt` and gives
   `Allow()`, `Ask(reason)`, `Deny(reason)`, or None to leave it to `default_policy`.
2. It is asked about every call that is valid and no repetition, after repairs: what it sees is what
   would run. When a person edits or approves a call it is asked again; a denial stands.
3. It decides by what it is given and nothing else, as a run that is replayed asks again. What needs
   a look elsewhere is an `Ask`, which the application answers in its own time.
4. Every ruling is an event: ToolCallStarted for a call that is allowed, ApprovalRequested,
   ToolCallDenied.
5. It fails closed: where it raises or gives anything else, nothing of the turn is carried out and
   the run raises PolicyFailed, as a program with such a policy has to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Protocol, TypeAlias, cast

from agentcall.egress import find_foreign_arguments
from agentcall.errors import PolicyFailed, UsageError
from agentcall.messages import ToolCall
from agentcall.taint import find_untrusted_sources
from agentcall.tool import RunContext, Tool


@dataclass(frozen=True, slots=True)
class Allow:
    """The call is carried out."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A person decides; the run waits. `reason` is shown to that person."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Deny:
    """The call is not carried out, whoever may approve it; the model is told the reason."""

    reason: str = ""


PolicyDecision: TypeAlias = Allow | Ask | Deny


@dataclass(frozen=True, slots=True)
class ToolCallRequest:
    """A call that the model asks for.

    call: as it would run, its arguments repaired JSON.
    arguments: the validated Python values, by parameter name.
    context: what the tool would get: deps, messages before the call, usage.
    """

    call: ToolCall
    tool: Tool
    arguments: Mapping[str, object]
    context: RunContext[Any]  # Any: the user's own type

    @property
    def tainted(self) -> bool:
        """Whether text of strangers was in the conversation when the model asked."""
        return self.context.tainted


class Policy(Protocol):
    """Decides about calls; a plain function is one."""

    def __call__(self, request: ToolCallRequest, /) -> PolicyDecision | None:
        """The ruling; None leaves it to the default policy. Fast, without I/O."""
        ...


_ALLOW, _ASK = Allow(), Ask()


def default_policy(request: ToolCallRequest) -> PolicyDecision:
    """Asks for a tool with `requires_approval`; once strangers had a word, for two more kinds.

    These are a tool that acts, which is any that is not marked `read_only`, and a tool marked
    `egress` whose arguments the user did not write.
    """
    if request.context.tainted:
        why = _find_risk(request)
        if why:
            where = ", ".join(find_untrusted_sources(request.context.messages))
            return Ask(
                f"text that strangers may have written is in the conversation ({where}), and {why}"
            )
    return _ASK if request.tool.options.requires_approval else _ALLOW


def _find_risk(request: ToolCallRequest) -> str:
    """What the call could do for whoever wrote untrusted content; empty if nothing."""
    made = request.tool
    if not made.options.read_only:
        return f"{made.name} is not marked read_only"
    names = find_foreign_arguments(made, request.call, request.context.messages)
    if not names:
        return ""
    return f"{made.name} sends out its {', '.join(names)}, which the user did not write"


def requires_approval_policy(request: ToolCallRequest) -> PolicyDecision:
    """Asks for a tool with `requires_approval`, and for nothing else."""
    return _ASK if request.tool.options.requires_approval else _ALLOW


def evaluate_policy(policy: Policy, request: ToolCallRequest) -> PolicyDecision:
    """What the policy says, or else the default one. Raises PolicyFailed."""
    try:
        decision = policy(request)
    except Exception as error:
        raise PolicyFailed(
            f"the policy raised {type(error).__name__} about {request.call.name}: {error}; "
            "no call of this turn was carried out"
        ) from error
    if decision is None:
        return default_policy(request)
    if not isinstance(cast("object", decision), (Allow, Ask, Deny)):
        raise PolicyFailed(
            f"the policy gave {decision!r} about {request.call.name}; "
            "give Allow(), Ask(reason), Deny(reason) or None"
        )
    return decision


def validate_policy(policy: Policy | None) -> Policy | None:
    """The policy. Raises UsageError for what cannot be one."""
    if policy is None:
        return None
    if not callable(policy) or isinstance(policy, type):
        raise UsageError(f"policy={policy!r} cannot be asked; use a function of an Attempt")
    if iscoroutinefunction(policy) or iscoroutinefunction(type(policy).__call__):
        raise UsageError(
            f"policy={policy!r} is async; a policy decides at once. Let it give Ask(), and answer "
            "what waits as slowly as you like"
        )
    return policy


def format_policy_denial(deny: Deny) -> str:
    """What the model is told of a call that the policy denied."""
    reason = f": {deny.reason}" if deny.reason else ""
    return f"This call is not allowed{reason}. It was not carried out; do not claim that it was."

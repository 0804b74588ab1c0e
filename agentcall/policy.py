"""Decides whether a tool call may be executed: allow it, ask a person, or deny it.

Rules:
1. A policy is a function, or any callable object: it receives a `ToolCallRequest` and returns
   `Allow()`, `Ask(reason)`, `Deny(reason)`, or None to use `default_policy`.
2. It decides about every call that is valid and not a repetition, after repairs: it sees the call
   that would run. When a person edits or approves a call it decides again; a denial is final.
3. It decides by its argument only, as a run that is replayed asks it again. A decision that needs
   other information is an `Ask`, which the application answers in its own time.
4. Every decision is an event: ToolCallStarted for a call that is allowed, ApprovalRequested,
   ToolCallDenied.
5. It fails closed: if it raises or returns anything else, no call of the turn is executed and the
   run raises PolicyFailed, as the program with such a policy has to be corrected.

Egress: the arguments that leave for an address, and whether the user wrote them.

A tool that only reads may still send data out in its request: the server of a URL reads the URL. A
model that has read untrusted content may have been instructed which URL to request, and to put what
it knows into it. What the user wrote may be sent: nobody else chose it.

Rules of egress:
1. Strings and numbers count, including the keys of objects; true, false, null and a parameter's
   default carry no information.
2. The user wrote a value if it is in a message of the user as a whole: a part of a longer address
   or word is another address or word. `www.example.org` is equal to `https://www.example.org/`, and
   host names are compared without case.
3. Tainted messages, and untrusted parts of messages, are not the user's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Protocol, TypeAlias, cast

import orjson

from agentcall.errors import PolicyFailed, UsageError
from agentcall.messages import JSON, Message, ToolCall, User, find_untrusted_sources
from agentcall.tools.tool import RunContext, Tool

# A word ends at a letter of a script that is written without spaces, such as Chinese.
_LETTER = r"[^\W\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]"
_BEFORE = rf"(?<!{_LETTER})(?<![-./@:%?&=#+~])"
_AFTER = rf"(?!{_LETTER})(?![-/@%&=#+~])(?![.:?!,;]+\w)"


def find_foreign_arguments(tool: Tool, call: ToolCall, messages: Iterable[Message]) -> list[str]:
    """Return the names of the arguments that the tool sends out and the user did not write."""
    sent = _select_egress(tool, call)
    if not sent:
        return []
    user_text = " ".join("\n".join(_iter_user_texts(messages)).split())
    return [
        name
        for name, value in sent.items()
        if not all(_contains_word(word, user_text) for word in _iter_texts(value))
    ]


def _select_egress(tool: Tool, call: ToolCall) -> dict[str, JSON]:
    """Return the arguments that are sent out, except those that have their default."""
    egress = tool.options.egress
    if not egress:
        return {}
    arguments = _parse_object(call.arguments)
    if arguments is None:
        return {"arguments": call.arguments}
    properties = cast("Mapping[str, JSON]", tool.parameters.get("properties", {}))
    defaults = {
        name: schema["default"]
        for name, schema in properties.items()
        if isinstance(schema, Mapping) and "default" in schema
    }
    return {
        name: value
        for name, value in arguments.items()
        if (egress is True or name in egress) and not (name in defaults and defaults[name] == value)
    }


def _parse_object(arguments: str) -> Mapping[str, JSON] | None:
    """Return the arguments by name; None if they are not a JSON object."""
    if arguments.strip() in ("", "null"):  # accepted by a tool without required parameters
        return {}
    try:
        value: JSON = orjson.loads(arguments)
    except ValueError:
        return None
    return value if isinstance(value, Mapping) else None


def _iter_user_texts(messages: Iterable[Message]) -> Iterator[str]:
    """Yield what the user wrote."""
    for message in messages:
        if isinstance(message, User) and not message.tainted:
            yield message.trusted_text


def _iter_texts(value: JSON) -> Iterator[str]:
    """Yield the strings, numbers and keys in a value, at any depth."""
    stack = [value]
    while stack:
        match stack.pop():
            case None | bool():
                pass
            case Mapping() as fields:
                yield from fields
                stack += fields.values()
            case str() | int() | float() as plain:
                yield str(plain)
            case items:
                stack += items


def _contains_word(word: str, text: str) -> bool:
    """Whether the word is in the text, and not as a part of a longer word."""
    word = " ".join(word.split())
    scheme, found, rest = word.partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        scheme, rest = "https?", word
    host, slash, path = rest.rstrip("/").partition("/")
    if not host:
        return not word
    pattern = f"{_BEFORE}(?ai:(?:{scheme}://)?{re.escape(host)}){re.escape(slash + path)}/?{_AFTER}"
    return re.search(pattern, text) is not None


@dataclass(frozen=True, slots=True)
class Allow:
    """Execute the call."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a person, who is shown the reason; the run waits."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Deny:
    """Do not execute the call, even if a person approves it; the model reads the reason."""

    reason: str = ""


PolicyDecision: TypeAlias = Allow | Ask | Deny


@dataclass(frozen=True, slots=True)
class ToolCallRequest:
    """A call that the model asks for.

    call: the call that would run, with its repaired JSON arguments.
    arguments: the validated Python values, by parameter name.
    context: what the tool would receive: deps, the messages before the call, usage.
    """

    call: ToolCall
    tool: Tool
    arguments: Mapping[str, object]
    context: RunContext[Any]  # Any: the user's own type

    @property
    def tainted(self) -> bool:
        """Whether untrusted content was in the conversation when the model made the call."""
        return self.context.tainted


class Policy(Protocol):
    """Decides about calls; a function is a policy."""

    def __call__(self, request: ToolCallRequest, /) -> PolicyDecision | None:
        """Return the decision; None uses the default policy. Has to be fast, without I/O."""
        ...


_ALLOW, _ASK = Allow(), Ask()


def default_policy(request: ToolCallRequest) -> PolicyDecision:
    """Ask for a tool with `requires_approval`; in a tainted conversation, for two more kinds.

    These are a tool that acts, which is any tool that is not marked `read_only`, and a tool marked
    `egress` with arguments that the user did not write.
    """
    if request.context.tainted:
        risk = _find_risk(request)
        if risk:
            sources = ", ".join(find_untrusted_sources(request.context.messages))
            return Ask(f"untrusted content is in the conversation ({sources}), and {risk}")
    return requires_approval_policy(request)


def _find_risk(request: ToolCallRequest) -> str:
    """Return what the author of untrusted content could gain by the call; empty if nothing."""
    tool = request.tool
    if not tool.options.read_only:
        return f"{tool.name} is not marked read_only"
    names = find_foreign_arguments(tool, request.call, request.context.messages)
    if not names:
        return ""
    return f"{tool.name} sends out its {', '.join(names)}, which the user did not write"


def requires_approval_policy(request: ToolCallRequest) -> PolicyDecision:
    """Ask for a tool with `requires_approval`, and for nothing else."""
    needed = request.tool.options.requires_approval
    if isinstance(needed, bool):
        return _ASK if needed else _ALLOW
    try:
        answer = cast("object", needed(request.context, request.arguments))
    except Exception as error:
        raise PolicyFailed(
            f"requires_approval of {request.call.name} raised {type(error).__name__}: {error}; "
            "no call of this turn was executed"
        ) from error
    if not isinstance(answer, bool):
        raise PolicyFailed(
            f"requires_approval of {request.call.name} returned {answer!r:.100}; return True or "
            "False"
        )
    return _ASK if answer else _ALLOW


def evaluate_policy(policy: Policy, request: ToolCallRequest) -> PolicyDecision:
    """Return the decision of the policy, or of the default policy. Raises PolicyFailed."""
    try:
        decision = policy(request)
    except Exception as error:
        raise PolicyFailed(
            f"the policy raised {type(error).__name__} about {request.call.name}: {error}; "
            "no call of this turn was executed"
        ) from error
    if decision is None:
        return default_policy(request)
    if not isinstance(cast("object", decision), (Allow, Ask, Deny)):
        raise PolicyFailed(
            f"the policy returned {decision!r} about {request.call.name}; "
            "return Allow(), Ask(reason), Deny(reason) or None"
        )
    return decision


def validate_policy(policy: Policy | None) -> Policy | None:
    """Return the policy. Raises UsageError if it cannot be called as one."""
    if policy is None:
        return None
    if not callable(policy) or isinstance(policy, type):
        raise UsageError(f"policy={policy!r} is not a function of a ToolCallRequest")
    if iscoroutinefunction(policy) or iscoroutinefunction(type(policy).__call__):
        raise UsageError(
            f"policy={policy!r} is async; a policy decides at once. Return Ask(), and decide about "
            "the call that waits in your own time"
        )
    return policy

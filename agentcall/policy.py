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

What a call sends out: arguments that leave for an address, and whether the user wrote them.

A tool that only looks may still carry data out in what it asks for: the server of a URL reads the
URL. A model that has read untrusted content may have been told which URL to ask for, and to put
into it what it knows. What the user wrote can be sent: nobody else chose it.

Rules:
1. Texts and numbers count, keys of objects included; true, false, null and a parameter's default
   carry nothing.
2. The user wrote a value if it stands in a message of the user as a whole: a part of a longer
   address or word is another address or word. `www.example.org` stands for `https://www.example.org/`,
   and for host names upper and lower case are the same.
3. Messages that are tainted, and parts that are untrusted, are not the user's words.
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

_LETTER = r"[^\W\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]"  # Chinese and Japanese have no blanks
_BEFORE = rf"(?<!{_LETTER})(?<![-./@:%?&=#+~])"
_AFTER = rf"(?!{_LETTER})(?![-/@%&=#+~])(?![.:?!,;]+\w)"


def find_foreign_arguments(tool: Tool, call: ToolCall, messages: Iterable[Message]) -> list[str]:
    """The names of the arguments that the tool sends out and that the user did not write."""
    leaving = _select_egress(tool, call)
    if not leaving:
        return []
    user_text = " ".join("\n".join(_iter_user_texts(messages)).split())
    return [
        name
        for name, value in leaving.items()
        if not all(_contains_word(word, user_text) for word in _iter_texts(value))
    ]


def _select_egress(tool: Tool, call: ToolCall) -> dict[str, JSON]:
    """The arguments that are sent out, without those that have their default."""
    marked = tool.options.egress
    if not marked:
        return {}
    given = _parse_object(call.arguments)
    if given is None:
        return {"arguments": call.arguments}
    defaults = dict(_iter_defaults(tool))
    return {
        name: value
        for name, value in given.items()
        if (marked is True or name in marked) and not (name in defaults and defaults[name] == value)
    }


def _parse_object(arguments: str) -> Mapping[str, JSON] | None:
    """The arguments by name; None where they cannot be read here."""
    if arguments.strip() in ("", "null"):  # as a tool without required parameters takes them
        return {}
    try:
        value: JSON = orjson.loads(arguments)
    except ValueError:
        return None
    return value if isinstance(value, Mapping) else None


def _iter_defaults(tool: Tool) -> Iterator[tuple[str, JSON]]:
    properties = cast("Mapping[str, JSON]", tool.parameters.get("properties", {}))
    for name, schema in properties.items():
        if isinstance(schema, Mapping) and "default" in schema:
            yield name, schema["default"]


def _iter_user_texts(messages: Iterable[Message]) -> Iterator[str]:
    """What the user wrote."""
    for message in messages:
        if isinstance(message, User) and not message.tainted:
            yield message.trusted_text


def _iter_texts(value: JSON) -> Iterator[str]:
    """The texts in a value, however deep."""
    left = [value]
    while left:
        match left.pop():
            case None | bool():
                pass
            case Mapping() as inner:
                yield from inner
                left += inner.values()
            case str() | int() | float() as plain:
                yield str(plain)
            case items:
                left += items


def _contains_word(word: str, text: str) -> bool:
    """Whether the word stands in the text, and is no part of a longer one."""
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

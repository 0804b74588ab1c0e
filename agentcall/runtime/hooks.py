"""Hooks and checks: functions of the user's that change or judge the steps of a run.

Rules:
1. Nothing that a hook returns escapes what is done with a model's own words: a changed call is
   validated, decided about by the policy and shown for approval as it was changed; a changed output
   has to be of the output type.
2. Provenance cannot be dropped. In a conversation with untrusted content, a message that a hook
   made or changed counts as tainted; a result stays untrusted.
3. `before_model` changes what is sent, not what is kept. Everything else that is changed is kept as
   it was changed: in the result, the session and the journal.
4. A recorded step is not changed again. Where a run continues after a crash, `after_model`,
   `before_tool` and `check_output` see the last recorded answer once more: they have to return the
   same for the same input, and what they need from outside belongs in a tool or the deps.
5. `Blocked` ends the run without an output, `ModelRetry` is reported to the model. Any other
   exception is a mistake in the program: it ends the run and the runs above it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from inspect import isawaitable
from types import NoneType
from typing import Any, Generic, TypeAlias, TypeVar, cast

from agentcall.display import to_single_line
from agentcall.errors import UsageError
from agentcall.messages import (
    Assistant,
    Content,
    Image,
    Message,
    System,
    Text,
    ToolCall,
    ToolResult,
    Transcript,
    User,
    encode_json,
)
from agentcall.models.model import ModelRequest
from agentcall.runtime.history import read_history
from agentcall.runtime.output import InvalidOutput, OutputParser
from agentcall.runtime.turn import ModelTurn
from agentcall.settings import ModelSettings
from agentcall.tools.serialize import to_json_value
from agentcall.tools.tool import Deps, RunContext, is_function

T = TypeVar("T")
MaybeAwaitable: TypeAlias = T | Awaitable[T]


@dataclass(frozen=True, slots=True)
class ModelStep:
    """What is sent to the model: the system message, the conversation, and the settings.

    The descriptions of tools that some dialects write into the system message come later.
    """

    instructions: str
    messages: tuple[Message, ...]
    settings: ModelSettings


class Hooks(Generic[Deps]):
    """Changes the steps of a run: a subclass has the methods that it needs, async or not.

    Each may return a changed value, or None to leave it as it is; see the module's rules.
    """

    def before_model(
        self, context: RunContext[Deps], step: ModelStep
    ) -> MaybeAwaitable[ModelStep | None]:
        """Change what a request sends."""

    def after_model(
        self, context: RunContext[Deps], turn: ModelTurn
    ) -> MaybeAwaitable[ModelTurn | None]:
        """Change the model's answer; ModelRetry asks the model again.

        turn: a named tuple: `turn._replace(text=...)`. Its calls are as the model wrote them.
        """

    def before_tool(
        self, context: RunContext[Deps], call: ToolCall
    ) -> MaybeAwaitable[ToolCall | None]:
        """Change a valid call before it is decided about; ModelRetry refuses it, with a reason.

        Not called for what the model wrote wrongly, or again when a person has approved the call.
        """

    def after_tool(
        self, context: RunContext[Deps], call: ToolCall, result: ToolResult
    ) -> MaybeAwaitable[ToolResult | None]:
        """Change the result of a call that was executed; ModelRetry replaces it by an error."""


CheckFunction: TypeAlias = Callable[[RunContext[Any], Any], object] | Callable[[Any], object]
"""Any: the types of `deps` and of what is checked are the user's own."""
Checks: TypeAlias = CheckFunction | Sequence[CheckFunction]

_METHODS = ("before_model", "after_model", "before_tool", "after_tool")


class HookSet:
    """The hooks and checks of an agent.

    before_model, after_model, before_tool, after_tool: the methods in the order of their calls:
        what comes from the model or a tool passes the hooks in reverse order.
    """

    def __init__(self, hooks: object, check_input: object, check_output: object) -> None:
        if not isinstance(hooks, (list, tuple, NoneType)):
            raise UsageError(f"hooks={hooks!r:.100} is not a list of hooks")
        items = cast("Sequence[object]", hooks or ())
        for item in items:
            _require_hooks(item)
        self.before_model, self.before_tool = (_find(items, name) for name in _METHODS[::2])
        self.after_model, self.after_tool = (_find(items[::-1], name) for name in _METHODS[1::2])
        self.checks_input = _list_checks("check_input", check_input)
        self.checks_output = _list_checks("check_output", check_output)

    def create_step(self, request: ModelRequest) -> ModelStep:
        """Return what a request sends, for `change_request`."""
        settings = request.settings or ModelSettings()
        return ModelStep(request.prompt.instructions, tuple(request.transcript), settings)

    def apply_step(self, request: ModelRequest, step: ModelStep) -> ModelRequest:
        """Return the request that sends what `change_request` returned."""
        return replace(
            request,
            transcript=Transcript(step.messages),
            whole=tuple(request.transcript) if request.whole is None else request.whole,
            prompt=replace(request.prompt, instructions=step.instructions),
            settings=step.settings,
        )

    def format_output(self, value: object) -> str:
        """Return an output that a check changed as the text of the model's answer."""
        return value if isinstance(value, str) else encode_json(to_json_value(value)).decode()

    async def change_request(
        self, context: RunContext[Any], step: ModelStep
    ) -> ModelStep:  # Any: the user's own type
        """Return what is sent in place of `step`; the same object if nothing is changed."""
        original = step
        for method in self.before_model:
            step = _require(await _call(method, context, step), step, ModelStep, method)
        if step is original:
            return step
        instructions = cast("object", step.instructions)  # a hook may put anything there
        settings = cast("object", step.settings)
        if not (isinstance(instructions, str) and isinstance(settings, ModelSettings)):
            raise UsageError(f"before_model returned {step!r:.200}: wrong instructions or settings")
        if step.messages is original.messages:
            return step
        messages = _keep_taint(step.messages, original.messages, is_tainted=context.tainted)
        if not messages:
            raise UsageError("before_model returned no messages; a request needs one")
        return replace(step, messages=messages)

    async def change_turn(self, context: RunContext[Any], turn: ModelTurn) -> ModelTurn:
        """Return the model's answer, changed. Raises ModelRetry."""
        original = turn
        for method in self.after_model:
            turn = _require(await _call(method, context, turn), turn, ModelTurn, method)
            _require_text(turn.text, "text of a turn", method)
        return turn._replace(usage=original.usage, finish=original.finish)

    async def change_call(self, context: RunContext[Any], call: ToolCall) -> ToolCall:
        """Return a call, changed, with its id. Raises ModelRetry."""
        call_id = call.id
        for method in self.before_tool:
            call = _require(await _call(method, context, call), call, ToolCall, method)
            _require_text(call.name, "name of a call", method)
            _require_text(call.arguments, "JSON of a call's arguments", method)
        return call if call.id == call_id else replace(call, id=call_id)

    async def change_result(
        self, context: RunContext[Any], call: ToolCall, result: ToolResult
    ) -> ToolResult:
        """Return the result of a call, changed. Raises ModelRetry."""
        original = result
        for method in self.after_tool:
            result = _require(
                await _call(method, context, call, result), result, ToolResult, method
            )
            _require_text(result.text, "text of a result", method)
        if result is original:
            return result
        return replace(
            result,
            call_id=original.call_id,
            name=original.name,
            untrusted=original.untrusted or result.untrusted,
            assessed=True,
        )

    async def check_input(self, context: RunContext[Any], message: User) -> User:
        """Return a message of the user, as the checks changed it. Raises Blocked."""
        for function in self.checks_input:
            checked = await _call_check(function, context, message.content)
            if checked is None:
                continue
            items = checked
            parts = cast("Sequence[object]", items) if isinstance(items, (list, tuple)) else ()
            if not isinstance(checked, str) and not (
                parts and all(isinstance(part, (Text, Image)) for part in parts)
            ):
                raise _explain_check("check_input", function, checked, "a changed prompt")
            content = cast("Content", checked if isinstance(checked, str) else tuple(parts))
            message = replace(message, content=content)
        return message

    async def check_output(
        self, context: RunContext[Any], value: object, parser: OutputParser
    ) -> object:
        """Return the output, as the checks changed it. Raises Blocked and ModelRetry."""
        for function in self.checks_output:
            checked = await _call_check(function, context, value)
            if checked is None:
                continue
            if type(checked) is not type(value) and not _is_of_type(checked, parser):
                raise _explain_check("check_output", function, checked, "a changed output")
            value = checked
        return value


def _require_hooks(item: object) -> None:
    """Raise UsageError for an object that is not a hook, or a method that would not be called."""
    if isinstance(item, type):
        raise UsageError(f"hooks has the class {item.__name__}; make an object: {item.__name__}()")
    named = [name for name in dir(item) if name.startswith(("before_", "after_"))]
    wrong = [name for name in named if name not in _METHODS]
    if wrong or not named:
        have = f"the method {wrong[0]}" if wrong else "none of the methods of a hook"
        raise UsageError(f"hooks has {item!r:.100} with {have}; they are {', '.join(_METHODS)}")


def _find(items: Iterable[object], name: str) -> list[Callable[..., object]]:
    """Return the methods of this name that are not those of the base class."""
    own = (item for item in items if getattr(type(item), name, None) is not getattr(Hooks, name))
    return [method for item in own if (method := getattr(item, name, None)) is not None]


def _list_checks(field: str, value: object) -> list[tuple[Callable[..., object], int]]:
    """Return functions and the numbers of their arguments. Raises UsageError."""
    if value is None:
        return []
    items = cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else [value]
    checks: list[tuple[Callable[..., object], int]] = []
    for item in items:
        count = next((count for count in (2, 1) if is_function(item, count)), 0)
        if not count:
            raise UsageError(
                f"{field} has {item!r:.100}; it has to be a function of the value, or of a "
                "RunContext and the value"
            )
        checks.append((cast("Callable[..., object]", item), count))
    return checks


async def _call(function: Callable[..., object], *arguments: object) -> object:
    value = function(*arguments)
    return await value if isawaitable(value) else value


async def _call_check(
    check: tuple[Callable[..., object], int], context: RunContext[Any], value: object
) -> object:
    function, count = check
    return await (_call(function, context, value) if count > 1 else _call(function, value))


def _require(value: object, before: T, kind: type[T], method: Callable[..., object]) -> T:
    """Return what a hook returned, or the value before. Raises UsageError for another type."""
    if value is None:
        return before
    if not isinstance(value, kind):
        name = getattr(method, "__qualname__", repr(method))
        raise UsageError(f"{name} returned {value!r:.100}; return a {kind.__name__}, or None")
    return value


def _require_text(value: object, what: str, method: Callable[..., object]) -> None:
    """Raise UsageError for a part of what a hook returned that is not a text."""
    if not isinstance(value, str):
        name = getattr(method, "__qualname__", repr(method))
        raise UsageError(f"{name} returned {value!r:.100}: the {what} has to be a text")


def _explain_check(
    field: str, check: tuple[Callable[..., object], int], value: object, expected: str
) -> UsageError:
    name = getattr(check[0], "__name__", repr(check[0]))
    shown = to_single_line(repr(value))[:100]
    return UsageError(
        f"{name} of {field} returned {shown}; return None to let it pass, or {expected}, or raise "
        "Blocked or ModelRetry"
    )


def _is_of_type(value: object, parser: OutputParser) -> bool:
    if parser.schema is None:
        return isinstance(value, str)
    try:
        text = encode_json(to_json_value(value)).decode()
    except (TypeError, ValueError):
        return False
    return not isinstance(parser.parse_exactly(text), InvalidOutput)


def _keep_taint(
    messages: Iterable[Message], originals: Sequence[Message], *, is_tainted: bool
) -> tuple[Message, ...]:
    """Return messages that may be sent, with the marks that they had or would have had."""
    kept = {id(message) for message in originals}
    results = {m.call_id: m.untrusted for m in originals if isinstance(m, ToolResult)}
    changed: list[Message] = []
    for message in cast("Iterable[Any]", messages):  # Any: a hook may return anything
        if id(message) in kept or isinstance(message, System):
            changed.append(message)
        elif isinstance(message, ToolResult):
            untrusted = message.untrusted or results.get(message.call_id, is_tainted)
            changed.append(replace(message, untrusted=untrusted, assessed=True))
        elif isinstance(message, User):
            changed.append(replace(message, tainted=message.tainted or is_tainted))
        elif isinstance(message, Assistant):
            untrusted = message.untrusted or is_tainted
            changed.append(replace(message, untrusted=untrusted, assessed=True))
        else:
            raise UsageError(f"before_model returned the message {message!r:.100}")
    return read_history(changed)

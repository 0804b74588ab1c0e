"""What tools declare about a run: which calls end it, how many it executes, and what comes first.

Rules:
1. The call of a `final` tool ends the run once it has succeeded; its result, or its arguments if it
   returns nothing, is the output. Until then, an answer in words is not an answer.
2. Calls of one turn are made in their order where a rule depends on it: a call before which another
   one has to succeed waits for that one, and a final call for all that precede it. It is not made
   if one of them fails, or waits for a person. What follows a final call is not made.
3. `after` and `required_tools` are conditions of the final call, also once a limit is reached.
4. What was executed and what succeeded is read from the messages of the run, so that it is the same
   in a resumed run and in another process.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

import orjson
from typing_extensions import is_typeddict

from agentcall.errors import UsageError
from agentcall.messages import JSON, Message, ToolCall, ToolResult, encode_json
from agentcall.runtime.output import OutputParser
from agentcall.tools.tool import Tool, get_tool_name

_SCALARS = (str, int, float, bool)


@dataclass(frozen=True, slots=True)
class FinalTool:
    """A tool whose call ends the run.

    source: what the output is: "result", "arguments" (all of them), or one of its parameters.
    otherwise: what it is if the result is nothing and it was not known that it would be.
    defaults: the values of arguments that a call leaves out.
    """

    name: str
    source: str = "result"
    otherwise: str = "result"
    defaults: Mapping[str, JSON] = field(default_factory=dict[str, JSON])

    def read_output(self, call: ToolCall, result: ToolResult) -> str:
        """Return the output of a call that has succeeded: a text, or the JSON of a value."""
        source = self.otherwise if result.text == "null" else self.source
        if source == "result":
            return result.text
        given = cast("Mapping[str, JSON]", orjson.loads(call.arguments))
        arguments = {**self.defaults, **given}
        if source == "arguments":
            return encode_json(arguments).decode()
        value = arguments.get(source)
        return value if isinstance(value, str) else encode_json(value).decode()


@dataclass(frozen=True, slots=True, eq=False)
class CallRules:
    """The rules for the tools of an agent.

    tools: by name. final: the tools that end a run, by name. required: the names of the tools that
    have to succeed before an answer. conditional: the tools that are offered on a condition.
    accepts_text: whether an answer in words ends a run as well as a final tool does.
    """

    tools: Mapping[str, Tool]
    final: Mapping[str, FinalTool] = field(default_factory=dict[str, FinalTool])
    required: Sequence[str] = ()
    conditional: Sequence[Tool] = ()
    accepts_text: bool = False

    @property
    def ends_by_call(self) -> bool:
        """Whether nothing but the call of a final tool ends a run."""
        return bool(self.final) and not self.accepts_text

    def list_missing(self, name: str, record: CallRecord) -> list[str]:
        """Return what has to succeed before a call of this tool, in order."""
        wanted: dict[str, None] = {}
        self._collect_before(name, wanted)
        if name in self.final:
            for required in self.required:
                self._collect_before(required, wanted)
                wanted[required] = None
            wanted.pop(name, None)
        return [each for each in wanted if each not in record.succeeded]

    def list_missing_for_answer(self, record: CallRecord) -> list[str]:
        """Return the required tools that have not succeeded."""
        return [name for name in self.required if name not in record.succeeded]

    def is_exhausted(self, name: str, record: CallRecord, planned: int = 0) -> bool:
        """Whether a run has made all calls of this tool that it may; `planned` are under way."""
        most = self.tools[name].options.most_calls
        return most is not None and record.executed[name] + planned >= most

    def list_final_offers(self, record: CallRecord, hidden: Collection[str]) -> list[str]:
        """Return the final tools that may be called now."""
        return [
            name
            for name in self.final
            if name not in hidden
            and not self.list_missing(name, record)
            and not self.is_exhausted(name, record)
        ]

    def list_next_steps(self, record: CallRecord, hidden: Collection[str]) -> list[str]:
        """Return what may be called now of what is missing before a final tool."""
        missing = dict.fromkeys(
            step for name in self.final for step in self.list_missing(name, record)
        )
        return [
            name
            for name in missing
            if name not in hidden
            and not self.list_missing(name, record)
            and not self.is_exhausted(name, record)
        ]

    def find_withheld(self, record: CallRecord) -> frozenset[str]:
        """Return the tools that may not be called now, although the model is offered them."""
        return frozenset(
            name
            for name, tool in self.tools.items()
            if (tool.options.after or tool.options.most_calls is not None or name in self.final)
            and (self.is_exhausted(name, record) or self.list_missing(name, record))
        )

    def _collect_before(self, name: str, found: dict[str, None]) -> None:
        """Add what has to precede a tool, and what has to precede that, the first one first."""
        for before in self.tools[name].options.names_before if name in self.tools else ():
            if before not in found:
                self._collect_before(before, found)
                found[before] = None


@dataclass(slots=True)
class CallRecord:
    """The calls that a run has executed, by tool, and the tools that have succeeded."""

    executed: Counter[str] = field(default_factory=Counter[str])
    succeeded: set[str] = field(default_factory=set[str])

    @classmethod
    def from_messages(cls, messages: Iterable[Message]) -> CallRecord:
        """Return the record of a run with these messages."""
        record = cls()
        for message in messages:
            if isinstance(message, ToolResult):
                record.add(message)
        return record

    def add(self, result: ToolResult) -> None:
        """Count the result of a call."""
        if result.not_called:
            return
        self.executed[result.name] += 1
        if not result.is_error:
            self.succeeded.add(result.name)


def build_call_rules(
    tools: Mapping[str, Tool], required: Sequence[str], output_type: object, output: OutputParser
) -> CallRules:
    """Return the rules for these tools.

    Raises UsageError for rules that no run could keep.
    """
    final = {name: tool for name, tool in tools.items() if tool.options.final}
    _check_order(tools, final)
    required_final = [name for name in required if name in final]
    if required_final and len(final) > 1:
        raise UsageError(
            f"required_tools has {required_final[0]!r}, which ends the run: the other final tools "
            f"({', '.join(name for name in final if name != required_final[0])}) could never be "
            "called; leave it out of required_tools"
        )
    own = {name for name in final if output.find_choice(name) is None}  # not output tools
    return CallRules(
        tools,
        {
            name: _create_final_tool(tool, output_type, output) if name in own else FinalTool(name)
            for name, tool in final.items()
        },
        tuple(name for name in required if name not in final),
        tuple(tool for tool in tools.values() if tool.options.offered is not None),
        accepts_text=bool(output.tools) and output.accepts_text and not own,
    )


def _check_order(tools: Mapping[str, Tool], final: Mapping[str, Tool]) -> None:
    """Raise UsageError for an `after` that names no tool, a final tool, or the tool itself."""
    for name, tool in tools.items():
        for before in tool.options.names_before:
            if before not in tools:
                known = ", ".join(each for each in tools if each != name) or "none"
                raise UsageError(
                    f"{name} has after={before!r}, which is not among the agent's tools: {known}"
                )
            if before in final:
                raise UsageError(
                    f"{name} has after={before!r}, which ends the run: {name} could never be called"
                )
        path = _find_circle(name, tools, (name,))
        if path:
            raise UsageError(
                f"the after= of {name} leads back to it: {' after '.join(path)}; none of them "
                "could ever be called"
            )


def _find_circle(
    start: str, tools: Mapping[str, Tool], path: tuple[str, ...]
) -> tuple[str, ...] | None:
    for before in tools[path[-1]].options.names_before:
        if before == start:
            return (*path, start)
        found = None if before in path or before not in tools else (*path, before)
        circle = None if found is None else _find_circle(start, tools, found)
        if circle:
            return circle
    return None


# The output of a final tool.


def _create_final_tool(tool: Tool, output_type: object, output: OutputParser) -> FinalTool:
    """Return what the output of a final tool is. Raises UsageError if it cannot be of the type."""
    hints = _read_hints(tool)
    returned = hints.get("return", Any)
    if not _may_be(returned, output_type):
        raise UsageError(
            f"{tool.name} ends the run and returns {_format_type(returned)}, but the agent's "
            f"output_type is {_format_type(output_type)}; return that type, or None to make an "
            "argument the output"
        )
    fields = cast("Mapping[str, Mapping[str, JSON]]", tool.parameters.get("properties", {}))
    defaults = {name: form["default"] for name, form in fields.items() if "default" in form}
    if output_type in (None, NoneType) or returned not in (Any, None, NoneType):
        return FinalTool(tool.name)
    source = _find_argument(list(fields), hints, output_type)
    if returned is Any:
        return FinalTool(tool.name, "result", source, defaults)
    if source == "arguments":
        _check_fields(tool, output, list(fields))
    return FinalTool(tool.name, source, source, defaults)


def _find_argument(names: Sequence[str], hints: Mapping[str, object], output_type: object) -> str:
    """Return the parameter that is the output, or "arguments" for all of them."""
    equal = [name for name in names if hints.get(name) == output_type]
    if len(equal) == 1 and output_type is not str:
        return equal[0]
    if len(names) == 1 and _may_be(hints.get(names[0], Any), output_type):
        return names[0]
    return "arguments"


def _check_fields(tool: Tool, output: OutputParser, names: Sequence[str]) -> None:
    """Raise UsageError if the arguments of a tool cannot be an object of the output type."""
    schema = output.schema or {}
    required = cast("Sequence[str]", schema.get("required", ()))
    missing = [name for name in required if name not in names]
    if missing or schema.get("type", "object") != "object":
        wanted = f"the field {missing[0]}" if missing else f"a value of type {schema['type']}"
        raise UsageError(
            f"{tool.name} ends the run and returns nothing, so its arguments are the output; but "
            f"they ({', '.join(names) or 'none'}) lack {wanted} of the agent's output_type"
        )


def _read_hints(tool: Tool) -> Mapping[str, Any]:  # Any: types
    """Return the types of a function's parameters and of what it returns, as far as known."""
    function: object = inspect.unwrap(tool.function)
    if not inspect.isroutine(function):
        function = getattr(function, "__call__", function)  # noqa: B004 - its own method
    try:
        return get_type_hints(function)
    except Exception:  # a name that is not defined at run time
        return {}


def _may_be(given: object, wanted: object) -> bool:
    """Whether a value of the type `given`, written as text, may be of the type `wanted`.

    True if that is not known before the run.
    """
    pairs = ((one, other) for one in _list_classes(given) for other in _list_classes(wanted))
    return any(one is None or other is None or _is_readable(one, other) for one, other in pairs)


def _list_classes(kind: object) -> list[type | None]:
    """Return the classes that a type consists of; None for what has none."""
    if get_origin(kind) is Annotated:
        return _list_classes(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [each for member in get_args(kind) for each in _list_classes(member)]
    found = get_origin(kind) or kind
    return [found if isinstance(found, type) and found not in (object, Any) else None]


def _is_readable(given: type, wanted: type) -> bool:
    """Whether the text of a value of one class may be read as another class."""
    if given is NoneType or wanted is str:
        return True
    if issubclass(given, wanted) or issubclass(wanted, given):
        return True
    if given in _SCALARS:
        is_float = given is int and wanted is float
        return is_float if wanted in _SCALARS else not _is_structure(wanted)
    return not (_is_model(given) and (_is_model(wanted) or wanted in _SCALARS))


def _is_structure(kind: type) -> bool:
    return _is_model(kind) or issubclass(kind, (list, dict, tuple, set, frozenset))


def _is_model(kind: object) -> bool:
    return hasattr(kind, "model_fields") or is_dataclass(kind) or is_typeddict(kind)


def _format_type(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def resolve_first_tool(named: object, tools: Mapping[str, Tool]) -> str:
    """Return the name of the tool that a run calls first. Raises UsageError."""
    name = get_tool_name(cast("str", named))
    if name not in tools:
        known = ", ".join(tools) or "none"
        raise UsageError(f"first_tool={name!r} is not among the agent's tools: {known}")
    before = tools[name].options.names_before
    if before:
        raise UsageError(f"first_tool={name!r} has after={list(before)}, so it cannot be the first")
    return name

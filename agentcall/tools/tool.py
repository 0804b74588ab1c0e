"""A tool: a function that a model may call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, update_wrapper
from threading import Lock
from types import MethodType, NoneType
from typing import Any, Generic, Literal, Protocol, TypeAlias, cast, get_args, overload

from typing_extensions import ParamSpec, TypedDict, TypeVar, Unpack

from agentcall.errors import SchemaError, UsageError
from agentcall.messages import JSON, Message, Usage, encode_json
from agentcall.tools.importable import FunctionRef, explain_not_importable, make_function_ref
from agentcall.tools.schema import ExternalSchema, FunctionSchema, function_schema, read_return_type

Deps = TypeVar("Deps", default=object)
P = ParamSpec("P", default=...)
R = TypeVar("R", default=Any)
Function = Callable[..., Any]  # Any: a tool may take and give anything
AfterCrash: TypeAlias = Literal["tell", "ask"]


class ProgressSink(Protocol):
    """Takes what the calls of a run report while they run."""

    def report(self, call_id: str, value: object) -> None:
        """Take a value, from any thread; never waits."""
        ...


class CallState:
    """What changes while a call runs: whether it was given up, has ended, and what it has sent."""

    is_cancelled = False
    is_closed = False
    sent: tuple[str, ...] = ()


_send_lock = Lock()


@dataclass(frozen=True)  # no slots: a subscripted generic sets an attribute on its instances
class RunContext(Generic[Deps]):
    """The run in which a tool is called; never part of the tool's schema.

    `retry` is the number of consecutive failures of this tool. `idempotency_key` is
    `run:turn:index`, the same when the call is executed again after a crash. `tainted` means that
    the conversation contained untrusted content when the model made the call. `takes_messages` is
    None in an isolated tool.
    """

    deps: Deps
    usage: Usage = field(default_factory=Usage)
    messages: tuple[Message, ...] = ()
    retry: int = 0
    tool_call_id: str = ""
    tool_name: str = ""
    run_id: str = ""
    idempotency_key: str = ""
    tainted: bool = False
    call_state: CallState = field(default_factory=CallState, repr=False, compare=False)
    progress_sink: ProgressSink | None = field(default=None, repr=False, compare=False)
    takes_messages: bool | None = field(default=False, repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether the call was given up: a thread can only stop itself."""
        return self.call_state.is_cancelled

    def cancel(self) -> None:
        """Mark the call as given up."""
        self.call_state.is_cancelled = True

    def send(self, message: str) -> bool:
        """Send the model a message, which it reads as the user's after the results of the turn.

        The run continues with it if it would end with an answer otherwise. May be called from any
        thread. Returns False if the call is not of a run, or has ended or was given up. Raises
        UsageError for what is not a text, and in an isolated tool.
        """
        text = cast("object", message)  # a program without a type checker passes anything
        if not isinstance(text, str):
            raise UsageError(f"context.send({text!r:.100}): a message to the model is a text")
        if self.takes_messages is None:
            raise UsageError("an isolated tool cannot send messages; return what it has to say")
        call = self.call_state
        with _send_lock:
            if not self.takes_messages or call.is_closed or call.is_cancelled:
                return False
            call.sent = (*call.sent, text)
            # Whoever closes the call reads what it has sent afterwards.
            return not call.is_closed

    def emit(self, value: object) -> None:
        """Report progress: those who read the run's events get `ToolProgress(call, value)`.

        value: any value, which should not be changed afterwards. The model never reads it. May be
        called from any thread; does not wait, and does nothing if nobody reads the events or the
        call has ended.
        """
        if self.progress_sink is not None:
            self.progress_sink.report(self.tool_call_id, value)


ApprovalFunction: TypeAlias = Callable[[RunContext[Any], Mapping[str, Any]], bool]
"""Whether a call needs approval; Any: the user's own types."""
OfferFunction: TypeAlias = Callable[[RunContext[Any]], bool]
"""Whether a tool is offered with the next request; Any: the type of `deps` is the user's own."""


def is_offered(tool: Tool, context: RunContext[Any]) -> bool:  # Any: the user's own type
    """Whether a tool's `offered` says that the model may call it. Raises UsageError."""
    offered = tool.options.offered
    answer = cast("object", True if offered is None else offered(context))
    if not isinstance(answer, bool):
        raise UsageError(f"offered= of {tool.name} returned {answer!r:.100}; return True or False")
    return answer


def is_async(function: object) -> bool:
    """Whether a function or a callable object returns an awaitable."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - a callable object's own method
    )


def is_sync_function(function: object, count: int) -> bool:
    """Whether an object is a function that takes `count` arguments, and is not async."""
    return is_function(function, count) and not is_async(function)


def is_function(function: object, count: int) -> bool:
    """Whether an object is a function, async or not, that takes `count` arguments."""
    if not callable(function) or isinstance(function, type):
        return False
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def get_tool_name(named: str | Callable[..., Any]) -> str:  # Any: a tool takes and gives anything
    """Return the name of a tool that is given as itself, as its function, or as its name."""
    if isinstance(named, str):
        return named
    name: object = getattr(named, "name", None) or getattr(named, "__name__", None)
    if not (callable(named) and isinstance(name, str)):
        raise UsageError(f"{named!r:.100} is not a tool, a function, or the name of a tool")
    return name


class ToolOptionArguments(TypedDict, total=False):
    """The options of a tool as keyword arguments."""

    timeout: float | None
    retries: int
    requires_approval: bool | ApprovalFunction
    sequential: bool
    idempotent: bool
    polling: bool
    read_only: bool
    untrusted: bool
    egress: bool | Sequence[str]
    isolated: bool
    memory: int | None
    variables: Sequence[str]
    after_crash: AfterCrash
    final: bool
    most_calls: int | None
    offered: OfferFunction | None
    after: Sequence[str | Callable[..., Any]]
    attempts: int
    describe_result: bool


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """What the author of a tool declares about it.

    timeout: seconds until a call is given up; None for no deadline.
    retries: how often in a row it may ask the model to try again.
    requires_approval: a person has to approve each call, or those for which a function of the
        `RunContext` and the arguments, a dict, returns True.
    sequential: it never runs at the same time as another call of the same turn.
    idempotent: executing the same call twice does no harm.
    polling: calling it again with the same arguments is meaningful.
    read_only: it changes nothing outside the run.
    untrusted: its results may contain untrusted content: pages, files, search results.
    egress: its arguments are sent to an address that they contain, such as a URL: all of them, or
        those with these names.
    isolated: each call runs in its own process, which is killed at the deadline.
    memory: bytes that an isolated call may use; None for no limit.
    variables: environment variables that an isolated tool needs, in addition to PATH and the like.
    after_crash: for a call that a crash interrupted, unless it is idempotent: "tell" tells the
        model that its outcome is unknown, "ask" asks a person whether to execute it again.
    final: its call ends the run, and is the output (docs/workflows.md).
    most_calls: how many calls of it a run executes; the model is told about the others.
    offered: a function of the `RunContext` that says, before each request, whether the model is
        offered the tool and may call it; fast, without I/O.
    after: the tools, or their names, that have to succeed in the run before it is called.
    attempts: how often a call is made while it fails for a moment, as with a lost connection; only
        for a tool that is idempotent or read_only.
    describe_result: its description says which fields its result has, if it returns a pydantic
        model, a dataclass, a TypedDict or a list or dict of these.
    delegates: it is an agent with a run of its own; see `Agent.as_tool`.
    uses_run: it works with the run that calls it: an agent, or one that may make the run wait.
    """

    timeout: float | None = 120.0
    retries: int = 3
    requires_approval: bool | ApprovalFunction = False
    sequential: bool = False
    idempotent: bool = False
    polling: bool = False
    read_only: bool = False
    untrusted: bool = False
    egress: bool | Sequence[str] = False
    isolated: bool = False
    memory: int | None = 2 * 1024**3
    variables: Sequence[str] = ()
    after_crash: AfterCrash = "tell"
    final: bool = False
    most_calls: int | None = None
    offered: OfferFunction | None = None
    after: Sequence[str | Callable[..., Any]] = ()  # Any: a tool may take and give anything
    attempts: int = 1
    describe_result: bool = False
    delegates: bool = False
    uses_run: bool = False

    def __post_init__(self) -> None:
        if self.after:
            object.__setattr__(self, "after", tuple(map(get_tool_name, self.after)))

    @property
    def has_rules(self) -> bool:
        """Whether it declares anything about when a run may call it, or whether that ends it."""
        limits = self.most_calls is not None or self.offered is not None
        return self.final or limits or bool(self.after)

    @property
    def names_before(self) -> Sequence[str]:
        """The names of the tools that have to succeed before it is called: those of `after`."""
        return cast("Sequence[str]", self.after)


class Tool(Generic[P, R]):
    """A function with a name, a description and a JSON Schema, which a model may call.

    Calling the tool calls the function, so that a decorated function can be used as before. A tool
    in a class body binds like a method: `instance.name` is a tool of that instance.
    """

    def __init__(
        self,
        function: Callable[P, R],
        schema: FunctionSchema | ExternalSchema,
        options: ToolOptions,
        *,
        unbound: bool = False,
    ) -> None:
        self.function = function
        self.schema = schema
        self.options = options
        self.has_returned_untrusted = False
        self._unbound = unbound
        self._result_line = _describe_result(function) if options.describe_result else ""
        if options.isolated:
            _check_can_isolate(function, schema)
        if options.egress:
            _check_egress(schema, options.egress)
        if options.attempts > 1 and options.delegates:
            raise UsageError(f"{schema.name} is an agent, which cannot have attempts=")
        if options.attempts > 1 and not (options.idempotent or options.read_only):
            raise UsageError(
                f"{schema.name} has attempts={options.attempts}, which calls it again after a "
                "failure; say that this does no harm: idempotent=True, or read_only=True"
            )
        update_wrapper(self, _unwrap(function), updated=())
        self.__wrapped__ = function  # perhaps a bound method: its signature has no self

    @cached_property
    def definition_digest(self) -> str:
        """A digest of its definition if that is from outside; empty for a function of the program.

        Approval of a tool is approval of its definition, which its server may replace.
        """
        if not isinstance(self.schema, ExternalSchema):
            return ""
        from hashlib import sha256  # late, as few tools have a definition from outside

        return sha256(encode_json(self.definition)).hexdigest()[:32]

    @property
    def name(self) -> str:
        """The name that the model calls it by."""
        return self.schema.name

    @property
    def description(self) -> str:
        """The description that the model sees."""
        return f"{self.schema.description}{self._result_line}"

    @property
    def parameters(self) -> dict[str, JSON]:
        """The JSON Schema of its arguments, an object."""
        return self.schema.parameters

    @cached_property
    def definition(self) -> dict[str, JSON]:
        """The OpenAI tool object: `{"type": "function", "function": {...}}`."""
        function: dict[str, JSON] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        function["parameters"] = self.parameters
        return {"type": "function", "function": function}

    @cached_property
    def is_async(self) -> bool:
        """Whether calling it returns an awaitable."""
        return is_async(_unwrap(self.function))

    @property
    def is_untrusted_source(self) -> bool:
        """Whether its results may be untrusted: by option, by annotation, or since one has been."""
        is_known = self.options.untrusted or self.has_returned_untrusted
        return is_known or self._has_untrusted_annotation

    @cached_property
    def _has_untrusted_annotation(self) -> bool:
        """Whether the function's return annotation contains `Untrusted`."""
        hints = getattr(inspect.unwrap(_unwrap(self.function)), "__annotations__", {})
        return "Untrusted" in str(hints.get("return", ""))

    @property
    def needs_instance(self) -> bool:
        """Whether it is a method in a class body, which cannot be called without an instance."""
        return self._unbound

    @cached_property
    def location(self) -> str:
        """The function's location, as `file:line`, or the `location` of a callable object."""
        function = _unwrap(self.function)
        if location := getattr(function, "location", ""):
            return str(location)
        code = getattr(inspect.unwrap(function), "__code__", None)
        if code is None:
            return f"{type(function).__module__}.{type(function).__qualname__}"
        return f"{code.co_filename}:{code.co_firstlineno}"

    @cached_property
    def function_ref(self) -> FunctionRef:
        """A reference for other processes. Raises UsageError if they cannot import the function."""
        return make_function_ref(self.function)

    def parse(self, arguments: str | bytes) -> dict[str, object]:
        """Validate JSON arguments and return their Python values by parameter name.

        Raises ArgumentsError, which has each wrong field, its value and what was expected.
        """
        return self.schema.parse(arguments)

    def call(self, values: Mapping[str, object], context: object = None) -> Any:
        """Call the function with parsed values; return its result, perhaps an awaitable."""
        args, kwargs = self.schema.bind(values, context)
        function: Function = self.function
        return function(*args, **kwargs)

    def with_name(self, name: str) -> Tool:
        """Return the same tool under another name."""
        return self.copy_with(replace(self.schema, name=name), self.options)

    def copy_with(self, schema: FunctionSchema | ExternalSchema, options: ToolOptions) -> Tool:
        """Return the same function with another schema and other options.

        A callable object whose function depends on the options provides `with_options(options)`.
        """
        with_options = getattr(self.function, "with_options", None)
        function: Function = self.function
        if callable(with_options):
            function = cast("Function", with_options(options))
        return Tool(function, schema, options, unbound=self._unbound)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Tool[..., R]:
        if not self._unbound:
            return self
        bound = getattr(self.function, "__get__")(instance, owner)  # noqa: B009 - untyped slot
        return self if bound is self.function else Tool(bound, self.schema, self.options)

    def __repr__(self) -> str:
        return f"<Tool {self.name} at {self.location}>"


def _unwrap(function: Function) -> Function:
    inner = getattr(function, "__func__", function)
    while isinstance(inner, partial):
        inner = inner.func
    return inner


def _is_in_class_body(function: Function) -> bool:
    """Whether the function was defined in a class body and takes an instance first."""
    if inspect.ismethod(function) or isinstance(function, (staticmethod, classmethod)):
        return isinstance(function, classmethod)
    outer, _, _ = getattr(function, "__qualname__", "").rpartition(".")
    if not outer or outer.endswith("<locals>"):
        return False
    first = next(iter(inspect.signature(function).parameters), "")
    return first in ("self", "cls")


def make_tool(
    function: Function | Tool,
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptionArguments],
) -> Tool:
    """Create a tool from a function, a method, a callable object or another tool.

    Raises SchemaError, with the location and the reason, if it cannot be offered to a model.
    """
    _check_texts(name, description)
    inner: object = getattr(function, "__func__", None)
    if isinstance(inner, Tool):
        function = _bind_inner_tool(function, cast("Tool", inner))
    if isinstance(function, Tool):
        return _override_tool(function, name, description, options)  # pyright: ignore[reportUnknownArgumentType]  # any
    check_options(options)
    unbound = _is_in_class_body(function)
    schema = function_schema(
        getattr(function, "__func__", function) if unbound else function,
        name=name,
        description=description,
        context_type=RunContext,
        method=unbound,
    )
    return Tool(function, schema, ToolOptions(**options), unbound=unbound)


def tool_from_schema(
    function: Callable[[dict[str, JSON]], Any],  # Any: as a tool's function
    *,
    name: str,
    description: str,
    parameters: Mapping[str, JSON],
    **options: Unpack[ToolOptionArguments],
) -> Tool:
    """Create a tool with the given JSON Schema, whose function takes the arguments as one dict.

    Raises SchemaError if `parameters` is not the JSON Schema of an object.

    >>> def forecast(arguments):
    ...     return f"{arguments['city']}: sunny"
    >>> schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    >>> tool_from_schema(forecast, name="forecast", description="", parameters=schema).name
    'forecast'
    """
    check_options(options)
    return Tool(
        function,
        ExternalSchema.from_parameters(name, description, parameters),
        ToolOptions(**options),
    )


def _bind_inner_tool(
    holder: Any, inner_tool: Tool
) -> Tool:  # Any: a staticmethod, a classmethod or a method
    """Return the tool inside another decorator, bound as that decorator says."""
    if isinstance(holder, MethodType):
        return Tool(
            MethodType(inner_tool.function, holder.__self__), inner_tool.schema, inner_tool.options
        )
    return inner_tool


def _override_tool(
    inner_tool: Tool, name: str | None, description: str | None, options: ToolOptionArguments
) -> Tool:
    if name is None and description is None and not options:
        return inner_tool
    described = inner_tool.schema.description if description is None else description
    schema = replace(inner_tool.schema, name=name or inner_tool.name, description=described)
    check_options(options)
    return inner_tool.copy_with(schema, replace(inner_tool.options, **options))


def _describe_result(function: Function) -> str:
    """Return the line about the fields of a tool's result; empty without fields."""
    from agentcall.tools.schema.result_shape import format_result_type  # late: few tools have it

    known = getattr(function, "result_type", None)
    shape = format_result_type(read_return_type(function) if known is None else known)
    return f"\nReturns: {shape}" if shape else ""


def _check_can_isolate(function: Function, schema: FunctionSchema | ExternalSchema) -> None:
    """Raise UsageError for a tool that cannot be isolated."""
    reason = explain_not_importable(function)
    if isinstance(schema, ExternalSchema):
        reason = "its schema was given, but a worker derives it from the function"
    elif schema.context_type and get_args(schema.context_type) != (type(None),):
        reason = "its deps stay in this process; use RunContext[None], and arguments for the rest"
    if _is_in_class_body(function):
        reason = "it is a method; make it a function at the top of a module"
    if reason:
        raise UsageError(f"{schema.name} cannot be isolated: {reason}")


def _check_egress(
    schema: FunctionSchema | ExternalSchema, names: Literal[True] | Sequence[str]
) -> None:
    """Raise UsageError for a name that is not a parameter."""
    if names is True:
        return
    known = cast("Mapping[str, JSON]", schema.parameters.get("properties", {}))
    unknown = [name for name in names if name not in known]
    if isinstance(names, str) or unknown:
        wrong = repr(names) if isinstance(names, str) else f"[{unknown[0]!r}]"
        raise UsageError(
            f"{schema.name} has egress={wrong}; give True, or a list of its parameters: "
            f"{', '.join(known)}"
        )


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_above_zero(value: object) -> bool:
    """Whether it is a number above 0 and not a NaN, or None."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (is_number and cast("float", value) > 0)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_names(value: object) -> bool:
    """Whether it is a list or tuple of texts."""
    names = cast("Sequence[object]", value if isinstance(value, (list, tuple)) else [None])
    return all(isinstance(name, str) for name in names)


_FLAG = (_is_flag, "True or False")
_OPTION_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "timeout": (_is_above_zero, "a number of seconds above 0, or None"),
    "retries": (_is_count, "a number of at least 0"),
    "requires_approval": (
        lambda value: _is_flag(value) or is_sync_function(value, 2),
        "True, False, or a function of the RunContext and the call's arguments that is not async",
    ),
    "sequential": _FLAG,
    "idempotent": _FLAG,
    "polling": _FLAG,
    "read_only": _FLAG,
    "untrusted": _FLAG,
    "egress": (
        lambda value: _is_flag(value) or _are_names(value),
        "True, False, or a list of its parameters",
    ),
    "isolated": _FLAG,
    "memory": (_is_above_zero, "a number of bytes above 0, or None"),
    "variables": (_are_names, "a list of names"),
    "after_crash": (lambda value: value in get_args(AfterCrash), "'tell' or 'ask'"),
    "final": _FLAG,
    "most_calls": (
        lambda value: value is None or (_is_count(value) and value != 0),
        "a number of at least 1, or None",
    ),
    "offered": (
        lambda value: value is None or is_sync_function(value, 1),
        "a function of the RunContext that is not async, or None",
    ),
    "after": (
        lambda value: isinstance(value, (list, tuple)),
        "a list of tools, or of their names",
    ),
    "attempts": (lambda value: _is_count(value) and value != 0, "a number of at least 1"),
    "describe_result": _FLAG,
}


def check_options(options: ToolOptionArguments) -> None:
    """Raise SchemaError for options of a tool that do not exist, or have a wrong value."""
    for name, value in cast("Mapping[str, object]", options).items():
        if name not in _OPTION_CHECKS:
            from difflib import get_close_matches

            close = get_close_matches(name.replace("_", ""), _OPTION_CHECKS, 1)
            meant = f"; did you mean {close[0]}?" if close else "."
            raise SchemaError(
                f"@tool has no option {name!r}{meant} The options are name, description, "
                f"{', '.join(_OPTION_CHECKS)}"
            )
        is_valid, expected = _OPTION_CHECKS[name]
        if not is_valid(value):
            raise SchemaError(f"@tool({name}={value!r:.200}): it has to be {expected}")
    bounds = [name for name in ("memory", "variables") if name in options]
    if bounds and not options.get("isolated"):
        raise SchemaError(f"{bounds[0]}= is for isolated tools; add isolated=True")


def _check_texts(name: object, description: object) -> None:
    """Raise SchemaError for a name or a description that is not a text."""
    for option, value in (("name", name), ("description", description)):
        if not isinstance(value, (str, NoneType)):
            raise SchemaError(f"@tool({option}={value!r:.200}): it has to be a text")


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptionArguments],
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptionArguments],
) -> Tool | Callable[[Function], Tool]:
    """Make a function a tool: `@tool`, or `@tool(name=, description=, timeout=, ...)`.

    The model sees the name, the signature and the docstring; the other options are those of
    `ToolOptions`. Raises SchemaError if the function cannot be offered to a model.

    >>> @tool
    ... def add(a: int, b: int) -> int:
    ...     "Add two numbers."
    ...     return a + b
    >>> add.parameters["required"]
    ['a', 'b']
    >>> add(2, 3)
    5
    """
    if function is not None and not callable(getattr(function, "__func__", function)):
        raise SchemaError(
            f"@tool({function!r:.100}): it has to be a function; write @tool, or "
            "@tool(name=...) for its options"
        )
    if function is not None:
        return make_tool(function, name=name, description=description, **options)

    def decorate(target: Function) -> Tool:
        return make_tool(target, name=name, description=description, **options)

    return decorate

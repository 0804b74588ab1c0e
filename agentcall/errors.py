"""Every error that agentcall raises.

    AgentCallError
    ├── UsageError              the caller's fault: fix the program
    │   ├── SchemaError         a function that cannot be offered as a tool
    │   ├── DuplicateTool       two tools of one name
    │   ├── UnknownModel        a model shorthand that is not known
    │   ├── PolicyFailed        a policy raised, or did not return a decision
    │   └── MissingExtra        an optional package that is not installed
    ├── ModelError              the server's or the model's fault
    │   ├── ModelUnreachable    no connection, or it broke
    │   ├── ModelTimeout        no complete answer before the deadline
    │   ├── ModelRefused        the server answered with an error; `status`, `body`
    │   │   ├── RateLimited     too many requests; `retry_after` in seconds
    │   │   ├── ServerFailed    5xx
    │   │   └── ContextOverflow the conversation is longer than the window
    │   ├── BadAnswer           the body is not a chat completion
    │   └── CutAnswer           the stream ended before the answer did
    ├── ConcurrencyLimitExceeded  too many runs at once; `retry_after` in seconds
    ├── ArgumentsError          the arguments of a call are invalid
    ├── UnknownTool             there is no tool of this name
    ├── JournalError            the journal of durable runs cannot be read or written
    │   ├── JournalDamaged      it does not contain what was written; names the record
    │   └── RunBusy             another process has this run; names the process
    ├── Blocked                 a check or a hook ends the run; `run` does not raise it
    ├── IsolatedToolFailed      an isolated tool raised, or its process ended
    ├── SessionError            a session's file cannot be used, or a run cannot be saved in it
    │   └── SessionBusy         another run of the session is active
    └── ToolError               raised by or for a tool; the model reads the message
        ├── ModelRetry          the tool asks the model to try again
        └── ToolTimeout         the tool did not end before its deadline

An error of a tool or a model is reported to the model and does not end the run; an error of a
server is retried if that can help, and then raised; an error of the caller raises at once.

A ModelError, a KeyboardInterrupt and an asyncio.CancelledError that end a run have a `result`: the
RunResult of what the run had achieved, which may be continued (`agentcall.result.result_of`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class AgentCallError(Exception):
    """The base class of all errors."""


def attach_result(error: BaseException, result: object) -> None:
    """Set the `result` of an error that ends a run."""
    setattr(error, "result", result)  # noqa: B010 - built-in errors declare no such attribute


def get_attached_result(error: BaseException | None) -> Any:  # Any: a RunResult, of a higher layer
    """Return the `result` of an error; None if it has none."""
    from asyncio import CancelledError  # late, as it takes long to import

    result = getattr(error, "result", None)
    if result is None and isinstance(error, CancelledError):
        # Python 3.10 raises a new error when a cancelled task is awaited; the first is its context.
        return get_attached_result(error.__context__)
    return result


class UsageError(AgentCallError):
    """The program that uses agentcall has to be corrected."""


class SchemaError(UsageError, TypeError):
    """A function cannot be offered as a tool; the message has its location and the reason."""


class DuplicateTool(UsageError, ValueError):
    """Two tools have one name; the message has the locations of both."""


class UnknownModel(UsageError, ValueError):
    """A model shorthand is not known; the message lists the known ones."""


class PolicyFailed(UsageError):
    """A policy raised, or did not return a decision; no call of the turn was executed.

    result: the RunResult of what the run had achieved.
    """

    result: object = None


class MissingExtra(UsageError, ImportError):
    """An optional package is not installed; the message says how to install it."""

    @classmethod
    def for_feature(
        cls, feature: str, extra: str, cause: ImportError | None = None
    ) -> MissingExtra:
        """Return the error for a feature that needs an extra of agentcall.

        The message names the packages that are missing, and the command for this installation.
        """
        from agentcall_server.extras import describe_missing_extra

        module = "" if cause is None else cause.name or ""
        return cls(describe_missing_extra(feature, extra, module))


class ModelError(AgentCallError):
    """The server or the model failed.

    result: the RunResult of what the run had achieved, if a run failed.
    """

    result: object = None


class ModelUnreachable(ModelError):
    """There is no connection to the server, or it broke before the answer started."""


class ModelTimeout(ModelError, TimeoutError):
    """There was no complete answer before the deadline."""


class ModelRefused(ModelError):
    """The server answered with an error: `status` (HTTP) and `body` (at most 1 kB of it)."""

    def __init__(self, message: str, *, status: int, body: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class RateLimited(ModelRefused):
    """Too many requests; `retry_after` in seconds, if the server sent it."""

    def __init__(
        self, message: str, *, status: int, body: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, status=status, body=body)
        self.retry_after = retry_after


class ServerFailed(RateLimited):
    """The server failed (5xx); `retry_after` in seconds, if the server sent it."""


class ContextOverflow(ModelRefused):
    """The conversation is longer than the model's context window."""


class BadAnswer(ModelError):
    """The body of the answer is not a chat completion."""


class CutAnswer(ModelError):
    """The stream ended before the answer did; no call in it was executed."""


class ConcurrencyLimitExceeded(AgentCallError):
    """Too many runs are active or waiting; try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class ArgumentProblem:
    """An invalid argument: its path, its value, and what was expected."""

    path: str
    value: object
    expected: str


class ArgumentsError(AgentCallError, ValueError):
    """The arguments of a call are invalid; `problems` has each invalid field."""

    def __init__(self, message: str, problems: tuple[ArgumentProblem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class UnknownTool(AgentCallError, KeyError):
    """There is no tool of this name; the message has the known names."""

    def __str__(self) -> str:
        return str(self.args[0])


class JournalError(AgentCallError):
    """The journal of durable runs cannot be read or written; nothing unrecorded is started."""


class JournalDamaged(JournalError):
    """The journal does not contain what was written; the message has the run and the record."""


class RunBusy(JournalError):
    """Another process has this run, or has taken it over; the message names it."""


class SessionError(AgentCallError):
    """The file of a session is damaged, belongs to another program, or cannot be written.

    result: the RunResult that could not be saved, if there is one.
    """

    result: object = None


class SessionBusy(SessionError):
    """Another run of the session is active; the message names its process."""


class Blocked(AgentCallError):
    """Raised by a check or a hook to end the run without an output; the message says why.

    The run does not raise it: its result has the stop reason "blocked".
    """


class IsolatedToolFailed(AgentCallError):
    """An isolated tool raised an exception, or its process ended without a result.

    The message has the type and the text of the exception; `__cause__` has its traceback.

    retry: whether the failure may pass, such as a lost connection.
    """

    retry: bool = False

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class ToolError(AgentCallError):
    """A tool failed; the model reads the message.

    retry: the failure may pass, and the same call may be made again: by `@tool(attempts=)`, and by
        the model, which is told so.
    """

    retry: bool = False  # also in a subclass that does not call this constructor

    def __init__(self, *args: object, retry: bool = False) -> None:
        super().__init__(*args)
        self.retry = retry


class ModelRetry(ToolError):
    """Raised by a tool to ask the model to try again; the message says what to change."""


class ToolTimeout(ToolError, TimeoutError):
    """The tool did not end before its deadline."""

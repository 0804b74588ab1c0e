"""Every error that agentcall raises.

    AgentCallError
    ├── UsageError              the caller's fault: fix the program
    │   ├── SchemaError         a function that cannot be offered as a tool
    │   ├── DuplicateTool       two tools of one name
    │   ├── UnknownModel        a model shorthand that means nothing
    │   ├── PolicyFailed        a policy raised, or gave no ruling
    │   └── MissingExtra        an optional package that is not installed
    ├── ModelError              the server's or the model's fault
    │   ├── ModelUnreachable    no connection, or it broke
    │   ├── ModelTimeout        no whole answer before the deadline
    │   ├── ModelRefused        the server said no; `status`, `body`
    │   │   ├── RateLimited     too many requests; `retry_after` in seconds
    │   │   ├── ServerFailed    5xx
    │   │   └── ContextOverflow the conversation is longer than the window
    │   ├── BadAnswer           the body is not a chat completion
    │   └── CutAnswer           the stream ended before the answer did
    ├── Busy                    more runs at once than may be; `retry_after` in seconds
    ├── ArgumentsError          the model's arguments do not fit the tool
    ├── UnknownTool             the model named a tool that is not offered
    ├── JournalError            the journal of durable runs cannot be read or written
    │   ├── JournalDamaged      it does not hold what was written; says where
    │   └── RunBusy             another process runs this run; says which
    ├── SessionError            a session's file cannot be used, or a run cannot be put down in it
    │   └── SessionBusy         another run of the session is going on
    └── ToolError               raised by or for a tool; its words go to the model
        ├── ModelRetry          the tool asks the model to try again
        └── ToolTimeout         the tool did not end before its deadline

What a tool or a model does wrong is told to the model and ends no run; what a server does wrong
is retried where that can help and then raised; what the caller does wrong raises at once.

A ModelError, a KeyboardInterrupt and an asyncio.CancelledError that end a run have a `result`: the
RunResult of what it had come to, which may be gone on with (`agentcall.result.result_of`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class AgentCallError(Exception):
    """The root of the tree."""


def attach_result(error: BaseException, result: object) -> None:
    """Lets an error that ends a run have its `result`."""
    setattr(error, "result", result)  # noqa: B010 - errors of Python's own have no such attribute


def get_attached_result(error: BaseException | None) -> Any:  # Any: a RunResult, of a higher floor
    """The `result` that an error brings along; None where it brings none."""
    from asyncio import CancelledError  # late: not every program that knows errors has a loop

    found = getattr(error, "result", None)
    if found is None and isinstance(error, CancelledError):
        # Python 3.10 raises a new one where a cancelled task is awaited; the old one is behind it
        return get_attached_result(error.__context__)
    return found


class UsageError(AgentCallError):
    """The program that uses agentcall has to change."""


class SchemaError(UsageError, TypeError):
    """A function that cannot be offered as a tool; says where it stands and why."""


class DuplicateTool(UsageError, ValueError):
    """Two tools of one name; says where both stand."""


class UnknownModel(UsageError, ValueError):
    """A model shorthand that means nothing; lists the ones that do."""


class PolicyFailed(UsageError):
    """A policy raised, or gave something that is no ruling: nothing of that turn was carried out.

    `result` is the RunResult of what the run had come to by then.
    """

    result: object = None


class MissingExtra(UsageError, ImportError):
    """An optional package that is not installed; says how to install it."""


class ModelError(AgentCallError):
    """The server or the model failed.

    `result` is the RunResult of what the run had come to by then, where a run failed.
    """

    result: object = None


class ModelUnreachable(ModelError):
    """No connection to the server, or it broke before the answer began."""


class ModelTimeout(ModelError, TimeoutError):
    """No whole answer before the deadline."""


class ModelRefused(ModelError):
    """The server answered with an error: `status` (HTTP) and `body` (at most 1 kB of it)."""

    def __init__(self, message: str, *, status: int, body: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class RateLimited(ModelRefused):
    """Too many requests; `retry_after` in seconds, where the server says it."""

    def __init__(
        self, message: str, *, status: int, body: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, status=status, body=body)
        self.retry_after = retry_after


class ServerFailed(RateLimited):
    """The server failed (5xx); some say in `retry_after` when to come back."""


class ContextOverflow(ModelRefused):
    """The conversation is longer than the model's context window."""


class BadAnswer(ModelError):
    """The body is not a chat completion."""


class CutAnswer(ModelError):
    """The stream ended before the answer did; nothing of it was carried out."""


class ConcurrencyLimitExceeded(AgentCallError):
    """Every place is taken and enough wait already; come back in `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class ArgumentProblem:
    """One argument that does not fit: where, what it was, what was expected."""

    path: str
    value: object
    expected: str


class ArgumentsError(AgentCallError, ValueError):
    """Arguments that do not fit a tool; `problems` names each wrong field."""

    def __init__(self, message: str, problems: tuple[ArgumentProblem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class UnknownTool(AgentCallError, KeyError):
    """A tool that is not there; names those that are."""

    def __str__(self) -> str:
        return str(self.args[0])


class JournalError(AgentCallError):
    """The journal of durable runs cannot be read or written: what it cannot hold is not begun."""


class JournalDamaged(JournalError):
    """The journal does not hold what was written to it; says in which run and record."""


class RunBusy(JournalError):
    """Another process runs this run, or has taken it over; says which."""


class SessionError(AgentCallError):
    """The file of a session is damaged, of another program, or cannot be written.

    `result` is the RunResult that could not be put down, where there is one.
    """

    result: object = None


class SessionBusy(SessionError):
    """Another run of the session is going on; says whose process that is."""


class ToolError(AgentCallError):
    """A tool failed; the model is told the message."""


class ModelRetry(ToolError):
    """Raised by a tool to ask the model to try again, with what to change."""


class ToolTimeout(ToolError, TimeoutError):
    """The tool did not end before its deadline."""

"""Failures that pass: which exceptions, which words of a result, and calling again.

Rules:
1. A lost connection, a deadline of the tool's own, a server that is busy and `ToolError(...,
   retry=True)` may pass. A missing file or a wrong value does not.
2. A call is repeated by the framework only as often as `@tool(attempts=)` says, with pauses that
   grow; the model reads the last failure.
3. A tool's deadline, `@tool(timeout=)`, is for each attempt; a call that was given up there is not
   repeated.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from agentcall.errors import IsolatedToolFailed, ToolError, ToolTimeout

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before the second attempt, and the most between two; each pause is drawn up to that."""

_BUSY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_LASTING_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
_CONNECTION_ERRORS = frozenset(
    {
        ("httpx", "TransportError"),
        ("httpcore", "NetworkError"),
        ("aiohttp", "ClientConnectionError"),
        ("requests", "ConnectionError"),
        ("requests", "Timeout"),
        ("urllib3", "HTTPError"),
    }
)
"""Modules and classes: none of them is imported here, and a tool may use any of them."""

_MAX_NOTICE_LENGTH = 300
_TRY_AGAIN = re.compile(
    r"\b(?:try|retry|call|ask)(?: it)? again\b|\bretry\b|\btemporar(?:y|ily)\b"
    r"|\btransient\b|\bplease wait\b|重试|稍后再试",
    re.IGNORECASE,
)
_FAILURE = re.compile(
    r"\b(?:errors?|fail(?:ed|ure|s)?|timed? ?out|timeout|unavailable|busy|overloaded"
    r"|could not|cannot|can't|unable)\b|错误|失败|繁忙|超时",
    re.IGNORECASE,
)


def is_transient(error: BaseException | None) -> bool:
    """Whether the failure may pass, so that the same call may succeed a moment later."""
    if error is None or isinstance(error, ToolTimeout):
        return False
    if isinstance(error, (ToolError, IsolatedToolFailed)):
        return error.retry
    status = _find_status(error)
    if status is not None:
        return status in _BUSY_STATUS
    if isinstance(error, OSError):  # and so TimeoutError and ConnectionError
        return not isinstance(error, _LASTING_ERRORS)
    names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    return not names.isdisjoint(_CONNECTION_ERRORS)


def _find_status(error: BaseException) -> int | None:
    """Return the HTTP status of an exception of httpx, requests, aiohttp or urllib."""
    response: object = getattr(error, "response", None)
    for holder, name in ((response, "status_code"), (error, "status"), (error, "code")):
        status: object = getattr(holder, name, None)
        if type(status) is int and 100 <= status < 600:
            return status
    return None


def says_try_again(text: str) -> bool:
    """Whether the text of a result says that the call failed for now.

    A long text is content, whatever words it has.
    """
    if len(text) > _MAX_NOTICE_LENGTH:
        return False
    return _TRY_AGAIN.search(text) is not None and _FAILURE.search(text) is not None


class Outcome(Protocol):
    """The outcome of a call."""

    @property
    def exception(self) -> BaseException | None:
        """What the tool raised."""
        ...


T = TypeVar("T", bound=Outcome)


async def call_with_retries(call: Callable[[], Awaitable[T]], attempts: int) -> T:
    """Call until the outcome is not a failure that may pass; return the last outcome."""
    from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt
    from tenacity.wait import wait_random_exponential

    retrying = AsyncRetrying(
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
        retry=retry_if_result(lambda outcome: is_transient(outcome.exception)),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )

    async def attempt() -> T:  # tenacity awaits the functions that it can see are async
        return await call()

    outcome: T = await retrying(attempt)
    return outcome

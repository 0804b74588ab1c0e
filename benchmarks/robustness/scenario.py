"""A scenario: a question, a model with one fault, and the expected outcome.

Rules:

1. The model's reply depends only on the request. It is the fault until the expected results are in
   the conversation, then the answer.
2. A result is recognized by its text (numbers that are in no question), in any message and role, so
   that frameworks are free in how they send it.
3. Without tools the model gives the answer if it has the results, else it says that it does not
   know. A stubborn model gives the answer only then.
4. If a framework offers a tool `final_answer` for the end of a run, the answer is a call of it.
5. The server refuses request 41 and later ones with a 400.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from agentcall.testing import Completion, RecordedRequest, Reply, call, openai_error, say
from agentcall.testing import status as http_status
from agentcall.testing.fake_server import ServerProfileOptions

MAX_REQUESTS = 41
UNKNOWN_ANSWER = "I do not know."

Fault: TypeAlias = Callable[[RecordedRequest], Reply]


@dataclass(frozen=True, slots=True)
class Execution:
    """An execution of a tool."""

    tool: str
    arguments: dict[str, Any]  # Any: JSON values, compared with their types

    def __str__(self) -> str:
        return f"{self.tool}({json.dumps(self.arguments, ensure_ascii=False)[1:-1]})"


def execution(tool: str, /, **arguments: object) -> Execution:
    """Return an execution: `execution("add", a=2, b=3)`."""
    return Execution(tool, arguments)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault of models or servers, and the expected outcome.

    tools: the names of the offered functions in `tools.py`.
    fault: the model's reply to a request until it has the `results`.
    answer: the exact final answer; `closing` is the text that the model sends for it, if different.
    executions: the calls that should run, in any order, each once to `repeats` times; no others.
    requests: the maximum of requests to the model.
    traits: the options of the server.
    """

    name: str
    about: str
    tools: tuple[str, ...]
    question: str
    fault: Fault
    answer: str
    executions: tuple[Execution, ...]
    results: tuple[str, ...]
    requests: int = 4
    repeats: int = 1
    stubborn: bool = False
    closing: str = ""
    traits: ServerProfileOptions = field(default_factory=ServerProfileOptions)

    def script(self, request: RecordedRequest) -> Reply:
        """Return the server's reply to a request."""
        if request.number >= MAX_REQUESTS:
            return _refuse()
        if _is_closed(request):
            return say(self.answer if self._is_known(request) else UNKNOWN_ANSWER)
        if self._is_known(request) and not self.stubborn:
            return _make_final_reply(self.closing or self.answer, request)
        return self.fault(request)

    def _is_known(self, request: RecordedRequest) -> bool:
        heard = _collect_inputs(request)
        return all(result in heard for result in self.results)

    def __str__(self) -> str:
        return self.name


def always(reply: Reply) -> Fault:
    """Reply with the same fault to every request."""
    return lambda request: reply


def once(reply: Reply, then: Reply) -> Fault:
    """Reply with a fault to the first request, then with the right reply."""
    return lambda request: reply if request.number == 1 else then


def twice(reply: Reply, then: Reply) -> Fault:
    """Reply with a fault to the first two requests, then with the right reply."""
    return lambda request: reply if request.number <= 2 else then


def in_turns(*replies: Reply) -> Fault:
    """Reply with these replies in turn, and start again after the last."""
    return lambda request: replies[(request.number - 1) % len(replies)]


def _collect_inputs(request: RecordedRequest) -> str:
    """Return all messages to the model as JSON text."""
    inputs = [message for message in request.messages if message.get("role") != "assistant"]
    return json.dumps(inputs, ensure_ascii=False)


def _is_closed(request: RecordedRequest) -> bool:
    return not request.tools or request.body.get("tool_choice") == "none"


def _make_final_reply(text: str, request: RecordedRequest) -> Completion:
    if not any(tool["function"]["name"] == "final_answer" for tool in request.tools):
        return say(text)
    thinking, mark, rest = text.partition("</think>")
    if not mark:
        return call("final_answer", answer=text)
    return call("final_answer", answer=rest.strip()).replace(text=thinking + mark)


def _refuse() -> Reply:
    # Without this header the openai client would retry.
    body = openai_error(f"gave up at request {MAX_REQUESTS}", status=400)
    return http_status(400, body=body, headers={"x-should-retry": "false"})

"""A scenario: a question, a model that answers it wrongly in one way, and what should come of it.

Rules:
1. The model is a function of the request alone. It gives its fault until the results that it
   waits for stand in the conversation, and then the answer.
2. A result is known by its words (numbers that stand in no question), in whatever message and role
   a framework sends it back, so that no framework is bound to a form.
3. Without tools the model gives the answer if it has the results, else it says that it does not
   know. A stubborn model gives the answer only then.
4. A framework that has a tool `final_answer` for the end of a run is answered through it.
5. The server gives up with a 400 at request 41.
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
    """A tool that ran, and with what."""

    tool: str
    arguments: dict[str, Any]  # Any: JSON values, compared with their types

    def __str__(self) -> str:
        return f"{self.tool}({json.dumps(self.arguments, ensure_ascii=False)[1:-1]})"


def execution(tool: str, /, **arguments: object) -> Execution:
    """An execution: `ran("add", a=2, b=3)`."""
    return Execution(tool, arguments)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way in which models or servers fail, and what a framework should make of it.

    tools: the names of the functions of `tools.py` that are offered.
    fault: what the model says to a request until it knows the `results`.
    answer: the final answer, to the letter; `closing` is how it is said, if not so.
    executions: what should run, in any order; each up to `repeats` times, all of them at least
        once, and nothing else.
    requests: how many requests to the model are still well spent.
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
        """What the server answers."""
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
    """The same fault to every request."""
    return lambda request: reply


def once(reply: Reply, then: Reply) -> Fault:
    """A fault to the first request, and after it what is right."""
    return lambda request: reply if request.number == 1 else then


def twice(reply: Reply, then: Reply) -> Fault:
    """A fault to the first two requests, and after them what is right."""
    return lambda request: reply if request.number <= 2 else then


def in_turns(*replies: Reply) -> Fault:
    """One reply after the other, round and round."""
    return lambda request: replies[(request.number - 1) % len(replies)]


def _collect_inputs(request: RecordedRequest) -> str:
    """Everything that was said to the model, in whatever form."""
    said = [message for message in request.messages if message.get("role") != "assistant"]
    return json.dumps(said, ensure_ascii=False)


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
    # the openai client would ask again without this header
    body = openai_error(f"gave up at request {MAX_REQUESTS}", status=400)
    return http_status(400, body=body, headers={"x-should-retry": "false"})

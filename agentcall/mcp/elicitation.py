"""Questions that an MCP server asks the user during a call ("elicitation").

Rules:
1. Nobody answers for the user: without a handler a question is declined, and the log says so.
2. With `on_elicit="approval"` the question is answered with "cancel", and the run waits. The call
   is made again, from its beginning, with the person's answer. An answer belongs to the question
   that the person saw, to the letter; any other question makes the run wait again.
3. A page that the server names is shown to the person, and never opened.
4. The number of questions in a call is bounded, and the size of each.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import urlsplit

from agentcall.approvals import Question
from agentcall.display import strip_control_characters, to_single_line
from agentcall.errors import AgentCallError, UsageError
from agentcall.mcp.calls import CallInProgress, CallTracker, make_error
from agentcall.mcp.transport import import_optional
from agentcall.messages import JSON, encode_json
from agentcall.tools.schema.json_schema import ExternalSchema
from agentcall.tools.tool import RunContext

MAX_QUESTIONS = 10
"""How many questions a server may ask during one call."""
MAX_QUESTION_CHARS = 4_000
MAX_SCHEMA_BYTES = 50_000

_log = logging.getLogger("agentcall.mcp")


@dataclass(frozen=True, slots=True)
class MCPQuestion:
    """A question of a server, as an `on_elicit` function gets it.

    schema: the JSON Schema of the answer, an object; None for a question of yes or no.
    url: a page that the server asks the user to visit; nothing has opened it.
    server, tool: who asks, and during the call of which tool; empty if that is not known.
    context: the `RunContext` of the call, if it is known.
    """

    text: str
    schema: Mapping[str, JSON] | None
    url: str
    server: str
    tool: str
    context: RunContext[Any] | None  # Any: the user's own type


ElicitAnswer: TypeAlias = Mapping[str, JSON] | bool | None
"""Values by field name; True for yes; False or None if the user declines."""

ElicitFunction: TypeAlias = Callable[[MCPQuestion], ElicitAnswer | Awaitable[ElicitAnswer]]

Elicit: TypeAlias = ElicitFunction | Literal["approval"] | None


class ElicitationHandler:
    """Answers the questions of one server. Raises UsageError for a wrong `on_elicit`."""

    def __init__(self, on_elicit: Elicit, tracker: CallTracker, server: str) -> None:
        if not (on_elicit is None or on_elicit == "approval" or callable(on_elicit)):
            raise UsageError(
                f'MCPTools(on_elicit={on_elicit!r:.100}): it has to be "approval", a function of '
                "an MCPQuestion, or None"
            )
        self._on_elicit = on_elicit
        self._tracker = tracker
        self._server = server

    async def answer(self, _context: object, params: Any) -> Any:  # Any: types of the mcp package
        """Answer a question; the callback of the mcp package."""
        call = self._tracker.find_call()
        excess = (
            f"the MCP server {self._server} asked over {MAX_QUESTIONS} questions during a call, "
            "which was given up"
        )
        if call is None:
            if not self._tracker.count_unattributed(MAX_QUESTIONS, excess):
                return make_error(excess)
        else:
            call.questions_asked += 1
            if call.questions_asked > MAX_QUESTIONS:
                call.stop(excess)
                return make_error(excess)
        try:
            question = _read_question(params)
        except AgentCallError as error:
            _log.warning("a question of %s is refused: %s", self._server, error)
            return make_error(str(error))
        if callable(self._on_elicit):
            return await self._answer_by_function(self._on_elicit, question, call)
        if self._on_elicit is None:
            return self._decline(question, "MCPTools has no on_elicit=")
        return self._answer_by_approval(question, call)

    def _answer_by_approval(self, question: Question, call: CallInProgress | None) -> Any:
        if call is None or call.run is None:
            return self._decline(question, "it was not asked during a call of a run")
        for answer in call.answers:
            if answer.question == question:
                call.answers.remove(answer)
                return _accept(question, answer.values)
        if call.question is not None:  # it asks on, though the user has not answered
            return make_error("the question before waits for an answer")
        call.question = question
        return _make_result("cancel")

    async def _answer_by_function(
        self, function: ElicitFunction, question: Question, call: CallInProgress | None
    ) -> Any:
        asked = MCPQuestion(
            question.text,
            question.schema,
            question.url,
            self._server,
            "" if call is None else call.tool,
            None if call is None else call.context,
        )

        async def ask() -> object:
            if inspect.iscoroutinefunction(function):
                return await function(asked)
            value: object = await asyncio.to_thread(function, asked)
            return await value if inspect.isawaitable(value) else value

        try:
            value = await ask() if call is None else await call.run_in_loop(ask())
            if value is None or value is False:
                return _make_result("decline")
            values = cast("Mapping[str, JSON]", {} if value is True else value)
            _check_values(question, values)
        except Exception as error:  # the user's function may raise anything
            message = f"on_elicit cannot answer a question of {self._server}: {error!r:.500}"
            _log.exception("%s", message)
            if call is not None:
                call.stop(message)
            return make_error("the question cannot be answered")
        return _accept(question, values)

    def _decline(self, question: Question, why: str) -> Any:
        text = to_single_line(question.text, 200)
        _log.warning("a question of %s is declined, as %s: %s", self._server, why, text)
        return _make_result("decline")


def _read_question(params: Any) -> Question:
    """Return the question of a request. Raises UsageError, SchemaError."""
    text = strip_control_characters(params.message)
    if len(text) > MAX_QUESTION_CHARS:
        raise UsageError(f"the question has {len(text)} characters, over {MAX_QUESTION_CHARS}")
    if params.mode == "url":
        url = str(params.url)
        if urlsplit(url).scheme not in ("http", "https") or not url.isprintable() or " " in url:
            raise UsageError("the page of the question is not an http(s) URL")
        return Question(f"{text} [visit {url}]"[: 2 * MAX_QUESTION_CHARS], None, url)
    schema = cast("dict[str, JSON]", dict(params.requested_schema))
    if len(encode_json(schema)) > MAX_SCHEMA_BYTES:
        raise UsageError(f"the schema of the question has over {MAX_SCHEMA_BYTES} bytes")
    ExternalSchema.from_parameters("answer", "", schema)
    return Question(text, schema if schema.get("properties") else None)


def _check_values(question: Question, values: Mapping[str, JSON]) -> None:
    """Raise ArgumentsError for values that do not fit the schema."""
    schema = question.schema or {"type": "object"}
    ExternalSchema.from_parameters("answer", "", schema).parse(encode_json(values))


def _accept(question: Question, values: Mapping[str, JSON]) -> Any:
    return _make_result("accept", content=None if question.url else dict(values))


def _make_result(action: str, **fields: object) -> Any:
    return import_optional("mcp_types").ElicitResult(action=action, **fields)

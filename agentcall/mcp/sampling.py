"""Requests of an MCP server to a model of ours ("sampling").

Rules:
1. They are refused unless `MCPTools(sampling=...)` names who answers them.
2. The server's text is untrusted: the model gets it without the agent's tools, instructions or
   conversation, and its answer goes to the server.
3. In a run they count towards its usage and its limits. The number of requests in a call is
   bounded, and the size of each.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from agentcall.dialects.dialect import PromptSpec
from agentcall.errors import AgentCallError, UsageError
from agentcall.mcp.calls import CallInProgress, CallTracker, make_error
from agentcall.mcp.content import read_part
from agentcall.mcp.transport import import_optional
from agentcall.messages import Assistant, Image, Message, Text, User
from agentcall.models.model import Model
from agentcall.models.resolve import ModelLike, resolve_model
from agentcall.result import MissingOutput, RunResult
from agentcall.runtime.agent_spec import AgentSpec
from agentcall.runtime.output import OutputParser
from agentcall.runtime.run import AgentRun
from agentcall.runtime.state import RunInput
from agentcall.settings import Limits, ModelSettings
from agentcall.tools.registry import ToolRegistry

MAX_SAMPLES = 10
"""How many requests to a model a server may make during one call."""
MAX_SAMPLE_TOKENS = 4_096
MAX_SAMPLE_CHARS = 200_000
MAX_SAMPLE_MESSAGES = 100

_log = logging.getLogger("agentcall.mcp")


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """A request of a server to a model, as a `sampling` function gets it.

    server, tool: who asks, and during the call of which tool; empty if that is not known.
    """

    messages: tuple[Message, ...]
    instructions: str
    settings: ModelSettings
    server: str
    tool: str


SamplingFunction: TypeAlias = Callable[[SamplingRequest], str | Awaitable[str]]
"""Returns the text of the answer."""

Sampling: TypeAlias = "bool | ModelLike | SamplingFunction"


def _is_model(value: object) -> bool:
    return hasattr(value, "ask")


class SamplingHandler:
    """Answers the requests of one server to a model."""

    def __init__(self, sampling: Sampling, tracker: CallTracker, server: str) -> None:
        self._model: Model | None = None
        self._function: SamplingFunction | None = None
        if sampling is not True and (isinstance(sampling, (str, Sequence)) or _is_model(sampling)):
            self._model = resolve_model(cast("ModelLike", sampling))
        elif sampling is not True:
            self._function = cast("SamplingFunction", sampling)
        self._tracker = tracker
        self._server = server

    async def answer(self, _context: object, params: Any) -> Any:  # Any: types of the mcp package
        """Answer a request; the callback of the mcp package."""
        call = self._tracker.find_call()
        excess = (
            f"the MCP server {self._server} made over {MAX_SAMPLES} requests to a model during a "
            "call, which was given up"
        )
        if call is None:
            return make_error("a model is asked only during a call of a tool")
        call.samples_requested += 1
        if call.samples_requested > MAX_SAMPLES:
            call.stop(excess)
            return make_error(excess)
        try:
            request = self._read_request(params, call)
            text, stop_reason = await call.run_in_loop(self._answer(request, call))
        except AgentCallError as error:
            _log.warning("a request of %s to a model failed: %s", self._server, error)
            # Not the message: it may name our server, or quote its answer.
            why = str(error) if isinstance(error, UsageError) else type(error).__name__
            return make_error(f"the model did not answer: {why}")
        except Exception as error:  # the user's function may raise anything
            message = f"sampling cannot answer a request of {self._server}: {error!r:.500}"
            _log.exception("%s", message)
            call.stop(message)
            return make_error("the request cannot be answered")
        types = import_optional("mcp_types")
        return types.CreateMessageResult(
            role="assistant",
            content=types.TextContent(type="text", text=text),
            model="agentcall",
            stop_reason=stop_reason,
        )

    def _read_request(self, params: Any, call: CallInProgress) -> SamplingRequest:
        """Return the request. Raises UsageError for one that is too large, or has tools."""
        if params.tools:
            raise UsageError("requests with tools are not answered")
        messages = tuple(_read_messages(params.messages[: MAX_SAMPLE_MESSAGES + 1]))
        texts = [message.text for message in messages if isinstance(message, (User, Assistant))]
        size = sum(map(len, texts)) + len(params.system_prompt or "")
        if not messages or len(messages) > MAX_SAMPLE_MESSAGES or size > MAX_SAMPLE_CHARS:
            raise UsageError(
                f"a request has 1 to {MAX_SAMPLE_MESSAGES} messages of {MAX_SAMPLE_CHARS} "
                "characters together"
            )
        temperature = params.temperature
        settings = ModelSettings(
            max_tokens=max(1, min(params.max_tokens, MAX_SAMPLE_TOKENS)),
            temperature=None if temperature is None else min(max(temperature, 0.0), 2.0),
            stop=tuple(params.stop_sequences[:4]) if params.stop_sequences else None,
        )
        instructions = params.system_prompt or ""
        return SamplingRequest(messages, instructions, settings, self._server, call.tool)

    async def _answer(self, request: SamplingRequest, call: CallInProgress) -> tuple[str, str]:
        """Return the text and the stop reason, in the event loop of the run."""
        function = self._function
        if function is not None:
            value: object = (
                await function(request)
                if inspect.iscoroutinefunction(function)
                else await asyncio.to_thread(function, request)
            )
            value = await value if inspect.isawaitable(value) else value
            if not isinstance(value, str):
                raise TypeError(f"it returned {value!r:.100}, not a text")
            return value, "endTurn"
        model = self._model
        if model is None:
            if call.run is None:
                raise UsageError("there is no run whose model could answer")
            model = call.run.spec.model
        result = await _ask_model(model, request, call)
        if isinstance(result.answer, MissingOutput):
            raise UsageError(f"it ended with {result.stop_reason}")
        reason = "maxTokens" if result.stop_reason == "max_tokens" else "endTurn"
        return str(result.answer), reason


async def _ask_model(
    model: Model, request: SamplingRequest, call: CallInProgress
) -> RunResult[Any]:  # Any: it is a text
    """Make a run without tools, within the limits of the run that made the call if it has one."""
    output = OutputParser(str)
    spec = AgentSpec(
        model=model,
        registry=ToolRegistry(),
        prompt=PromptSpec(request.instructions, (), output.schema),
        output=output,
        limits=Limits(requests=2),
        name="sampling",
        agent="sampling",
    )
    key = f"{call.context.idempotency_key or call.context.tool_call_id}:sampling"
    run_input = RunInput(
        f"{key}{call.samples_requested}",
        request.messages,
        len(request.messages) - 1,
        parent=call.run,
        settings=request.settings,
    )
    return await AgentRun(spec, run_input).execute()


def _read_messages(messages: Iterable[Any]) -> Iterable[Message]:
    for message in messages:
        content: Any = message.content
        blocks: list[Any] = [content] if hasattr(content, "type") else list(content)
        parts = [read_part(block) for block in blocks]
        if message.role == "assistant":
            texts = (p if isinstance(p, str) else f"<{p.description}>" for p in parts)
            yield Assistant("\n".join(texts), untrusted=True, assessed=True)
            continue
        user = tuple(part if isinstance(part, Image) else Text(part) for part in parts)
        yield User(user, tainted=True)


def create_sampling_handler(
    sampling: Sampling, tracker: CallTracker, server: str
) -> SamplingHandler | None:
    """Return what answers the requests of a server to a model; None if nobody does.

    Raises UsageError for a value that is neither a model nor a function.
    """
    if sampling is False:
        return None
    value: object = sampling
    if not (value is True or isinstance(value, Sequence) or _is_model(value) or callable(value)):
        raise UsageError(
            f"MCPTools(sampling={sampling!r:.100}): it has to be True for the model of the run, a "
            "model, a function of a SamplingRequest, or False"
        )
    return SamplingHandler(sampling, tracker, server)

"""Code mode: a model that answers with programs, in which the tools are functions.

`CodeMode(model)` is a model itself. Asked about a conversation in which a program waits for the
results of its calls, it runs the program and does not ask the model behind it. So each call of a
program is a tool call like any other: validated, decided about, recorded, resumed.

Rules:
1. What a program printed is the answer. A program that printed nothing is followed by a request for
   words, without functions; one that ends with loading a skill or finding tools, by a request for
   the next program.
2. A program that failed, or whose answer is rejected, is written again; the model reads why. An
   equal call that an earlier program of the run made is not made again: it has its result.
3. Of an answer that was cut, nothing is run.
4. A program reads whole results: what the conversation has shortened or left out, and what hooks
   leave out, is left out for the model behind it alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from agentcall.dialects.answer_parts import MalformedCallPart, TextPart, ThinkingPart, ToolCallPart
from agentcall.dialects.code import (
    CodeAnswer,
    FunctionSet,
    Program,
    ProgramRecord,
    format_instructions,
    may_be_code,
    read_answer,
    read_conversation,
    render_conversation,
)
from agentcall.dialects.dialect import PromptSpec
from agentcall.errors import UsageError
from agentcall.messages import Message, ToolResult, Transcript, Usage
from agentcall.models.model import (
    PROGRAM_STEP,
    Model,
    ModelRequest,
    ResponseEnd,
    ResponseEvent,
    ResponseStart,
    close_response,
    collect_secrets,
    fetch_context_window,
    find_context_window,
)
from agentcall.models.program import (
    CallOutcome,
    ProgramAbandoned,
    ProgramCall,
    ProgramCalls,
    ProgramEnd,
    ProgramFailure,
    ProgramStep,
    run_program,
)

_NO_USAGE = Usage()
_NO_OUTPUT = "it printed nothing; end with print(...)"


class CodeMode:
    """A model that calls tools by programs: `Agent("code:ollama:qwen3", tools=[...])`.

    model: the model that writes them. Needs the extra `python`.
    """

    def __init__(self, model: Model) -> None:
        if isinstance(model, type) or not hasattr(model, "ask"):
            raise UsageError(
                f"CodeMode({model!r:.100}): it has to be a model; with a name, use "
                'Agent("code:NAME")'
            )
        self._model = model

    @property
    def inner_model(self) -> Model:
        """The model that writes the programs."""
        return self._model

    def __repr__(self) -> str:
        return f"CodeMode({self._model!r})"

    @property
    def secrets(self) -> Collection[str]:
        """The secrets of the model."""
        return collect_secrets([self._model])

    async def fetch_context_window(self) -> int | None:
        """Return the window of the model in tokens; None if it is not known."""
        return await fetch_context_window(self._model)

    async def find_context_window(self) -> int | None:
        """As `fetch_context_window`, for a run."""
        return await find_context_window(self._model)

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the next step of the program that waits, or the model's answer."""
        prompt = request.prompt
        can_call = request.tool_choice != "none" and bool(prompt.tools or prompt.answer_schema)
        functions = FunctionSet(prompt.tools, prompt.answer_schema)
        whole = tuple(request.transcript) if request.whole is None else request.whole
        own = read_conversation(whole[request.begin :])  # of this run
        record = own[-1] if own else None
        if can_call and isinstance(record, ProgramRecord) and record.is_open:
            step = await self._continue(record, functions, own)
            if step is not None:
                for part in step:
                    yield part
                return
            if request.is_step:
                yield ResponseEnd(PROGRAM_STEP, _NO_USAGE)
                return
            can_call = record.has_loaded
        recalled = _collect_earlier_results(own) if can_call else {}
        answer = self._ask_model(request, functions, recalled, can_call=can_call)
        try:
            async for part in answer:
                yield part
        finally:
            await close_response(answer)

    async def _continue(
        self,
        record: ProgramRecord,
        functions: FunctionSet,
        items: Sequence[Message | ProgramRecord],
    ) -> Sequence[ResponseEvent] | None:
        """Return the program's next step; None if it has ended without an answer."""
        outcomes = [CallOutcome(call.name, result) for call, result in record.calls]
        recalled = _collect_earlier_results(items[:-1])
        try:
            step = await _run(record.program, functions, outcomes, recalled)
        except ProgramAbandoned:
            return None
        if isinstance(step, ProgramEnd) and (record.has_loaded or not step.text):
            return None
        return [*_to_parts(record.program, step), ResponseEnd(PROGRAM_STEP, _NO_USAGE)]

    async def _ask_model(
        self,
        request: ModelRequest,
        functions: FunctionSet,
        recalled: dict[ProgramCall, ToolResult],
        *,
        can_call: bool,
    ) -> AsyncIterator[ResponseEvent]:
        """Yield the model's answer: words as they arrive, or the first step of its program."""
        items = read_conversation(request.transcript)
        conversation = Transcript(render_conversation(items, can_call=can_call))
        text, shown, end = "", 0, ResponseEnd(None, Usage(1))
        prefix = ""  # what separates the program from the model's thinking
        answer = self._model.ask(
            _build_request(request, functions, conversation, can_call=can_call)
        )
        try:
            async for part in answer:
                if isinstance(part, ResponseStart):
                    yield ResponseStart(
                        "code", f"{part.dialect}: {part.reason}", part.model, part.url
                    )
                elif isinstance(part, ResponseEnd):
                    end = part
                elif not isinstance(part, TextPart):
                    if isinstance(part, ThinkingPart) and part.text:
                        prefix = "" if part.text.endswith("\n") else "\n"
                    yield part
                else:
                    text += part.text
                    if not can_call or not may_be_code(text):
                        yield TextPart(text[shown:])
                        shown = len(text)
        finally:
            await close_response(answer)
        is_whole = can_call and end.finish_reason not in (None, "content_filter")
        read = read_answer(text, functions) if is_whole else CodeAnswer(text)
        read = read._replace(words=read.words[shown:])
        async for part in _finish_answer(read, end, functions, recalled, prefix):
            yield part


async def _finish_answer(
    answer: CodeAnswer,
    end: ResponseEnd,
    functions: FunctionSet,
    recalled: dict[ProgramCall, ToolResult],
    prefix: str,
) -> AsyncIterator[ResponseEvent]:
    """Yield what is left of an answer: its words, or the first step of its program."""
    if answer.words:
        yield TextPart(answer.words)
    if answer.code is None:
        yield end
        return
    if end.finish_reason == "length":
        yield MalformedCallPart(answer.code, "the program was cut off")
        yield end
        return
    program = Program(answer.code, datetime.now(timezone.utc).isoformat())
    yield ThinkingPart(prefix + program.format())
    step: ProgramStep = ProgramFailure(answer.refusal)
    if not answer.refusal:
        step = await _run(program, functions, (), recalled)
    if step == ProgramEnd(""):
        step = ProgramFailure(_NO_OUTPUT)
    for part in _to_parts(program, step):
        yield part
    yield ResponseEnd(PROGRAM_STEP, end.usage)


def _build_request(
    request: ModelRequest, functions: FunctionSet, conversation: Transcript, *, can_call: bool
) -> ModelRequest:
    """Return the request for a program or words, without tools."""
    instructions = format_instructions(request.prompt.instructions, functions)
    schema = None if can_call else request.prompt.answer_schema
    return replace(
        request,
        transcript=conversation,
        whole=None,
        prompt=PromptSpec(instructions, (), schema),
        tool_choice="none",
    )


def _to_parts(program: Program, step: ProgramStep) -> Sequence[ResponseEvent]:
    match step:
        case ProgramCalls(calls):
            return [ToolCallPart(call.name, call.arguments) for call in calls]
        case ProgramEnd(text):
            return [TextPart(text)]
        case ProgramFailure(reason):
            return [MalformedCallPart(program.code, reason)]


async def _run(
    program: Program,
    functions: FunctionSet,
    outcomes: Sequence[CallOutcome],
    recalled: dict[ProgramCall, ToolResult],
) -> ProgramStep:
    def recall(call: ProgramCall) -> ToolResult | None:
        return recalled.get(call.normalize())

    return await asyncio.to_thread(run_program, program, functions, outcomes, recall)


def _collect_earlier_results(
    items: Sequence[Message | ProgramRecord],
) -> dict[ProgramCall, ToolResult]:
    """Return the results of the calls that the programs of a run have made.

    A failed call is not among them: it may be made again.
    """
    return {
        ProgramCall(call.name, call.arguments).normalize(): result
        for item in items
        if isinstance(item, ProgramRecord)
        for call, result in item.calls
        if not result.is_error
    }

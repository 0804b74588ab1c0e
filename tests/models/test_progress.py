"""What a model does before it answers: parts of the answer, events, and words for the user."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from agentcall import Agent
from agentcall.cli.render import ThinkingText
from agentcall.dialects.answer_parts import TextPart
from agentcall.dialects.dialect import PromptSpec
from agentcall.dialects.native import NATIVE
from agentcall.errors import ModelUnreachable
from agentcall.events import ModelProgress, RunStarted, TextDelta, event_to_json
from agentcall.messages import Usage
from agentcall.models.fallback import Fallback
from agentcall.models.model import (
    ModelRequest,
    ResponseEnd,
    ResponseEvent,
    ResponseProgress,
)
from agentcall.models.response_reader import ResponseReader
from agentcall.serving.web.chat_messages import render_thinking
from agentcall.serving.web.stream_state import ChatStreamState


def feed(*bodies: object) -> list[ResponseEvent]:
    reader = ResponseReader(NATIVE.create_reader(PromptSpec()), 100)
    data = "".join(f"data: {json.dumps(body)}\n\n" for body in bodies).encode()
    return [*reader.feed(data), *reader.close()]


def chunk(text: str | None = None, **fields: object) -> dict[str, object]:
    delta = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}], **fields}


def test_the_tokens_that_llama_cpp_reads_are_reported_without_those_it_had_cached() -> None:
    read = [{"total": 500, "cache": 100, "processed": n, "time_ms": 1} for n in (100, 300, 500)]
    parts = feed(*(chunk(prompt_progress=progress) for progress in read), chunk("Hi"))
    steps = [part for part in parts if isinstance(part, ResponseProgress)]
    assert steps == [ResponseProgress("reading", done, 400) for done in (0, 200, 400)]
    assert TextPart("Hi") in parts


def test_a_few_new_tokens_or_a_strange_progress_are_not_reported() -> None:
    few = {"total": 500, "cache": 480, "processed": 500}
    assert not [
        part
        for part in feed(chunk(prompt_progress=few), chunk(prompt_progress="?"))
        if isinstance(part, ResponseProgress)
    ]


class Slow:
    """A model that reports its start, and then fails or answers."""

    def __init__(self, error: ModelUnreachable | None = None) -> None:
        self._error = error

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        for progress in STEPS:
            yield progress
        if self._error is not None:
            raise self._error
        yield TextPart("Hello.")
        yield ResponseEnd("stop", Usage(1))


STEPS: Sequence[ResponseProgress] = (
    ResponseProgress("fetching", 340, 1000),
    ResponseProgress("loading"),
    ResponseProgress("reading", 128, 450),
)


async def test_what_a_model_does_before_it_answers_is_an_event() -> None:
    events = [event async for event in Agent(Slow()).run_stream("Hi")]
    shown = [event for event in events if isinstance(event, ModelProgress)]
    words = ["fetching 34 %", "loading", "reading 128 of 450 tokens"]
    assert [event.format() for event in shown] == words
    assert event_to_json(shown[2]) == {
        "type": "ModelProgress",
        "stage": "reading",
        "done": 128,
        "total": 450,
    }


async def test_another_model_may_be_asked_after_progress() -> None:
    agent = Agent(Fallback(Slow(ModelUnreachable("gone")), Slow()))
    assert (await agent.run("Hi")).output == "Hello."


def test_the_page_shows_what_the_model_does_until_it_answers() -> None:
    state = ChatStreamState()
    state.apply(RunStarted("1"))
    titles = []
    for step in STEPS:
        state.apply(ModelProgress(step.stage, step.done, step.total))
        titles += [message["metadata"]["title"] for message in state.render()]
    assert titles == ["Model: fetching 34 %", "Model: loading", "Model: reading 128 of 450 tokens"]
    state.apply(TextDelta("Hello."))
    (shown,) = state.render()
    assert "<p>Hello.</p>" in str(shown["content"])


def test_a_plan_is_not_shown_as_thinking() -> None:
    plan = "a = price('tea'); answer = mul(3, a)"
    assert render_thinking(plan)["metadata"]["title"] == "Plan"
    assert render_thinking("I wonder.")["metadata"]["title"] == "Thinking"
    thinking = ThinkingText()
    thinking.add(plan)
    assert thinking.summary == f"plan: {plan}"


def test_the_time_before_thinking_does_not_count_as_thinking() -> None:
    thinking = ThinkingText()
    thinking.add("Hm.")
    assert thinking.summary == "thought for 0 ms: Hm."

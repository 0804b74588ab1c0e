from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from agentcall import ToolRegistry, tool
from agentcall.dialects.dialect import DialectReader, PromptSpec, RequestPrelude, ToolChoice
from agentcall.dialects.native import NativeDialect
from agentcall.errors import ModelRefused, UsageError
from agentcall.messages import Assistant, Message, System, Transcript, User
from agentcall.models.adaptations import LearnedAdaptations
from agentcall.models.chat_completions import RequestEncoder
from agentcall.models.model import ModelRequest
from agentcall.settings import ModelSettings


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


ADD = tuple(ToolRegistry(add))


@dataclass(frozen=True)
class Stopping(NativeDialect):
    """A dialect with stop words of its own."""

    words: tuple[str, ...] = ("<|im_end|>",)
    name: str = field(default="stopping", kw_only=True)

    def create_prelude(self, prompt: PromptSpec, tool_choice: ToolChoice) -> RequestPrelude:
        return RequestPrelude((), {"stop": list(self.words)})

    def render(self, message: Message, before: Sequence[Message]) -> Sequence[dict[str, Any]]:
        return NativeDialect().render(message, before)

    def create_reader(self, prompt: PromptSpec) -> DialectReader:
        return NativeDialect().create_reader(prompt)


def sent(settings: ModelSettings | None = None, *messages: Message, **options: Any) -> Any:
    request = ModelRequest(
        Transcript(messages or (User("hi"),)), options.pop("prompt", PromptSpec()), **options
    )
    return orjson.loads(
        RequestEncoder(settings or ModelSettings()).encode("m", NativeDialect(), request)
    )


def test_the_least_request_is_a_model_and_messages() -> None:
    assert sent() == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_instructions_come_first() -> None:
    messages = sent(prompt=PromptSpec("Be kind."))["messages"]
    assert messages == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hi"},
    ]


def test_instructions_alone_are_a_request() -> None:
    request = ModelRequest(Transcript(), PromptSpec("Be kind."))
    body = orjson.loads(RequestEncoder(ModelSettings()).encode("m", NativeDialect(), request))
    assert len(body["messages"]) == 1


def test_messages_come_last() -> None:
    settings = ModelSettings(temperature=0.1, extra_body={"zzz": 1})
    body = sent(settings, prompt=PromptSpec("x", ADD), stream=True)
    assert next(reversed(body)) == "messages"


def test_a_stream_asks_for_its_usage_unless_that_was_refused() -> None:
    bodies, request = (
        RequestEncoder(ModelSettings()),
        ModelRequest(Transcript([User("hi")]), PromptSpec(), "auto", True),
    )
    full = orjson.loads(bodies.encode("m", NativeDialect(), request))
    assert full["stream_options"] == {"include_usage": True}
    refused = ModelRefused("no", status=400, body="unknown field: stream_options")
    learned = LearnedAdaptations().learn(refused, full, ())
    assert learned is not None
    body = orjson.loads(bodies.encode("m", NativeDialect(), request, (learned,)))
    assert "stream_options" not in body
    assert body["stream"] is True


def test_a_request_begins_with_the_bytes_of_the_one_before() -> None:
    bodies, transcript, offer = (
        RequestEncoder(ModelSettings()),
        Transcript([User("世界")]),
        PromptSpec("x", ADD),
    )
    first = bodies.encode("m", NativeDialect(), ModelRequest(transcript, offer))
    transcript.append(Assistant("你好"))
    transcript.append(User("再见"))
    second = bodies.encode("m", NativeDialect(), ModelRequest(transcript, offer))
    assert second.startswith(first.removesuffix(b"]}"))
    assert "再见".encode() in second


@pytest.mark.parametrize(
    ("stop", "expected"),
    [((), ["<|im_end|>"]), (("END",), ["<|im_end|>", "END"]), (("<|im_end|>",), ["<|im_end|>"])],
)
def test_stop_words_add_up(stop: tuple[str, ...], expected: list[str]) -> None:
    request = ModelRequest(Transcript([User("hi")]), PromptSpec())
    body = RequestEncoder(ModelSettings(stop=stop)).encode("m", Stopping(), request)
    assert orjson.loads(body)["stop"] == expected


def test_one_stop_word_may_be_a_text() -> None:
    request = ModelRequest(Transcript([User("hi")]), PromptSpec())
    body = RequestEncoder(ModelSettings(stop="END")).encode("m", Stopping(), request)
    assert orjson.loads(body)["stop"] == ["<|im_end|>", "END"]


def test_dialects_of_one_name_do_not_mix() -> None:
    bodies, transcript = RequestEncoder(ModelSettings()), Transcript([User("hi")])
    request = ModelRequest(transcript, PromptSpec())
    stops = [
        orjson.loads(bodies.encode("m", Stopping((word,)), request))["stop"] for word in ("A", "B")
    ]
    assert stops == [["A"], ["B"]]


def test_the_choice_goes_with_the_tools() -> None:
    assert sent(prompt=PromptSpec("", ADD), tool_choice="none")["tool_choice"] == "none"
    assert "tool_choice" not in sent(prompt=PromptSpec("", ADD))
    assert "tool_choice" not in sent(tool_choice="none")


def test_heads_of_many_offers_are_not_all_kept() -> None:
    bodies = RequestEncoder(ModelSettings(), capacity=3)
    for number in range(9):
        request = ModelRequest(Transcript([System("x")]), PromptSpec(str(number)))
        assert str(number).encode() in bodies.encode("m", NativeDialect(), request)
    assert len(bodies._heads) == 3


@pytest.mark.parametrize("name", ["model", "messages", "stream", "stream_options"])
def test_settings_do_not_take_what_is_the_requests(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        ModelSettings(extra_body={name: 1})

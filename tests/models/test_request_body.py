from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from agentcall import ToolRegistry, tool
from agentcall.dialects.native import Native
from agentcall.dialects.protocol import Choice, Offer, Opening, Reader
from agentcall.errors import UsageError
from agentcall.messages import Assistant, Message, System, User
from agentcall.models.body import BodyWriter
from agentcall.models.protocol import Request, Settings
from agentcall.transcript import Transcript


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


ADD = tuple(ToolRegistry(add))


@dataclass(frozen=True)
class Stopping(Native):
    """A dialect with stop words of its own."""

    words: tuple[str, ...] = ("<|im_end|>",)
    name: str = field(default="stopping", kw_only=True)

    def offer(self, offer: Offer, choice: Choice) -> Opening:
        return Opening((), {"stop": list(self.words)})

    def render(self, message: Message, before: Sequence[Message]) -> Sequence[dict[str, Any]]:
        return Native().render(message, before)

    def reader(self, offer: Offer) -> Reader:
        return Native().reader(offer)


def sent(settings: Settings | None = None, *messages: Message, **options: Any) -> Any:
    request = Request(
        Transcript(messages or (User("hi"),)), options.pop("offer", Offer()), **options
    )
    return orjson.loads(BodyWriter(settings or Settings()).body("m", Native(), request))


def test_the_least_request_is_a_model_and_messages() -> None:
    assert sent() == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_instructions_come_first() -> None:
    messages = sent(offer=Offer("Be kind."))["messages"]
    assert messages == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hi"},
    ]


def test_instructions_alone_are_a_request() -> None:
    request = Request(Transcript(), Offer("Be kind."))
    body = orjson.loads(BodyWriter(Settings()).body("m", Native(), request))
    assert len(body["messages"]) == 1


def test_messages_come_last() -> None:
    settings = Settings(temperature=0.1, extra={"zzz": 1})
    body = sent(settings, offer=Offer("x", ADD), stream=True)
    assert next(reversed(body)) == "messages"


def test_a_stream_asks_for_its_usage_unless_that_was_refused() -> None:
    bodies, request = (
        BodyWriter(Settings()),
        Request(Transcript([User("hi")]), Offer(), "auto", True),
    )
    assert orjson.loads(bodies.body("m", Native(), request))["stream_options"] == {
        "include_usage": True
    }
    bodies.counts_streams = False
    body = orjson.loads(bodies.body("m", Native(), request))
    assert "stream_options" not in body
    assert body["stream"] is True


def test_a_request_begins_with_the_bytes_of_the_one_before() -> None:
    bodies, transcript, offer = BodyWriter(Settings()), Transcript([User("世界")]), Offer("x", ADD)
    first = bodies.body("m", Native(), Request(transcript, offer))
    transcript.append(Assistant("你好"))
    transcript.append(User("再见"))
    second = bodies.body("m", Native(), Request(transcript, offer))
    assert second.startswith(first.removesuffix(b"]}"))
    assert "再见".encode() in second


@pytest.mark.parametrize(
    ("stop", "expected"),
    [((), ["<|im_end|>"]), (("END",), ["<|im_end|>", "END"]), (("<|im_end|>",), ["<|im_end|>"])],
)
def test_stop_words_add_up(stop: tuple[str, ...], expected: list[str]) -> None:
    request = Request(Transcript([User("hi")]), Offer())
    body = BodyWriter(Settings(stop=stop)).body("m", Stopping(), request)
    assert orjson.loads(body)["stop"] == expected


def test_one_stop_word_may_be_a_text() -> None:
    request = Request(Transcript([User("hi")]), Offer())
    body = BodyWriter(Settings(extra={"stop": "END"})).body("m", Stopping(), request)
    assert orjson.loads(body)["stop"] == ["<|im_end|>", "END"]


def test_dialects_of_one_name_do_not_mix() -> None:
    bodies, transcript = BodyWriter(Settings()), Transcript([User("hi")])
    request = Request(transcript, Offer())
    stops = [
        orjson.loads(bodies.body("m", Stopping((word,)), request))["stop"] for word in ("A", "B")
    ]
    assert stops == [["A"], ["B"]]


def test_the_choice_goes_with_the_tools() -> None:
    assert sent(offer=Offer("", ADD), choice="none")["tool_choice"] == "none"
    assert "tool_choice" not in sent(offer=Offer("", ADD))
    assert "tool_choice" not in sent(choice="none")


def test_heads_of_many_offers_are_not_all_kept() -> None:
    bodies = BodyWriter(Settings(), kept=3)
    for number in range(9):
        request = Request(Transcript([System("x")]), Offer(str(number)))
        assert str(number).encode() in bodies.body("m", Native(), request)
    assert len(bodies._heads) == 3


@pytest.mark.parametrize("name", ["model", "messages", "stream", "stream_options"])
def test_settings_do_not_take_what_is_the_requests(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Settings(extra={name: 1})

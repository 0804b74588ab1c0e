from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from agentcall.messages import JSON, Message, Transcript, User, to_json


def render(message: Message, before: Sequence[Message]) -> Iterable[dict[str, JSON]]:
    return [{**to_json(message), "place": len(before)}]


def twice(message: Message, before: Sequence[Message]) -> Iterable[dict[str, JSON]]:
    return [to_json(message), to_json(message)]


def test_what_was_encoded_is_the_beginning_of_what_is_encoded_next() -> None:
    transcript = Transcript([User("一")])
    first = transcript.encode("x", render)
    transcript.append(User("two"))
    second = transcript.encode("x", render)
    assert second.startswith(first)
    assert "一".encode() in first
    assert [m["place"] for m in json.loads(b"[" + second + b"]")] == [0, 1]


def test_each_message_is_rendered_once_for_each_way_of_writing() -> None:
    seen: list[Message] = []

    def watched(message: Message, before: Sequence[Message]) -> Iterable[dict[str, JSON]]:
        seen.append(message)
        return render(message, before)

    transcript = Transcript([User("a")])
    transcript.encode("x", watched)
    transcript.append(User("b"))
    transcript.encode("x", watched)
    transcript.encode("x", watched)
    assert seen == [User("a"), User("b")]
    assert transcript.encode("y", twice).count(b'"a"') == 2


def test_a_transcript_is_a_collection_that_grows() -> None:
    transcript = Transcript()
    assert len(transcript) == 0
    transcript.append(User("a"))
    assert list(transcript) == [User("a")]
    assert len(transcript) == 1


@given(st.lists(st.text(), max_size=5))
def test_any_text_at_all_can_be_encoded(texts: list[str]) -> None:
    transcript = Transcript(map(User, texts))
    assert len(json.loads(b"[" + transcript.encode("x", render) + b"]")) == len(texts)


def test_many_messages_cost_no_more_than_their_number() -> None:
    transcript = Transcript([User("hi")] * 60_000)
    began = time.process_time()
    transcript.encode("x", render)
    assert time.process_time() - began < 10  # 21 s of copying, were each given what is before it


def test_what_is_before_a_message_is_what_was_said_before_it() -> None:
    said: list[Message] = [User(str(number)) for number in range(5)]
    seen: list[tuple[Message, ...]] = []

    def watched(message: Message, before: Sequence[Message]) -> Iterable[dict[str, JSON]]:
        seen.append(tuple(before))
        return [to_json(message)]

    transcript = Transcript(said[:2])
    transcript.encode("x", watched)
    for message in said[2:]:
        transcript.append(message)
    transcript.encode("x", watched)
    assert seen == [tuple(said[:number]) for number in range(5)]

"""Calls inside thinking never run, no matter who wrote the tag that opens it."""

from __future__ import annotations

from typing import Any

import pytest
from rows import each_row
from tool_call_formats import FORMATS

from agentcall import Agent, tool
from agentcall.dialects.answer_parts import MalformedCallPart, MessageDelta, TextPart, ToolCallPart
from agentcall.dialects.constrained.parser import ConstrainedReader
from agentcall.dialects.dialect import PromptSpec
from agentcall.dialects.native import NativeReader
from agentcall.dialects.parsers.families import TOOL_PARSERS
from agentcall.dialects.parsers.response_parser import (
    ParsedResponse,
    RetractedPart,
    collect_parts,
    create_text_reader,
    read_text,
)
from agentcall.events import AnswerDiscarded, Event, RunFinished, TextDelta, ThinkingDelta
from agentcall.models.http_chat import HTTPChat
from agentcall.result import RunResult
from agentcall.testing import FakeServer, Reply, ScriptedModel, call, say

TOOLS = ["wipe", "add", "write_file"]
ADD = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
WIPE = '<tool_call>{"name": "wipe", "arguments": {}}</tool_call>'
NOTE = '<tool_call>{"name": "write_file", "arguments": {"text": "a</think>b<think>c"}}</tool_call>'
ADDED = (ToolCallPart("add", '{"a": 1}'),)
NOTED = (ToolCallPart("write_file", '{"text": "a</think>b<think>c"}'),)
PAIRS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<reasoning>", "</reasoning>"),
    ("<Think>", "</Think>"),
    ("<THINK>", "</THINK>"),
    ("<Thinking>", "</Thinking>"),
    ("<THINKING>", "</THINKING>"),
    ("<thought>", "</thought>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<unused94>thought", "<unused95>"),
    ("<|channel>thought", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
]


@tool(name="wipe")
def WIPE_TOOL() -> str:
    """Delete files."""
    return ""


@tool(name="add")
def ADD_TOOL(a: int) -> int:
    """Add."""
    return a


@tool(name="write_file")
def NOTE_TOOL(text: str) -> str:
    """Write."""
    return text


def read_both(text: str) -> ParsedResponse:
    """Read a text, at once and in single characters, which have to agree."""
    reading = read_text(text, TOOLS)
    assert read_text(list(text), TOOLS) == reading
    return reading


def test_every_tag_is_tried_here() -> None:
    known = {tag for family in TOOL_PARSERS for tag in family.thinking}
    assert known == {tag for pair in PAIRS for tag in pair}


# --------------------------------------------------------------------------- calls before an end


@each_row(("opener", "closer"), PAIRS)
def test_a_call_before_an_end_of_thinking_is_none(opener: str, closer: str) -> None:
    thought = f"Perhaps {WIPE} would do, but no."
    for begin in (opener, ""):
        reading = read_both(f"{begin}{thought}{closer}{ADD}")
        assert reading == ParsedResponse("", thought, ADDED)
        assert read_both(f"{begin}{thought}{closer}Done.") == ParsedResponse("Done.", thought)


@each_row("name", sorted(FORMATS))
def test_a_call_of_any_family_before_an_end_of_thinking_is_none(name: str) -> None:
    thought = FORMATS[name]("wipe", {"pattern": "*"})
    for text in (f"Perhaps\n{thought}\nbut no.", f"{thought}\n"):
        for begin in ("<think>", ""):
            reading = read_both(f"{begin}{text}</think>\n\n{ADD}")
            assert (reading.calls, reading.text, reading.broken) == (ADDED, "", ())
            assert "wipe" in reading.thinking


@each_row(
    ("text", "wanted"),
    [
        # begun once more inside
        (f"<think>a<think>b</think>{WIPE} no</think>{ADD}", ("", ADDED)),
        (f"<think>a<think>b</think>{WIPE} no</think>Done.", ("Done.", ())),
        (f"a<think>b</think>{WIPE} no</think>Done.", ("Done.", ())),
        # an end too many
        (f"<think>a</think>{WIPE}</think>{ADD}", ("", ADDED)),
        ("<think>a</think>\n\n</think>\n\nDone.", ("Done.", ())),
        (f"<think>a</think></think>{ADD}", ("", ADDED)),
        (f"{WIPE}</think>", ("", ())),
        # thinking that has ended, and more of it
        (f"<think>a</think>{ADD}<think>b</think>Done.", ("Done.", ADDED)),
        # markup that was spoilt
        (f"<tool_call>{{'name': </tool_call> no</think>{ADD}", ("", ADDED)),
        (f"I write <tool_call> first.</think>{ADD}", ("", ADDED)),
        (f"<think>I write <tool_call> first.</think>{ADD}", ("", ADDED)),
        (f"```json\nno end</think>{ADD}", ("", ADDED)),
    ],
)
def test_ends_of_thinking_that_do_not_match(text: str, wanted: tuple[str, Any]) -> None:
    reading = read_both(text)
    assert (reading.text, reading.calls, reading.broken) == (*wanted, ())


@pytest.mark.parametrize(
    "text",
    [NOTE, f"<think>hm</think>{NOTE}", f"hm</think>{NOTE}", f"<think>{NOTE} no</think>{NOTE}"],
)
def test_an_end_of_thinking_inside_of_arguments_is_a_part_of_them(text: str) -> None:
    reading = read_both(text)
    assert (reading.text, reading.calls, reading.broken) == ("", NOTED, ())


def test_a_call_that_is_thought_of_takes_no_other_call_out_of_its_arguments() -> None:
    inner = f"x</think>{WIPE}".replace('"', '\\"')
    written = f'<tool_call>{{"name": "write_file", "arguments": {{"text": "{inner}"}}}}</tool_call>'
    reading = read_both(f"<think>{written} no</think>{ADD}")
    assert (reading.text, reading.calls) == ("", ADDED)


# --------------------------------------------------------------------------- no end at all


@each_row("finish", ["length", None, "stop"])
@each_row("text", [f"<think>Perhaps {WIPE} would do, but no", f"<think>{WIPE}, then {WIPE} or so"])
def test_a_call_in_thinking_without_end_is_none(text: str, finish: str | None) -> None:
    reader = create_text_reader(TOOLS)
    reading = collect_parts([*reader.feed(text), *reader.close(finish)])
    assert (reading.calls, reading.text) == ((), "")


@pytest.mark.parametrize("finish", ["length", None])
def test_thinking_that_was_cut_after_a_call_runs_none(finish: str | None) -> None:
    reader = create_text_reader(TOOLS)
    reading = collect_parts([*reader.feed(f"<think>So {WIPE}"), *reader.close(finish)])
    assert (reading.calls, reading.thinking) == ((), f"So {WIPE}")


def test_calls_with_which_an_answer_ends_that_never_left_its_thinking_count() -> None:
    reading = read_both(f"<think>Perhaps {WIPE}? No.\n{ADD}\n{ADD}\n")
    assert (reading.calls, reading.thinking) == (ADDED * 2, f"Perhaps {WIPE}? No.")


# --------------------------------------------------------------------------- of the server


def test_calls_in_thinking_that_the_server_took_apart_are_none() -> None:
    for thinking in (f"Perhaps {WIPE} would do, but no.", f"{WIPE} and then?"):
        reader = NativeReader(TOOLS)
        parts = [*reader.feed(MessageDelta(thinking=thinking)), *reader.close("stop")]
        assert not any(isinstance(part, ToolCallPart) for part in parts)
    reader = NativeReader(TOOLS)
    parts = [
        *reader.feed(MessageDelta(thinking=WIPE)),
        *reader.feed(MessageDelta("Done.")),
        *reader.close("stop"),
    ]
    assert not any(isinstance(part, ToolCallPart) for part in parts)


def test_void_parts_are_reported_with_the_tag_that_the_template_wrote() -> None:
    reader = create_text_reader(TOOLS)
    assert reader.feed(f"Hm {WIPE}")[0] == TextPart("Hm ")
    (part,) = reader.feed("[/THINK]")
    assert isinstance(part, RetractedPart)
    assert (part.text, part.opener) == (f"Hm {WIPE}", "[THINK]")


@each_row(
    ("text", "wanted"),
    [
        ("Done.", ParsedResponse("Done.")),
        (ADD, ParsedResponse("", "", ADDED)),
        ('{"name": "add", "parameters": {"a": 1}}', ParsedResponse("", "", ADDED)),
        (f"Hm {WIPE} no.</think>Ok.{ADD}", ParsedResponse("Ok.", f"Hm {WIPE} no.", ADDED)),
        ("<think>Hm.</think>Ok.", ParsedResponse("Ok.", "<think>Hm.")),
        (NOTE, ParsedResponse("", "", NOTED)),
    ],
)
def test_thinking_is_supposed_until_the_answer_shows_that_there_is_none(
    text: str, wanted: ParsedResponse
) -> None:
    for pieces in ([text], list(text)):
        reader = NativeReader(TOOLS)
        reader.assume_thinking("<think>")
        parts = [part for piece in pieces for part in reader.feed(MessageDelta(piece))]
        reading = collect_parts([*parts, *reader.close("stop")])
        assert reading == wanted


def test_a_call_before_text_in_supposed_thinking_without_end_is_reported_to_the_model() -> None:
    reader = create_text_reader(TOOLS, opener="<think>", is_assumed=True)
    reading = collect_parts([*reader.feed(f"Hm {WIPE} no."), *reader.close("stop")])
    assert (reading.calls, len(reading.broken)) == ((), 1)
    assert isinstance(reading.broken[0], MalformedCallPart)


def test_an_object_that_was_only_part_of_thinking_is_not_a_turn_of_the_constrained_dialect() -> (
    None
):
    wiped = '{"name": "wipe", "arguments": {}}'
    added = '{"name": "add", "arguments": {"a": 1}}'
    noted = '{"name": "write_file", "arguments": {"text": "a</think>b<think>c"}}'
    for text, wanted in (
        (f"{wiped} no.</think>\n{added}", ADDED),
        (f"{wiped}</think>\n{added}", ADDED),
        (f"{wiped} no.</think>Done.", ()),
        (noted, NOTED),
    ):
        reader = ConstrainedReader(PromptSpec("", (WIPE_TOOL, ADD_TOOL, NOTE_TOOL)))
        reading = collect_parts([*reader.feed(MessageDelta(text)), *reader.close("stop")])
        assert [(call.name, call.arguments) for call in reading.calls] == [
            (call.name, call.arguments) for call in wanted
        ]


# --------------------------------------------------------------------------- in a run


async def ran_of(stream: bool, *script: Reply) -> tuple[list[str], RunResult[str], list[Event]]:
    """What ran, the result, and the events."""
    ran: list[str] = []

    @tool
    def wipe(pattern: str = "*") -> str:
        """Delete files."""
        ran.append("wipe")
        return "wiped"

    @tool
    def add(a: int = 0) -> int:
        """Add."""
        ran.append("add")
        return a

    with FakeServer(script) as server:
        agent = Agent(HTTPChat(server.url, "m", dialect="native"), tools=[wipe, add])
        if not stream:
            return ran, await agent.run("Go."), []
        events = [event async for event in agent.run_stream("Go.")]
        last = events[-1]
        assert isinstance(last, RunFinished)
        return ran, last.result, events


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("opener", ["", "<think>"])
async def test_a_call_that_is_only_part_of_thinking_never_runs(stream: bool, opener: str) -> None:
    first = say(f"{opener}Perhaps {WIPE} would do, but no.</think>{ADD}")
    ran, result, _ = await ran_of(stream, first, say(f"{opener}Hm {WIPE}</think>It is 1."))
    assert (ran, result.output) == (["add"], "It is 1.")
    assert all("Perhaps" not in getattr(message, "text", "") for message in result.messages)


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_that_the_server_took_apart_runs_nothing(stream: bool) -> None:
    ran, result, _ = await ran_of(stream, say("Done.", thinking=f"Perhaps {WIPE}"))
    assert (ran, result.output) == ([], "Done.")
    again = [say("", thinking=f"Perhaps {WIPE} would do, but no."), say("Done.")]
    ran, result, _ = await ran_of(stream, *again)
    assert (ran, result.output) == ([], "Done.")


async def test_text_that_was_shown_is_taken_back_once_and_then_known_as_thinking() -> None:
    first = say(f"I add, not {WIPE}.</think>{ADD}")
    ran, _, events = await ran_of(True, first, say("It was easy.</think>It is 1."))
    assert ran == ["add"]
    place = next(n for n, event in enumerate(events) if isinstance(event, AnswerDiscarded))
    assert events[place] == AnswerDiscarded("it was thinking")
    assert events[place + 1] == ThinkingDelta(f"I add, not {WIPE}.")
    shown = [event.text for event in events[place:] if isinstance(event, TextDelta)]
    assert "".join(shown) == "It is 1."
    thought = [event.text for event in events[place + 2 :] if isinstance(event, ThinkingDelta)]
    assert "".join(thought) == "It was easy."


async def test_an_answer_without_thinking_is_shown_whole_although_thinking_was_supposed() -> None:
    script = [say(f"Hm.</think>{ADD}"), say("It is 1.")]
    _, result, events = await ran_of(True, *script)
    assert result.output == "It is 1."
    assert [e.text for e in events if isinstance(e, TextDelta)][-1] == "It is 1."
    model = ScriptedModel([say("Hm.</think>One."), say("Two."), say("Three.")])
    agent = Agent(model)
    outputs = [(await agent.run("Go.")).output for _ in range(3)]
    assert outputs == ["One.", "Two.", "Three."]


async def test_native_calls_do_not_depend_on_thinking_in_the_text() -> None:
    ran, result, _ = await ran_of(False, call("add", a=1).replace(text="Hm.</think>"), say("Ok."))
    assert (ran, result.output) == (["add"], "Ok.")

"""Reading the text of an answer: text, thinking, calls, and malformed calls."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

from agentcall import dialects
from agentcall.dialects.answer_parts import (
    MalformedCallPart,
    MessagePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from agentcall.dialects.parsers.families import TOOL_PARSERS
from agentcall.dialects.parsers.response_parser import (
    ParsedResponse,
    RetractedPart,
    create_text_reader,
    list_families,
    read_text,
)
from agentcall.errors import UsageError

TOOLS = ["add", "get_weather"]
CALL = '{"name": "add", "arguments": {"a": 2, "b": 3}}'


def parts(text: str, size: int = 0, finish: str | None = "stop") -> list[MessagePart]:
    reader = create_text_reader(TOOLS)
    pieces = [text[at : at + size] for at in range(0, len(text), size)] if size else [text]
    return [part for piece in pieces for part in reader.feed(piece)] + reader.close(finish)


# --------------------------------------------------------------------------- text stays text


@each_row(
    "text",
    [
        "The tool add(a=2, b=3) adds two numbers.",
        "You can call `add` with a=2.",
        "I could use add here, or get_weather.",
        "Use the `<tool_call>` tag to call a tool.",
        "Each turn ends with `<|im_end|>`, as in ChatML.",
        "The <tool_call> tag is what Qwen writes.",
        '{"capital": "Paris", "name": "x"}',
        '{"a": 1} is a dict',
        "{}",
        "[]",
        "[1, 2]",
        "[link](https://example.org) and [add] and {braces}",
        '```json\n{"city": "Paris"}\n```\nis an example.',
        '```json\n{"name": "other_tool", "arguments": {}}\n```',
        "```python\n[add(a=2, b=3)]\n```\nis Python.",
        '```python\n{"name": "add", "arguments": {}}\n```',
        '{"name": "add"}',
        '{"name": "add", "age": 3}',
        '{"name": "dance", "arguments": {"a": 1}}',
        f"{CALL} would add them.",
        f"For example {CALL} adds.",
        "[add(a=2)] is a list",
        "[dance(a=2)]",
        "Action: we must act now.\nThen rest.",
        "Thought: a noble thing.\nIt ends here.",
        "Final Answer: 42",
        "a < b and c > d, x <= y, <b>bold</b>, </s>",
        "  leading and trailing  \n\n",
        "\n",
        " ",
        "",
        "Inspection, Action, Thinking. A T F * ` { [ <",
    ],
)
def test_text_that_is_not_a_call_comes_out_whole(text: str) -> None:
    for size in (0, 1, 2, 7):
        reader = create_text_reader(TOOLS)
        pieces = [text[at : at + size] for at in range(0, len(text), size)] if size else [text]
        found = [part for piece in pieces for part in reader.feed(piece)] + reader.close("stop")
        assert all(isinstance(part, TextPart) for part in found)
        assert "".join(part.text for part in found if isinstance(part, TextPart)) == text


@given(st.text(st.characters(exclude_characters="<[{`(◁")).filter(lambda text: "to=" not in text))
def test_any_text_without_markup_comes_out_whole(text: str) -> None:
    plain = text.replace("Action", "").replace("Thought", "").replace("functools", "")
    assert read_text(plain, TOOLS) == ParsedResponse(plain)


SOUP = st.lists(
    st.sampled_from(
        [
            *[
                marker
                for one in TOOL_PARSERS
                for marker in (*one.markers, *one.thinking, *one.ignored_tokens)
            ],
            *("</function>", "</parameter>", "<parameter=a>", "<arg_key>", "</arg_key>", "<|sep|>"),
            *("<arg_value>", "</arg_value>", "[ARGS]", "<|message|>", "to=functions.add", "```"),
            *("```json\n", "```tool_code\n", "add", "(a=1)", "[add(", ")]", "{", "}", "[", "]"),
            *('"', "'", "\\", ":", ",", " ", "\n", "name", '"name": "add"', '"arguments": {}'),
            *(CALL, "Action: add\n", "Action Input: ", "Thought: ", "Final Answer: ", "call:add"),
            *(
                "<｜tool▁sep｜>",
                "<|tool_call_argument_begin|>",
                "Observation: ",
                "x",
                "é",
                "<",
                "|",
            ),
        ]
    ),
    max_size=14,
).map("".join)


def joined(found: list[MessagePart]) -> list[tuple[str, ...]]:
    together: list[tuple[str, ...]] = []
    for part in found:
        match part:
            case TextPart(text) | ThinkingPart(text):
                kind = type(part).__name__
                if together and together[-1][0] == kind:
                    together[-1] = (kind, together[-1][1] + text)
                else:
                    together.append((kind, text))
            case ToolCallPart(name, arguments, id):
                together.append(("ToolCallPart", name, arguments, id))
            case MalformedCallPart(text, reason):
                together.append(("MalformedCallPart", text, reason))
    return together


@given(SOUP, st.sampled_from([1, 2, 3, 5]), st.sampled_from(["stop", "length", None]))
@settings(max_examples=800, deadline=None)
def test_no_text_raises_and_cutting_it_elsewhere_changes_nothing(
    text: str, size: int, finish: str | None
) -> None:
    assert joined(parts(text, size, finish)) == joined(parts(text, 0, finish))


@given(SOUP, st.sampled_from([one.name for one in TOOL_PARSERS]))
@settings(max_examples=300, deadline=None)
def test_no_family_alone_raises(text: str, family: str) -> None:
    assert read_text(list(text), TOOLS, family) == read_text(text, TOOLS, family)


# --------------------------------------------------------------------------- streaming


def test_plain_prose_is_given_at_once() -> None:
    reader = create_text_reader(TOOLS)
    for piece in ("Hello", " there", ".\n", "How", " are you", "?\n\n", "1) fine", " "):
        assert reader.feed(piece) == [TextPart(piece)]


def test_text_is_held_back_only_while_it_could_be_markup() -> None:
    reader = create_text_reader(TOOLS)
    assert reader.feed("a <") == [TextPart("a ")]
    assert reader.feed("tool") == []
    assert reader.feed("box>") == [TextPart("<toolbox>")]


def test_a_json_answer_streams() -> None:
    reader = create_text_reader(TOOLS)
    assert reader.feed('{"capital"') == [TextPart('{"capital"')]
    assert reader.feed(': "Par') == [TextPart(': "Par')]


def test_a_call_comes_out_as_soon_as_its_end_is_seen() -> None:
    reader = create_text_reader(TOOLS)
    assert reader.feed(f"<tool_call>{CALL}") == []
    assert [type(part) for part in reader.feed("</tool_call>")] == [ToolCallPart]


# --------------------------------------------------------------------------- thinking


@each_row(
    ("text", "thinking", "said"),
    [
        ("<think>\nHm.\n</think>\n\nHello", "Hm.", "Hello"),
        ("<think></think>Hello", "", "Hello"),
        ("Hm.</think>Hello", "Hm.", "Hello"),
        ("[THINK]Hm.[/THINK]Hello", "Hm.", "Hello"),
        ("<|channel>thought\nHm.<channel|>Hello", "Hm.", "Hello"),
        ("Say `<think>` to think.", "", "Say `<think>` to think."),
        ("a<think>b</think>c<think>d</think>e", "bd", "ace"),
    ],
)
def test_thinking_is_separated(text: str, thinking: str, said: str) -> None:
    for pieces in ([text], list(text)):
        assert read_text(pieces, TOOLS) == ParsedResponse(said, thinking)


def test_thinking_streams() -> None:
    reader = create_text_reader(TOOLS)
    assert reader.feed("<think>Hm, so") == [ThinkingPart("Hm, so")]


def test_text_that_turns_out_to_be_thinking_is_taken_back() -> None:
    reader = create_text_reader(TOOLS)
    assert reader.feed("I think. ") == [TextPart("I think. ")]
    assert reader.feed("</think>Hi") == [RetractedPart("I think."), TextPart("Hi")]


def test_an_opening_that_the_template_wrote_is_known() -> None:
    reader = create_text_reader(TOOLS, opener="<think>\n")
    assert reader.feed("I think.") == [ThinkingPart("I think.")]


def test_a_call_inside_of_thinking_is_thinking() -> None:
    text = f"<think>Try <tool_call>{CALL}</tool_call> now.</think>Done."
    reading = read_text(text, TOOLS)
    assert (reading.calls, reading.text) == ((), "Done.")
    assert reading.thinking == f"Try <tool_call>{CALL}</tool_call> now."


def test_a_call_counts_if_the_model_never_leaves_its_thinking() -> None:
    text = f"<think>I call.\n<tool_call>{CALL}</tool_call>"
    assert len(read_text(text, TOOLS).calls) == 1
    assert not any(isinstance(part, ToolCallPart) for part in parts(text, 0, "length"))


# --------------------------------------------------------------------------- calls


def test_a_marked_call_of_an_unknown_tool_is_returned_so_that_the_model_can_be_informed() -> None:
    text = '<tool_call>{"name": "dance", "arguments": {}}</tool_call>'
    assert read_text(text, TOOLS).calls == (ToolCallPart("dance", "{}"),)


@pytest.mark.parametrize("name", ["Add", "functions.add", "default_api.add", "ADD"])
def test_a_name_in_another_spelling_counts_and_is_given_as_written(name: str) -> None:
    text = json.dumps({"name": name, "arguments": {"a": 2}})
    assert read_text(text, TOOLS).calls == (ToolCallPart(name, '{"a": 2}'),)


def test_arguments_are_returned_as_written_so_that_repair_can_be_seen() -> None:
    text = "<tool_call>{'name': 'add', 'arguments': {'a': True,}}</tool_call>"
    assert read_text(text, TOOLS).calls == (ToolCallPart("add", "{'a': True,}"),)


def test_arguments_inside_of_a_string_come_out_of_it() -> None:
    text = '<tool_call>{"name": "add", "arguments": "{\\"a\\": 2}"}</tool_call>'
    assert read_text(text, TOOLS).calls == (ToolCallPart("add", '{"a": 2}'),)


def test_an_id_is_kept() -> None:
    text = f'[{{"id": "c1", "type": "function", "function": {CALL}}}]'
    assert read_text(text, TOOLS).calls == (ToolCallPart("add", '{"a": 2, "b": 3}', "c1"),)


@pytest.mark.parametrize("finish", ["stop", "length", None])
def test_a_call_that_was_cut_is_malformed(finish: str | None) -> None:
    found = parts('Hi <tool_call>{"name": "add", "arguments": {"a": 2', 0, finish)
    assert [type(part) for part in found] == [TextPart, MalformedCallPart]


def test_a_call_that_lacks_a_bracket_is_malformed_and_the_text_after_is_kept() -> None:
    reading = read_text('<tool_call>{"name": "add", "arguments": {"a": 2}</tool_call> ok', TOOLS)
    assert (reading.calls, len(reading.broken), reading.text) == ((), 1, " ok")


def test_bare_json_that_was_cut_after_an_offered_name_is_malformed() -> None:
    reading = read_text('{"name": "add", "arguments": {"a": 2', TOOLS)
    assert (reading.calls, reading.text, len(reading.broken)) == ((), "", 1)


def test_without_tools_nothing_soft_is_a_call() -> None:
    assert read_text(CALL, []) == ParsedResponse(CALL)


def test_a_call_behind_text_on_the_line_before_counts() -> None:
    assert len(read_text(f"I will add:\n{CALL}", TOOLS).calls) == 1


# --------------------------------------------------------------------------- face


def test_an_unknown_family_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'klingon'.*internlm.*hermes"):
        create_text_reader(TOOLS, "klingon")


def test_a_named_family_reads_nothing_else() -> None:
    assert read_text(f"[TOOL_CALLS] [{CALL}]", TOOLS, "hermes").calls == ()
    assert "hermes" in list_families()


def test_the_package_gives_the_face() -> None:
    assert dialects.read_text(f"<tool_call>{CALL}</tool_call>", TOOLS).calls


# --------------------------------------------------------------------------- time

LONG = "x = \"he said\" \\ 'it' </tool_call>\n" * 6000


QUOTES = json.dumps({"t": '"' * 90_000})


@each_row(
    "text",
    [
        f'<tool_call>{{"name": "add", "arguments": {json.dumps({"t": LONG})}}}</tool_call>',
        f'<tool_call>{{"name": "add", "arguments": {QUOTES}}}</tool_call>',
        f"<tool_call><function=add><parameter=t>\n{LONG}\n</parameter></function></tool_call>",
        f"[add(t={LONG!r})]",
        f'<|tool_call>call:add{{t:<|"|>{LONG}<|"|>}}<tool_call|>',
        "{\n" * 20_000,
        "<tool_call>" * 18_000,
        '{"arguments":\n' * 14_000,
        "\n" * 200_000,
    ],
    ids=["hermes", "quotes", "qwen", "pythonic", "gemma", "braces", "tags", "nested", "lines"],
)
def test_time_grows_with_the_text_and_no_faster(text: str) -> None:
    began = time.process_time()
    parts(text, 3)
    assert time.process_time() - began < 2

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from agentcall.testing import FakeServer
from benchmarks.robustness import canitoolcall_readers, page, probe, results
from benchmarks.robustness.canitoolcall_readers import (
    Fixture,
    OfferedTool,
    find_problem,
    is_equal,
    parse_arguments,
    read_answer,
    read_by_regex,
)
from benchmarks.robustness.section import END, PAGE, Section

ADD = OfferedTool("add", {"type": "object", "properties": {"a": {"type": "integer"}}})
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "add", "parameters": dict(ADD.parameters)},
}


def fixture(raw: str, **fields: Any) -> Fixture:
    record = {"family": "qwen3-hermes", "tools": [TOOL], "tags": [], "raw_output": raw, **fields}
    return Fixture(record, "")


def expecting(raw: str, *calls: dict[str, Any], content: str = "") -> Fixture:
    expected = {"tool_calls": list(calls), "content": content, "reasoning_content": None}
    return fixture(raw, expected=expected)


# --- the page ---


def test_the_tables_of_the_battery_are_those_of_the_results(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text("utf-8"), "utf-8")
    page.write_page(results.load_records(), copy)
    assert copy.read_text("utf-8") == PAGE.read_text("utf-8")


@pytest.mark.parametrize("section", [canitoolcall_readers.SECTION, probe.SECTION])
def test_a_section_of_the_page_is_generated_by_the_command_that_it_names(
    section: Section, tmp_path: Path
) -> None:
    copy = tmp_path / "page.md"
    before = PAGE.read_text("utf-8")
    copy.write_text(before, "utf-8")
    section.write("| the table |", copy)
    after = copy.read_text("utf-8")
    assert f"{section.begin}\n\n| the table |\n\n{END}" in after
    assert after.count(END) == before.count(END) == 3


def test_a_page_without_the_markers_is_left_alone(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text("# A page\n", "utf-8")
    with pytest.raises(ValueError, match="has no lines '<!-- begin: made by make it -->'"):
        Section("make it").write("text", copy)
    assert copy.read_text("utf-8") == "# A page\n"


# --- the figures of the parsers ---


def test_an_answer_counts_if_calls_content_and_thinking_are_right() -> None:
    raw = 'Now.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    right = expecting(raw, {"name": "add", "arguments": {"a": 1}}, content="Now.")
    reading = read_answer(right, raw, None)
    assert find_problem(right, reading) == ""
    assert "content" in find_problem(right, reading, strict=True)  # there is a line break after it
    assert "content" in find_problem(
        expecting(raw, {"name": "add", "arguments": {"a": 1}}), reading
    )
    other = expecting(raw, {"name": "add", "arguments": {"a": True}}, content="Now.")
    assert "calls" in find_problem(other, reading)


def test_arguments_are_compared_as_json_at_every_depth() -> None:
    assert is_equal({"a": [1, {"b": 2}]}, {"a": [1.0, {"b": 2}]})
    assert not is_equal({"a": [1]}, {"a": [True]})
    assert not is_equal({"a": 1}, {"a": 1, "b": 2})
    assert not is_equal([1], [1, 2])
    assert not is_equal({"a": 3}, {"a": "3"})
    assert parse_arguments('{"a": NaN}') == '{"a": NaN}'
    assert parse_arguments('{"a": 1, "a": 2}') == '{"a": 1, "a": 2}'


def test_a_call_from_an_answer_without_one_is_wrong() -> None:
    raw = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    cut = fixture(raw, expected_error={"accept": ["no_tool_calls"]})
    assert "a call in an answer that has none" in find_problem(cut, read_answer(cut, raw, None))
    assert not read_by_regex(cut)


def test_the_regex_of_tutorials_reads_tagged_json_and_nothing_else() -> None:
    call = {"name": "add", "arguments": {"a": 1}}
    assert read_by_regex(
        expecting('<tool_call>\n{"name": "add", "arguments": {"a": 1}}</tool_call>', call)
    )
    assert read_by_regex(expecting("no call"))
    assert not read_by_regex(expecting('{"name": "add", "arguments": {"a": 1}}', call))


# --- the probe ---


def asked(question: str, *names: str, stream: bool = False) -> str:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    messages = [{"role": "user", "content": question}]
    body = {"model": "m", "messages": messages, "tools": tools, "stream": stream}
    with FakeServer(probe.answer_by_rules) as server:
        return httpx.post(f"{server.url}/chat/completions", json=body, timeout=5).text


def test_the_right_model_calls_only_what_is_offered() -> None:
    assert '"name":"get_weather"' in asked("The weather in Paris?", "get_weather")
    assert "There is no tool for it." in asked("The weather in Paris?", "add")
    assert "I do not know." in asked("Who are you?", "get_weather")


def test_a_call_with_more_optional_arguments_is_still_right() -> None:
    right = probe.ParsedCall("get_weather", {"city": "Paris"})
    assert probe.ParsedCall("get_weather", {"city": "Paris", "unit": "c"}).includes(right)
    assert not probe.ParsedCall("get_weather", {"city": "Oslo"}).includes(right)
    assert not probe.ParsedCall("weather", {"city": "Paris"}).includes(right)


def test_a_fenced_call_in_the_text_is_read_and_a_native_one_comes_first() -> None:
    text = '```json\n{"name": "add", "arguments": {"a": 1}}\n```'
    native = [{"name": "add", "arguments_raw": '{"a": 2}'}]
    said: dict[str, Any] = {"content": text, "tool_calls": []}
    assert probe.ProbeOutcome("s", "plain", "fail", said).parse_calls([ADD]) == [
        probe.ParsedCall("add", {"a": 1})
    ]
    both = probe.ProbeOutcome("s", "plain", "pass", {**said, "tool_calls": native})
    assert both.parse_calls([ADD]) == [probe.ParsedCall("add", {"a": 2})]

"""Text as Markdown that does nothing, and a conversation as bubbles."""

from __future__ import annotations

import pytest

from agentcall.events import (
    AnswerDiscarded,
    ApprovalRequested,
    Nested,
    TextDelta,
    ThinkingDelta,
    ToolCallFinished,
    ToolCallRefused,
    ToolCallRepaired,
    ToolCallStarted,
)
from agentcall.messages import Assistant, Image, Text, ToolCall, ToolResult, Usage, User
from agentcall.session import KeptRun
from agentcall.web.bubbles import Marks, history, question
from agentcall.web.inert import inert, literal
from agentcall.web.live import Live

ADD = ToolCall("c1", "add", '{"a": 3, "b": 5}')


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("<b>x</b> & *y*", r"&lt;b\>x&lt;\/b\> &amp; \*y\*"),
        ("    code", "&nbsp;&nbsp;&nbsp;&nbsp;code"),
        ("http://evil.example", r"http\:\/\/evil\.example"),
        ("上海 $$x$$\x1b[31m", r"上海 \$\$x\$\$"),
    ],
)
def test_a_literal_text_has_no_marks(text: str, made: str) -> None:
    assert literal(text) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("**bold** and a < b", "**bold** and a < b"),
        ("<b>x</b><!-- y -->", "&lt;b>x&lt;/b>&lt;!-- y -->"),
        (r"\<b>", "&lt;b>"),
        ("![p](http://evil.example)", r"\![p](http://evil.example)"),
        ("`<b>` and <b>", "`<b>` and &lt;b>"),
        ("``a ` <b>`` <i>", "``a ` <b>`` &lt;i>"),
        ("```html\n<b>\n```\n<i>", "```html\n<b>\n```\n&lt;i>"),
        ("````\n```\n<b>\n````\n<i>", "````\n```\n<b>\n````\n&lt;i>"),
        ("~~~\n<b>\n~~~\n<i>", "~~~\n<b>\n~~~\n&lt;i>"),
        ("```\n<b> is not closed", "```\n<b> is not closed"),
        ("a ` alone\n\n<b>`", "a ` alone\n\n&lt;b>`"),
        ("``` no fence ``` <b>", "``` no fence ``` &lt;b>"),
        (r"\`<b>\`", r"\`&lt;b>\`"),
        ("```cpp\nf<T>();\n```", "```c\nf<T>();\n```"),
        ("```cppx\n```", "```cppx\n```"),
    ],
)
def test_an_answer_keeps_its_markdown_and_its_code_but_no_tags(text: str, made: str) -> None:
    assert inert(text) == made


def test_a_long_text_of_ticks_is_read_at_once() -> None:
    text = "a `b " * 20_000 + "<i>"
    assert inert(text).endswith("&lt;i>")


def _kept(*messages: User | Assistant | ToolResult, run: str = "r1") -> KeptRun:
    return KeptRun(run, 0.0, "agent", "final", Usage(), messages)


def test_a_history_shows_calls_with_their_results() -> None:
    run = _kept(
        User("3+5?"),
        Assistant("", (ADD,), thinking="Let me add."),
        ToolResult("c1", "add", "8"),
        Assistant("It is **8**."),
    )
    shown = history([run], Marks(seconds={("r1", "c1"): 0.25}))
    assert [each["role"] for each in shown] == ["user", *["assistant"] * 3]
    assert shown[1]["metadata"] == {"title": "Thinking", "status": "done"}
    metadata = shown[2]["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["title"] == r"✓ add\(a\=3\, b\=5\)"
    assert metadata["log"] == "250 ms"
    assert shown[3]["content"] == "It is **8**."


def test_a_call_with_the_same_id_in_another_run_is_another_one() -> None:
    runs = [
        _kept(User("x"), Assistant("", (ADD,)), ToolResult("c1", "add", "8"), run=run)
        for run in ("r1", "r2")
    ]
    assert len(history(runs, Marks(hidden={("r2", "c1")}))) == 3
    shown = history(runs, Marks(waiting={("r2", "c1")}))
    assert [str(each["content"]).count("Result") for each in shown] == [0, 1, 0, 0]


def test_an_image_of_a_question_is_shown_only_if_it_is_in_it() -> None:
    own, strange = "data:image/png;base64,AAAA", "https://evil.example/x.png"
    shown = str(question((Text("a *b*"), Image(own), Image(strange)))["content"])
    assert f"![]({own})" in shown
    assert "https\\:" in shown
    assert strange not in shown


def test_a_result_with_fences_stays_in_its_own() -> None:
    run = _kept(Assistant("", (ADD,)), ToolResult("c1", "add", "```\n</pre><b>x</b>\n````\ny"))
    content = str(history([run], Marks())[0]["content"])
    assert content.endswith("`````\n```\n</pre><b>x</b>\n````\ny\n`````")


def test_a_live_run_grows_by_its_events() -> None:
    live = Live()
    assert _titles(live) == ["The model is asked"]
    live.see(ThinkingDelta("hm"))
    live.see(TextDelta("I "))
    live.see(TextDelta("add."))
    live.see(ToolCallRepaired(ADD, "quotes", "", ""))
    live.see(ToolCallStarted(ADD))
    assert _titles(live) == ["Thinking", None, r"… add\(a\=3\, b\=5\)"]
    live.see(ToolCallFinished(ADD, ToolResult("c1", "add", "8"), 2.0))
    shown = list(live.bubbles())
    assert _titles(live)[-1] == "The model is asked"
    assert shown[1]["content"] == "I add."
    metadata = shown[2]["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["log"] == r"repaired\, 2\.0 s"
    live.see(TextDelta("It is 9"))
    live.see(AnswerDiscarded("cut"))
    live.see(TextDelta("It is 8"))
    assert [each["content"] for each in live.bubbles()][-1] == "It is 8"


def test_a_call_that_waits_or_is_refused_is_marked_so() -> None:
    live = Live()
    live.see(ApprovalRequested(ADD))
    assert _titles(live) == [r"‖ add\(a\=3\, b\=5\)"]
    live.see(ToolCallRefused(ADD, ToolResult("c1", "add", "no", is_error=True)))
    assert _titles(live) == [r"✗ add\(a\=3\, b\=5\)", "The model is asked"]


def test_calls_of_an_agent_that_is_a_tool_stand_inside_its_own() -> None:
    ask = ToolCall("c0", "helper", "{}")
    live = Live()
    live.see(ToolCallStarted(ask))
    live.see(Nested("helper", "c0", TextDelta("unseen")))
    live.see(Nested("helper", "c0", ToolCallStarted(ADD)))
    live.see(Nested("helper", "c0", Nested("deep", "c1", ToolCallStarted(ADD))))
    inner = [each["metadata"] for each in live.bubbles()]
    assert [isinstance(each, dict) and each.get("parent_id") for each in inner] == [
        None,
        "c0",
        "c0/c1",
    ]


def _titles(live: Live) -> list[object]:
    found = [each.get("metadata") for each in live.bubbles()]
    return [each.get("title") if isinstance(each, dict) else None for each in found]

"""Text as HTML that does nothing, and a conversation as bubbles."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

from agentcall.display import strip_control_characters
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
from agentcall.serving.web import markdown
from agentcall.serving.web.chat_messages import ToolCallInfo, render_history, render_question
from agentcall.serving.web.stream_state import ChatStreamState
from agentcall.sessions import StoredRun

ADD = ToolCall("c1", "add", '{"a": 3, "b": 5}')


class _Read(HTMLParser):
    """What stands in HTML: its text, and each tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    handle_decl = handle_pi = unknown_decl = handle_comment


def _check(html: str, *, images: bool = False) -> _Read:
    """Reads HTML in which only what is allowed may stand."""
    assert html.startswith("<div")
    assert "\n" not in html
    read = _Read(html)
    for tag, attributes in read.tags:
        assert tag in markdown.TAGS
        assert images or tag != "img"
        more = {"target", "rel"} if tag == "a" else set[str]()
        assert set(attributes) <= markdown.ATTRIBUTES.get(tag, set[str]()) | more
        assert (
            (attributes.get("href") or "http:").lower().startswith(("http:", "https:", "mailto:"))
        )
        assert (attributes.get("src") or "data:image/png").startswith("data:image/")
        names = (attributes.get("class") or "prose").split()
        assert set(names) <= {"prose", "literal", "token", *markdown.TOKEN_CLASSES}
    return read


EVIL = [
    "<a style='position:fixed;inset:0' href=//evil.example>x</a>",
    "<a style=position:fixed>",
    "<script>hacked()</script>",
    "<img src=x onerror=hacked()>",
    "![p](http://evil.example/p.png)",
    "![p](data:image/png;base64,AAAA)",
    "![p][1]\n\n[1]: http://evil.example/p.png",
    "[x](javascript:hacked())",
    "[x](JaVaScRiPt:hacked())",
    "[x](java&#10;script:hacked())",
    "[x](&#x6A;avascript:hacked())",
    "[x](vbscript:x)",
    "[x](data:text/html;base64,AAAA)",
    "[x](file:///etc/passwd)",
    "[x](/export?session=y)",
    "[x](//evil.example)",
    "[x](?token=evil)",
    "[x](http://a.b 't\" onmouseover=\"hacked()')",
    "<javascript:hacked()>",
    '<http://a.b/" onclick=hacked()>',
    "http://a.b/<b>",
    "[^1]\n\n[^1]: <i>note</i>",
    "<!-- x -->",
    "<![CDATA[<b>]]>",
    "<?php x ?>",
    "<svg><use href=#x /></svg>",
    "<math><mi//xlink:href='javascript:x'>",
    "<form action=//evil.example><input name=x></form>",
    "<div class=mermaid>graph TD</div>",
    "<iframe srcdoc='<b>'></iframe>",
    "&lt;b&gt;",
    "\\<b>",
    "$$<b>$$",
    "$$\n<b>\n$$",
]
AROUND = [
    "{}",
    "`{}`",
    "``{} ` ``",
    "` {}\n\n{} `",
    "a ` b | {} | ` c",
    "| a | b |\n|---|:-:|\n| `{} | {}` |\n| ` | {} ` |",
    "- `a {}\n- {} b`\n  1. {}",
    "> ```\n{}\n> {}",
    "```mermaid\n{}\n```",
    "```html\n{}\n```\n{}",
    "````\n```\n{}\n````\n{}",
    "```{}\nx\n```",
    "~~~\n{}\n~~~\n{}",
    "# {}\n{}\n===",
    "**{}** *{}* ~~{}~~",
    "[{}](http://a.b)",
    "[a]: http://a.b\n\n[{}][a]",
    "    {}",
    "<div>\n\n{}\n\n</div>",
    "<pre>{}</pre>",
    "$${}$$",
    "\x1b]8;;{}\x07",
]


@each_row("around", AROUND)
def test_nothing_in_an_answer_is_live_wherever_it_stands(around: str) -> None:
    for evil in EVIL:
        _check(markdown.render_markdown(around.replace("{}", evil)))


PIECE = st.one_of(
    st.sampled_from([*EVIL, *AROUND]),
    st.sampled_from(
        [
            "`",
            "```",
            "~~~",
            "~~",
            "|",
            "-",
            "*",
            "_",
            ">",
            "<",
            "#",
            "[",
            "]",
            "(",
            ")",
            "!",
            "$",
            "$$",
            "\\",
            "&",
            ";",
            ":",
            '"',
            "'",
            "/",
            "=",
            "\n",
            "\n\n",
            "\t",
        ]
    ),
    st.text(max_size=8),
)


@given(st.lists(PIECE, max_size=12).map("".join))
@settings(max_examples=150)
def test_whatever_is_said_comes_out_in_tags_that_are_allowed(text: str) -> None:
    _check(markdown.render_markdown(text))
    letters = _check(markdown.render_text(text)).text.removeprefix("\n")
    assert letters == strip_control_characters(text).removeprefix("\n")
    _check(markdown.render_code(text))
    parts = (
        markdown.render_markdown(text),
        markdown.render_text(text),
        markdown.render_image(text),
    )
    _check(markdown.join(*parts), images=True)


@each_row(
    ("text", "made"),
    [
        ("**bold** and a < b", "<p><strong>bold</strong> and a &lt; b</p>"),
        ("`<b>` and <b>", "<p><code>&lt;b&gt;</code> and &lt;b&gt;</p>"),
        ("![p](http://a.b)", "<p>!<a"),
        ("- a\n- b", "<ul>&#10;<li>a</li>&#10;<li>b</li>&#10;</ul>"),
        ("3. a", '<ol start="3">'),
        ("|a|\n|-:|\n|b|", '<td align="right">b</td>'),
        ("one\ntwo", "one<br>&#10;two"),
        ("```\na\n\n\tb\n```", "<pre><code>a&#10;&#10;&#9;b&#10;</code></pre>"),
        ("```py\nx = 1\n```", '<span class="token number">1</span>'),
        ("```mermaid\ngraph TD\n```", "<pre><code>graph TD&#10;</code></pre>"),
        ("see https://a.b/c?d=e&f", '<a href="https://a.b/c?d=e&amp;f"'),
        ("x $$a_1*b*c$$ y", "x $$a_1*b*c$$ y"),
        ("$$\na\n+ b \\\\\n$$", "$$&#10;a&#10;+ b \\\\&#10;$$</p>"),
        ("costs $5 or *$6*", "costs $5 or <em>$6</em>"),
        ("$$ is not closed", "$$ is not closed"),
    ],
)
def test_an_answer_keeps_its_markdown(text: str, made: str) -> None:
    assert made in markdown.render_markdown(text)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("<b>x</b> & *y*", "&lt;b&gt;x&lt;/b&gt; &amp; *y*"),
        ("    code\n\tb", "    code&#10;&#9;b"),
        ("http://evil.example", "http://evil.example"),
        ("上海 $$x$$\x1b[31m", "上海 <span>$</span><span>$</span>x<span>$</span><span>$</span>"),
    ],
)
def test_a_literal_text_has_no_marks(text: str, made: str) -> None:
    assert markdown.render_text(text) == f'<div class="literal">{made}</div>'


@each_row("unit", ["[", "![", "[a](", "*a_", "`a ", "> ", "|a", "$$a", "<", "- a\n"])
def test_a_long_text_of_marks_costs_no_more_than_a_few_seconds(unit: str) -> None:
    began = time.process_time()
    _check(markdown.render_markdown(unit * (99_000 // len(unit))))
    assert time.process_time() - began < 10


def test_half_of_a_character_is_shown_as_one_that_is_missing() -> None:
    assert "a?b" in markdown.render_text("a\ud800b")
    assert "a?b" in markdown.render_markdown("a\ud800b")


def test_a_huge_answer_is_shown_to_the_letter() -> None:
    assert markdown.render_markdown("**b** " * 100_000).startswith('<div class="literal">**b** ')


def test_a_deep_answer_is_read() -> None:
    for unit in ("> ", "- ", "1. ", "*", "**", "["):
        _check(markdown.render_markdown(unit * 5_000 + "x"))


def _kept(*messages: User | Assistant | ToolResult, run: str = "r1") -> StoredRun:
    return StoredRun(run, 0.0, "agent", "final", Usage(), messages)


def test_a_history_shows_calls_with_their_results() -> None:
    run = _kept(
        User("3+5?"),
        Assistant("", (ADD,), thinking="Let me add."),
        ToolResult("c1", "add", "8", seconds=0.25),
        Assistant("It is **8**."),
    )
    shown = render_history([run], ToolCallInfo())
    assert [each["role"] for each in shown] == ["user", *["assistant"] * 3]
    assert shown[1]["metadata"] == {"title": "Thinking", "status": "done"}
    metadata = shown[2]["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["title"] == markdown.render_text("✓ add(a=3, b=5)")
    assert metadata["log"] == "250 ms"
    assert "<p>It is <strong>8</strong>.</p>" in str(shown[3]["content"])


def test_a_call_with_the_same_id_in_another_run_is_another_one() -> None:
    runs = [
        _kept(User("x"), Assistant("", (ADD,)), ToolResult("c1", "add", "8"), run=run)
        for run in ("r1", "r2")
    ]
    assert len(render_history(runs, ToolCallInfo(hidden={("r2", "c1")}))) == 3
    shown = render_history(runs, ToolCallInfo(waiting={("r2", "c1")}))
    assert [str(each["content"]).count("Result") for each in shown] == [0, 1, 0, 0]


def test_an_image_of_a_question_is_shown_only_if_it_is_in_it() -> None:
    own, strange = "data:image/png;base64,AAAA", "https://evil.example/x.png"
    shown = str(render_question((Text("a *b*"), Image(own), Image(strange)))["content"])
    sources = [more["src"] for tag, more in _check(shown, images=True).tags if tag == "img"]
    assert sources == [own]
    assert f"[image: {strange}]" in shown


def test_a_result_with_fences_stays_in_its_own() -> None:
    run = _kept(Assistant("", (ADD,)), ToolResult("c1", "add", "```\n</pre><b>x</b>\n````\ny"))
    content = str(render_history([run], ToolCallInfo())[0]["content"])
    text = "```\n</pre><b>x</b>\n````\ny"
    assert _check(content).text.endswith(text)
    assert markdown.render_code(text) in content


def test_a_live_run_grows_by_its_events() -> None:
    live = ChatStreamState()
    assert _titles(live) == ["Waiting for the model"]
    live.apply(ThinkingDelta("hm"))
    live.apply(TextDelta("I "))
    live.apply(TextDelta("add."))
    live.apply(ToolCallRepaired(ADD, "quotes", "", ""))
    live.apply(ToolCallStarted(ADD))
    assert _titles(live) == ["Thinking", None, markdown.render_text("… add(a=3, b=5)")]
    live.apply(ToolCallFinished(ADD, ToolResult("c1", "add", "8"), 2.0))
    shown = list(live.render())
    assert _titles(live)[-1] == "Waiting for the model"
    assert shown[1]["content"] == markdown.render_markdown("I add.")
    metadata = shown[2]["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["log"] == "repaired, 2.0 s"
    live.apply(TextDelta("It is 9"))
    live.apply(AnswerDiscarded("cut"))
    live.apply(TextDelta("It is 8"))
    assert [each["content"] for each in live.render()][-1] == markdown.render_markdown("It is 8")


def test_a_call_that_waits_or_is_refused_is_marked_so() -> None:
    live = ChatStreamState()
    live.apply(ApprovalRequested(ADD))
    assert _titles(live) == [markdown.render_text("‖ add(a=3, b=5)")]
    live.apply(ToolCallRefused(ADD, ToolResult("c1", "add", "no", is_error=True)))
    assert _titles(live) == [markdown.render_text("✗ add(a=3, b=5)"), "Waiting for the model"]


def test_calls_of_an_agent_that_is_a_tool_stand_inside_its_own() -> None:
    ask = ToolCall("c0", "helper", "{}")
    live = ChatStreamState()
    live.apply(ToolCallStarted(ask))
    live.apply(Nested("helper", "c0", TextDelta("unseen")))
    live.apply(Nested("helper", "c0", ToolCallStarted(ADD)))
    live.apply(Nested("helper", "c0", Nested("deep", "c1", ToolCallStarted(ADD))))
    inner = [each["metadata"] for each in live.render()]
    assert [isinstance(each, dict) and each.get("parent_id") for each in inner] == [
        None,
        "c0",
        "c0/c1",
    ]


def _titles(live: ChatStreamState) -> list[object]:
    found = [each.get("metadata") for each in live.render()]
    return [each.get("title") if isinstance(each, dict) else None for each in found]

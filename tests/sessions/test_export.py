from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from agentcall.messages import (
    Assistant,
    Image,
    Message,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    User,
    from_json,
)
from agentcall.sessions import StoredRun, StoredSession
from agentcall.sessions.export import EXPORTERS, export_html, export_json, export_markdown

EVIL = '</pre><script>alert("x")</script><img src=http://evil onerror=a> & "q" \'q\' ```` </style>'
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def session(*messages: Message, name: str = "a session") -> StoredSession:
    run = StoredRun("r1", 1_700_000_000.0, "agent", "final", Usage(1, 2, 3), messages)
    return StoredSession(name, 1_700_000_000.0, 1_700_000_001.0, (run,))


WHOLE = session(
    User("How is Oslo?"),
    Assistant("Let me look.", (ToolCall("c1", "look", '{"at": "Oslo"}'),), "hm"),
    ToolResult("c1", "look", "saw Oslo"),
    Assistant("It is **cold**."),
)


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.said = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [str(v) for k, v in attrs if k in ("src", "href", "action", "data")]
        assert not [k for k, _ in attrs if k.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.said += data


def test_a_page_says_all_that_was_said() -> None:
    page = Page(export_html(WHOLE))
    for words in ("How is Oslo?", "Let me look.", '{"at": "Oslo"}', "saw Oslo", "It is **cold**."):
        assert words in page.said
    assert page.tags.count("article") == 4


@pytest.mark.parametrize(
    "message",
    [
        User(EVIL),
        User((Text(EVIL), Image(f"https://x/{EVIL}"))),
        Assistant(EVIL, (ToolCall(EVIL, EVIL, EVIL),)),
        ToolResult("c", EVIL, EVIL, is_error=True),
    ],
)
def test_nothing_that_was_said_is_markup(message: Message) -> None:
    text = export_html(session(message, name=EVIL))
    page = Page(text)
    assert set(page.tags) <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "section", "article",
        "pre",
    }  # fmt: skip
    assert page.loaded == []
    assert EVIL.partition("````")[0] in page.said


def test_a_page_loads_nothing() -> None:
    images = (
        Image(PIXEL),
        Image("https://evil/x.png"),
        Image('data:image/svg+xml,<svg onload="x">'),
        Image('data:image/png;base64,AA" onerror="x'),
    )
    text = export_html(session(User(images)))
    page = Page(text)
    assert page.loaded == [PIXEL]
    assert page.tags.count("img") == 1
    assert "script" not in page.tags
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|<link", text)


def test_json_gives_the_messages_back() -> None:
    wire = json.loads(export_json(WHOLE))
    assert [from_json(each) for each in wire["runs"][0]["messages"]] == list(WHOLE.messages)
    assert wire["id"] == "a session"
    assert wire["runs"][0]["usage"]["input_tokens"] == 2


def test_markdown_keeps_code_within_its_fences() -> None:
    text = export_markdown(
        session(ToolResult("c", "look", "```\n# no heading\n```\n`````\n"), User("hi"))
    )
    fence = re.search(r"^(`{3,})\n```\n# no heading", text, re.MULTILINE)
    assert fence is not None
    assert len(fence.group(1)) == 6
    assert text.count(fence.group(1)) == 2
    assert "### look gave" in text
    assert "### user\n\nhi" in text


def test_an_empty_session_has_every_form() -> None:
    empty = StoredSession("x", 0, 0, ())
    for form in EXPORTERS.values():
        assert "x" in form(empty)

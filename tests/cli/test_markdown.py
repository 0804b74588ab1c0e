from __future__ import annotations

import io

import pytest
from rich.console import Console
from rows import each_row

from agentcall.cli.markdown import MarkdownAnswerWriter, split_blocks
from agentcall.events import AnswerDiscarded, TextDelta, ToolCallFinished
from agentcall.messages import ToolCall, ToolResult

TEXT = """# Title

Here is **bold**.
A second line.

1. one
2. two

   still two

```python
x = 1

y = 2
```

| a | b |
|---|---|
| 1 | 2 |

The end."""


def shown(text: str, size: int = 3, *, colours: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=60, height=20, force_terminal=colours, highlight=False)
    answer = MarkdownAnswerWriter(console)
    for place in range(0, len(text), size):
        answer.handle(TextDelta(text[place : place + size]))
    answer.finish(None, None)
    return file.getvalue()


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in shown(text).splitlines()]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_same_is_shown_however_the_text_is_cut(size: int) -> None:
    assert shown(TEXT, size) == shown(TEXT, 3)


def test_blocks_stand_apart_by_one_line_and_lose_their_signs() -> None:
    text = "\n".join(lines(TEXT))
    assert "\n\n\n" not in text
    assert "Here is bold.\nA second line.\n\n 1 one\n 2 two" in text
    assert "\n x = 1\n\n y = 2\n" in text


def test_nothing_of_the_text_is_left_out() -> None:
    text = shown("<think>deep</think>\n\n[1]: http://x.example\n\n[a](http://y.example) <b>c</b>")
    assert "<think>deep</think>" in text
    assert "[1]: http://x.example" in text
    assert "a (http://y.example) <b>c</b>" in text


def test_no_text_is_markup_or_a_command_of_the_terminal() -> None:
    evil = "[red]a[/red] \x1b]0;title\x07b \x9b2Jc &#27;[2Jd &#x9b;2Je [f](\x1b[2J) \x1b]8;;http://x\x07"
    for size in (1, 1000):
        text = shown(evil, size)
        assert text.startswith("[red]a[/red] b 2Jc ")
        assert not {"\x1b", "\x9b", "\x07"} & set(text)
    assert "]8;" not in shown("[a](http://x.example)", colours=True)


def test_text_that_is_void_is_marked_and_text_after_a_call_stands_apart() -> None:
    file = io.StringIO()
    answer = MarkdownAnswerWriter(Console(file=file, width=60))
    answer.handle(AnswerDiscarded("before anything was said"))
    answer.handle(TextDelta("Let me"))
    answer.handle(AnswerDiscarded("cut"))
    answer.handle(AnswerDiscarded("once more"))
    answer.handle(ToolCallFinished(ToolCall("a", "f", "{}"), ToolResult("a", "f", "1"), 0.1))
    answer.handle(TextDelta("One."))
    answer.finish(None, None)
    assert file.getvalue() == "Let me [cut]\n\nOne.\n"


@each_row("text", ["", "\n\n", "one", TEXT, "```\na\n\nb", "- a\n\n- b\n\nc"])
def test_blocks_are_the_whole_text(text: str) -> None:
    assert "\n".join(split_blocks(text)) == text

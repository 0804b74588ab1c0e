"""Pages as readable text, hostile ones too."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rows import each_row

from agentcall_tools.fetch.html_text import MAX_CHARACTERS, extract_page_text
from agentcall_tools.fetch.html_tokens import EndTag, StartTag, tokenize_html

ADDRESS = "https://example.com/docs/page"


@each_row(
    ("html", "text"),
    [
        ("<h1>One</h1><h2>Two <em>words</em></h2>text", "# One\n\n## Two words\n\ntext"),
        ("<p>a  b\n c<p>d<br>e", "a b c\n\nd\ne"),
        ("<ul><li>a<li>b<ul><li>c</ul></ul><p>d", "- a\n- b\n  - c\n\nd"),
        ("<ol><li>a</li><li>b</li></ol>", "1. a\n2. b"),
        ("<table><tr><th>A<th>B<tr><td>1<td>2</table>", "| A | B\n| 1 | 2"),
        ("<pre>if a:\n    b &lt; c</pre>", "if a:\n    b < c"),
        ("a<b>b</b>c <i>d</i>", "abc d"),
        ("&lt;tag&gt; &amp;amp; &eacute; &#x4e0a;&#28023;", "<tag> &amp; é 上海"),
        ("1 < 2 and 3 > 2 <3 </ p> <1>", "1 < 2 and 3 > 2 <3 <1>"),
        ("a<!-- <b>c</b> -->d<!doctype x><?php e ?>f", "adf"),
        ("<img src=x alt='A cat'><img src=y>", "(image: A cat)"),
        ("<script>a<b</script>c<style>d</style><SCRIPT>e</ScRiPt >f", "cf"),
        ("<textarea><b>x</b></textarea>", "<b>x</b>"),
        ("text<script>never closed <p>lost", "text"),
        ("text<p class='never closed <p>lost", "text"),
        ("", ""),
    ],
)
def test_markup_becomes_text(html: str, text: str) -> None:
    assert extract_page_text(html).text == text


@each_row(
    ("html", "text"),
    [
        ("<a href='/a?b=c&amp;d'>x <b>y</b></a>", "[x y](https://example.com/a?b=c&d)"),
        ("<a href=other>x</a> <a href=//b.example>y</a>",
         "[x](https://example.com/docs/other) [y](https://b.example)"),
        ("<a href='a (b)'>x</a>", "[x](https://example.com/docs/a%20%28b%29)"),
        ("<a href='javascript:alert(1)'>x</a><a href='data:,y'>y</a><a href='#z'>z</a>", "xyz"),
        ("<a href='http://[bad'>x</a><a>y</a><a href=q></a>", "xy"),
        ("<a href=a>x<a href=b>y",
         "[x](https://example.com/docs/a)[y](https://example.com/docs/b)"),
        ("<a href=a><div><p>x</div></a>", "[x](https://example.com/docs/a)"),
    ],
)  # fmt: skip
def test_links_keep_their_address(html: str, text: str) -> None:
    assert extract_page_text(html, ADDRESS).text == text


@each_row(
    "html",
    [
        "a<div hidden>x<div>y</div>z</div>b",
        "a<div style='color:red; DISPLAY : none'>x</div>b",
        "a<span style='visibility:hidden'>x</span>b",
        "a<span style='font-size:0'>x</span>b<span style='opacity:0.5'></span>",
        "a<template>x</template>b",
        "a<svg><text>x</text></svg>b",
        "<div>a<span hidden>x</div>b",
        "a<p hidden>x<p>b",
        "a<input hidden>b",
        "a<div hidden><script>x</div></script>y</div>b",
    ],
)
def test_what_a_reader_does_not_see_is_left_out(html: str) -> None:
    assert "".join(extract_page_text(html).text.split()) == "ab"


def test_what_is_only_found_later_or_half_transparent_is_read() -> None:
    assert (
        extract_page_text("<p hidden=until-found>a</p><p style='opacity: 0.5'>b").text == "a\n\nb"
    )


def test_the_title_is_no_part_of_the_text() -> None:
    page = extract_page_text("<title>A &amp; \n B</title><body><title>C</title>text")
    assert (page.title, page.text) == ("A & B", "text")


def test_attributes_are_read_as_browsers_do() -> None:
    html = "<A HREF=a/b B C='d>e' f=\"g'h\" B=second =i =j/ k = l></A>"
    attributes = {"href": "a/b", "b": "", "c": "d>e", "f": "g'h", "=i": "j/", "k": "l"}
    assert list(tokenize_html(html)) == [StartTag("a", attributes), EndTag("a")]


HOSTILE = [
    "<", "<a ", "<!--", "<!", "<?", "</", "<div>", "<div hidden>", '<a b="', "<a b='x", "&", "&#",
    "<a href=x>y</a>", "<title>", "<script>", "<ul><li>x", "<pre> ", "<a =", "<div hidden></p>",
    "<p style='display" + " " * 40 + "'>", "<p hidden><div></x>", "</script", "<!-->", "\n", "<p>a",
]  # fmt: skip


@each_row("unit", HOSTILE, ids=ascii)
def test_a_hostile_page_costs_no_more_than_its_length(unit: str) -> None:
    # Quadratic work would take minutes here, linear work less than a second.
    page = extract_page_text(unit * (300_000 // len(unit)), ADDRESS)
    assert len(page.text) <= MAX_CHARACTERS + 2_000


def test_gaps_and_depths_without_end_are_read_once() -> None:
    extract_page_text("<a b" + " " * 300_000)
    extract_page_text("<a b=" + " " * 300_000)
    extract_page_text("<div hidden>" + "<div>" * 40_000 + "</x>" * 40_000)


MARKUP = st.sampled_from(
    [*HOSTILE, "<p>", "</p>", "<td>", "</div>", "</a>", "</ul>", "</pre>", "x", " ", ">", "'", '"']
)


@given(st.lists(MARKUP, max_size=40).map("".join) | st.text(max_size=80))
def test_any_text_is_read(html: str) -> None:
    assert isinstance(extract_page_text(html, ADDRESS).text, str)

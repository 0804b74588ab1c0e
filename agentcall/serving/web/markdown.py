"""Text of people, models and tools as HTML that a browser shows, and that does nothing.

A model's answer is Markdown, read by markdown-it-py with HTML and images off; everything else is
shown to the letter. Whatever comes of it passes nh3, which keeps the tags and attributes listed
here and no others: no style, no image from elsewhere, no link but to the web and to mail.

The HTML stands on one line and begins with `<div>`. Gradio's chatbot shows it as it is (Markdown is
off there), and its Markdown component takes it for one block of HTML, which ends at a blank line.

Code in colours: Pygments' reading, in the classes of Prism, for which Gradio has the styles.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from html import escape
from importlib import import_module
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from agentcall.display import strip_control_characters

_LANGUAGES = frozenset(
    {
        *("bash", "sh", "shell", "powershell", "dockerfile", "makefile", "diff"),
        *("c", "cpp", "csharp", "go", "java", "javascript", "js", "kotlin", "lua", "php", "python"),
        *("py", "r", "ruby", "rust", "sql", "swift", "ts", "typescript"),
        *("css", "html", "ini", "json", "latex", "markdown", "md", "toml", "xml", "yaml", "yml"),
    }
)
_MAX_CODE_CHARS = 20_000
_CLASSES = {
    "Comment": "comment",
    "Keyword": "keyword",
    "Literal.String": "string",
    "Literal.Number": "number",
    "Name.Function": "function",
    "Name.Builtin": "builtin",
    "Name.Class": "class-name",
    "Name.Tag": "tag",
    "Name.Attribute": "attr-name",
    "Name.Decorator": "decorator",
    "Operator": "operator",
    "Punctuation": "punctuation",
    "Generic.Deleted": "deleted",
    "Generic.Inserted": "inserted",
}
TOKEN_CLASSES = frozenset(_CLASSES.values())
"""The classes of Prism that are used."""


def highlight(code: str, language: str) -> str:
    """The code as HTML; without colours where the language is not known, or the code is long."""
    if language not in _LANGUAGES or len(code) > _MAX_CODE_CHARS:
        return escape(code, quote=False)
    lexers: Any = import_module("pygments.lexers")  # Any: a package without types
    lexer = lexers.get_lexer_by_name(language, stripnl=False, ensurenl=False)
    return "".join(_render_span(str(kind), text) for kind, text in lexer.get_tokens(code))


def _render_span(kind: str, text: str) -> str:
    """A piece of code; `kind` is such as `Token.Literal.String.Double`."""
    name = kind.removeprefix("Token.")
    while name and name not in _CLASSES:
        name = name.rpartition(".")[0]
    shown = escape(text, quote=False)
    return f'<span class="token {_CLASSES[name]}">{shown}</span>' if name else shown


TAGS = frozenset(
    {
        *("div", "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "img"),
        *("pre", "code", "span", "strong", "em", "s", "a", "ul", "ol", "li"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
)
ATTRIBUTES = {
    "a": {"href", "title"},
    "div": {"class"},
    "img": {"alt", "src"},
    "ol": {"start"},
    "span": {"class"},
    "td": {"align"},
    "th": {"align"},
}
INLINE_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+")
"""The address of an image that is in the message itself, so that nothing is fetched for it."""

_ALLOWED_VALUES = {
    ("a", "href"): re.compile(r"(?:https?://|mailto:).*", re.DOTALL | re.IGNORECASE),
    ("img", "src"): INLINE_IMAGE,
    ("div", "class"): re.compile("prose|literal"),
    ("span", "class"): re.compile(rf"token (?:{'|'.join(sorted(TOKEN_CLASSES))})"),
    ("ol", "start"): re.compile(r"\d{1,9}"),
    ("td", "align"): re.compile("left|center|right"),
    ("th", "align"): re.compile("left|center|right"),
}
_MAX_CHARS = 50_000
_MOST_BRACKETS = 5_000
"""Reading brackets that are never closed costs their number squared."""


@lru_cache(maxsize=256)
def render_markdown(text: str) -> str:
    """An answer with its Markdown; a huge one to the letter, as it would keep the server busy."""
    if len(text) > _MAX_CHARS or text.count("[") > _MOST_BRACKETS:
        return render_text(text)
    return _clean(
        f'<div class="prose">{_make_markdown().render(strip_control_characters(text))}</div>'
    )


def render_text(text: str) -> str:
    """The text to the letter, with its line ends and blanks."""
    return _clean(f'<div class="literal">{_escape_text(strip_control_characters(text))}</div>')


def render_code(text: str) -> str:
    """The text to the letter, as code is shown."""
    return _clean(
        '<div class="prose"><pre><code>'
        f"{_escape_text(strip_control_characters(text))}</code></pre></div>"
    )


def render_image(url: str) -> str:
    """An image that is in its address."""
    return _clean(f'<div class="prose"><img alt="" src="{escape(url)}"></div>')


def join(*parts: str) -> str:
    """The parts below each other."""
    return _clean(f"<div>{''.join(parts)}</div>")


def _clean(html: str) -> str:
    """The HTML without what is not allowed, on one line."""
    kept = nh3.clean(
        html.encode("utf-8", "replace").decode(),
        tags=set(TAGS),
        attributes=ATTRIBUTES,
        attribute_filter=_filter_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer nofollow",
    )
    return kept.replace("\n", "&#10;").replace("\t", "&#9;")


def _filter_attribute(tag: str, attribute: str, value: str) -> str | None:
    form = _ALLOWED_VALUES.get((tag, attribute))
    return value if form is None or form.fullmatch(value) else None


def _escape_text(text: str) -> str:
    """The text in HTML, in which no `$$` begins a formula."""
    return escape(text, quote=False).replace("$", "<span>$</span>")


# Markdown


@cache
def _make_markdown() -> MarkdownIt:
    reader = MarkdownIt("js-default", {"html": False, "linkify": True, "breaks": True})
    reader.disable("image")  # fetching one would send its address, and what is in it; a link stays
    reader.inline.ruler.before("escape", "formula", _parse_formula)
    reader.block.ruler.before(
        "fence", "formula", _parse_formula_block, {"alt": ["paragraph", "blockquote", "list"]}
    )
    reader.core.ruler.push("alignment", _align_columns)
    reader.add_render_rule("fence", _render_fence)
    reader.add_render_rule("code_block", _render_fence)
    linkify: Any = reader.linkify  # Any: a package without types
    linkify.set({"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
    return reader


def _parse_formula(state: StateInline, silent: bool) -> bool:
    """`$$...$$`: KaTeX gets it as it is written."""
    if not state.src.startswith("$$", state.pos):
        return False
    end = state.src.find("$$", state.pos + 2, state.posMax)
    if end < 0:
        return False
    if not silent:
        state.push("text", "", 0).content = state.src[state.pos : end + 2]
    state.pos = end + 2
    return True


def _parse_formula_block(state: StateBlock, first: int, end: int, silent: bool) -> bool:
    """Lines from one that begins with `$$` to the first that ends so, with none empty."""
    lines: list[str] = []
    for number in range(first, end):
        line = state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]
        if not line or (not lines and not line.startswith("$$")):
            return False
        lines.append(line)
        if line.endswith("$$") and (len(lines) > 1 or len(line) > 3):
            break
    else:
        return False
    if not silent:
        state.push("paragraph_open", "p", 1)
        state.push("text", "", 0).content = "\n".join(lines)
        state.push("paragraph_close", "p", -1)
        state.line = first + len(lines)
    return True


def _align_columns(state: StateCore) -> None:
    """Says how a column stands by an attribute; markdown-it-py does it by a style."""
    for token in state.tokens:
        style = str(token.attrs.pop("style", ""))
        if style.startswith("text-align:"):
            token.attrSet("align", style.partition(":")[2])


def _render_fence(
    renderer: RendererHTML,
    tokens: list[Token],
    place: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    token = tokens[place]
    language = token.info.split()[0].lower() if token.info.split() else ""
    return f"<pre><code>{highlight(token.content, language)}</code></pre>\n"

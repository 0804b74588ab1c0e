"""Text of users, models and tools as safe HTML.

A model's answer is Markdown, rendered by markdown-it-py without HTML and images; all other text is
shown verbatim. All HTML is cleaned by nh3, which keeps only the tags and attributes listed here: no
styles, no external images, no links except to http(s) and mailto addresses.

The HTML is one line that begins with `<div>`. Gradio's chatbot shows it unchanged (its Markdown is
off), and Gradio's Markdown component takes it for one block of HTML, which a blank line would end.

Code is highlighted by Pygments, with the classes of Prism, for which Gradio has styles.
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
"""The classes of Prism that `highlight` uses."""
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
"""A data URL: the image is in the message itself, so that nothing is fetched."""

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
_MAX_BRACKETS = 5_000
"""markdown-it-py takes quadratic time for brackets that are never closed."""


@lru_cache(maxsize=256)
def render_markdown(text: str) -> str:
    """Render Markdown; a very long text verbatim, as it would block the server."""
    if len(text) > _MAX_CHARS or text.count("[") > _MAX_BRACKETS:
        return render_text(text)
    return _clean(
        f'<div class="prose">{_make_markdown().render(strip_control_characters(text))}</div>'
    )


def render_text(text: str) -> str:
    """Render text verbatim, with its line breaks and spaces."""
    return _clean(f'<div class="literal">{_escape_text(strip_control_characters(text))}</div>')


def render_code(text: str) -> str:
    """Render text verbatim, as code."""
    return _clean(
        '<div class="prose"><pre><code>'
        f"{_escape_text(strip_control_characters(text))}</code></pre></div>"
    )


def render_image(url: str) -> str:
    """Render an image with a data URL."""
    return _clean(f'<div class="prose"><img alt="" src="{escape(url)}"></div>')


def join(*parts: str) -> str:
    """Join HTML parts, one below the other."""
    return _clean(f"<div>{''.join(parts)}</div>")


def _clean(html: str) -> str:
    """Return the HTML without forbidden tags and attributes, on one line."""
    cleaned = nh3.clean(
        html.encode("utf-8", "replace").decode(),
        tags=set(TAGS),
        attributes=ATTRIBUTES,
        attribute_filter=_filter_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer nofollow",
    )
    return cleaned.replace("\n", "&#10;").replace("\t", "&#9;")


def _filter_attribute(tag: str, attribute: str, value: str) -> str | None:
    pattern = _ALLOWED_VALUES.get((tag, attribute))
    return value if pattern is None or pattern.fullmatch(value) else None


def _escape_text(text: str) -> str:
    """Escape text for HTML, with `$` in a tag so that no `$$` begins a formula."""
    return escape(text, quote=False).replace("$", "<span>$</span>")


@cache
def _make_markdown() -> MarkdownIt:
    parser = MarkdownIt("js-default", {"html": False, "linkify": True, "breaks": True})
    parser.disable("image")  # to fetch one would leak what its URL contains; a link stays
    parser.inline.ruler.before("escape", "formula", _parse_formula)
    parser.block.ruler.before(
        "fence", "formula", _parse_formula_block, {"alt": ["paragraph", "blockquote", "list"]}
    )
    parser.core.ruler.push("alignment", _align_columns)
    parser.add_render_rule("fence", _render_fence)
    parser.add_render_rule("code_block", _render_fence)
    linkify: Any = parser.linkify  # Any: a package without types
    linkify.set({"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
    return parser


def _parse_formula(state: StateInline, silent: bool) -> bool:
    """Keep `$$...$$` unchanged for KaTeX."""
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
    """Keep a block unchanged that begins and ends with `$$` and has no empty line."""
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
    """Replace the styles of aligned columns, which nh3 drops, by attributes."""
    for token in state.tokens:
        style = str(token.attrs.pop("style", ""))
        if style.startswith("text-align:"):
            token.attrSet("align", style.partition(":")[2])


def _render_fence(
    renderer: RendererHTML,
    tokens: list[Token],
    index: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    token = tokens[index]
    language = token.info.split()[0].lower() if token.info.split() else ""
    return f"<pre><code>{highlight(token.content, language)}</code></pre>\n"


def highlight(code: str, language: str) -> str:
    """Return code as HTML; without colours if the language is unknown or the code is long."""
    if language not in _LANGUAGES or len(code) > _MAX_CODE_CHARS:
        return escape(code, quote=False)
    lexers: Any = import_module("pygments.lexers")  # Any: a package without types
    lexer = lexers.get_lexer_by_name(language, stripnl=False, ensurenl=False)
    return "".join(_render_span(str(kind), text) for kind, text in lexer.get_tokens(code))


def _render_span(kind: str, text: str) -> str:
    """Return a token as HTML; `kind` is a name such as `Token.Literal.String.Double`."""
    name = kind.removeprefix("Token.")
    while name and name not in _CLASSES:
        name = name.rpartition(".")[0]
    escaped = escape(text, quote=False)
    return f'<span class="token {_CLASSES[name]}">{escaped}</span>' if name else escaped

"""Code in colours: Pygments' reading, in the classes of Prism, for which Gradio has the styles."""

from __future__ import annotations

from html import escape
from importlib import import_module
from typing import Any

_LANGUAGES = frozenset(
    {
        *("bash", "sh", "shell", "powershell", "dockerfile", "makefile", "diff"),
        *("c", "cpp", "csharp", "go", "java", "javascript", "js", "kotlin", "lua", "php", "python"),
        *("py", "r", "ruby", "rust", "sql", "swift", "ts", "typescript"),
        *("css", "html", "ini", "json", "latex", "markdown", "md", "toml", "xml", "yaml", "yml"),
    }
)
_MAX_CHARS = 20_000
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
    if language not in _LANGUAGES or len(code) > _MAX_CHARS:
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

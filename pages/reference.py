"""Pages out of docstrings: what a module gives, with signatures, as its own source says it.

A docstring of ours is plain text: paragraphs, `name: what it is` lines with their continuation
indented, indented code, and examples that begin with `>>>`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from types import ModuleType

from agentcall import Tool

_TOOLS = (
    "calculator",
    "clock",
    "fetch",
    "files",
    "knowledge",
    "papers",
    "python",
    "search",
    "shell",
    "sql",
    "units",
    "weather",
)
REFERENCE = (
    "agentcall",
    "agentcall.events",
    "agentcall.messages",
    "agentcall.errors",
    "agentcall.policy",
    "agentcall.runtime.executor",
    "agentcall.dialects",
    "agentcall.models.http_chat",
    "agentcall.models.openai_client",
    "agentcall.models.fallback",
    "agentcall.models.load_balancer",
    "agentcall.models.base",
    "agentcall.sessions",
    "agentcall.durable",
    "agentcall.mcp",
    "agentcall.serving.openai_api",
    "agentcall.tracing",
    "agentcall.testing",
    "agentcall_server.launch",
    *(f"agentcall_tools.{name}" for name in _TOOLS),
)

_FIELD = re.compile(r"^(\*{0,2}\w[\w, ]*): (?=\S)")
_HEADING = re.compile(r"^(Args|Raises|Returns|Yields|Rules|Source):(.*)$")


def module_page(name: str) -> str:
    """The page of a module."""
    module = import_module(name)
    blocks = [f"# {name}", markdown(module.__doc__ or "")]
    for member, value in members(module):
        blocks.extend(_member(member, value))
    return "\n\n".join(block for block in blocks if block) + "\n"


def members(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The public functions, classes and tools of a module, in the order it names them."""
    named = getattr(module, "__all__", None)
    for name in named if named is not None else vars(module):
        value = getattr(module, name)
        is_ours = named is not None or getattr(value, "__module__", "") == module.__name__
        is_public = isinstance(value, Tool) or inspect.isclass(value) or inspect.isfunction(value)
        if is_ours and is_public and not name.startswith("_"):
            yield name, value


def markdown(docstring: str) -> str:
    """A docstring of ours as Markdown."""
    return "\n".join(_lines(inspect.cleandoc(docstring).splitlines()))


def _member(name: str, value: object) -> Iterator[str]:
    yield f"## {name}"
    if isinstance(value, Tool):
        yield f"```python\n{name}{_signature(value.function)}\n```"
        yield markdown(inspect.getdoc(value.function) or "")
        return
    yield f"```python\n{'class ' * inspect.isclass(value)}{name}{_signature(value)}\n```"
    yield markdown(value.__doc__ or "")
    if not inspect.isclass(value):
        return
    for method, function in vars(value).items():
        plain = inspect.unwrap(getattr(function, "__func__", function))
        is_property = isinstance(function, property) or hasattr(function, "attrname")
        if method.startswith("_") or not (is_property or inspect.isfunction(plain)):
            continue
        yield f"### {name}.{method}"
        if not is_property:
            yield f"```python\n{method}{_signature(plain)}\n```"
        yield markdown(inspect.getdoc(function) or "")


def _signature(value: object) -> str:
    """The signature, a parameter a line where it is long; nothing where there is none."""
    if not callable(value):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    said = signature.return_annotation
    arrow = "" if said in (signature.empty, None, "None") else f" -> {_Bare(said)!r}"
    parts = list(_parts(signature))
    text = f"({', '.join(parts)}){arrow}"
    if len(text) <= 72:
        return text
    return "(\n" + "".join(f"    {part},\n" for part in parts) + f"){arrow}"


class _Bare:
    """Shown in a signature as it is written in source."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        value = self._value
        if isinstance(value, str):
            return value
        if inspect.isclass(value) or inspect.isfunction(value):
            return value.__name__
        return "..." if repr(value).startswith("<") else repr(value)


def _parts(signature: inspect.Signature) -> Iterable[str]:
    starred = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            yield "*"
        starred = starred or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        if parameter.annotation is not parameter.empty:
            parameter = parameter.replace(annotation=_Bare(parameter.annotation))
        if parameter.default is not parameter.empty and not isinstance(parameter.default, str):
            parameter = parameter.replace(default=_Bare(parameter.default))
        if parameter.name != "self":
            yield str(parameter)


def _lines(lines: Iterable[str]) -> Iterator[str]:
    in_example, in_fields = False, False
    for line in lines:
        if in_example and not line.strip():
            yield "```"
            in_example = False
        if line.startswith(">>> ") and not in_example:
            yield "\n```pycon"
            in_example = True
        if in_example:
            yield line
            continue
        heading, field = _HEADING.match(line), _FIELD.match(line.strip())
        is_inside = line.startswith("    ")
        if heading:
            yield f"\n**{heading.group(1)}:**{_safe(heading.group(2))}\n"
            in_fields = heading.group(1) in ("Args", "Raises")
        elif field and (not is_inside or in_fields):
            name = field.group(1).replace("*", "\\*")
            yield f"- **{name}**: {_safe(line.strip()[field.end() :])}"
        elif is_inside and not in_fields:
            yield line  # the rest of a field, or code
        else:
            yield _safe(line)
    if in_example:
        yield "```"


def _safe(text: str) -> str:
    """The text with its angle brackets as characters, but for those between backticks."""
    parts = text.split("`")
    return "`".join(p if i % 2 else p.replace("<", "&lt;") for i, p in enumerate(parts))

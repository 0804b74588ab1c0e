"""Reference pages generated from the signatures and docstrings of modules.

A docstring is plain text: paragraphs, lines `name: description` with indented continuations,
indented code, and examples that begin with `>>>`.
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
    "agentcall.models.model",
    "agentcall.sessions",
    "agentcall.durable",
    "agentcall.mcp",
    "agentcall.serving.openai_api",
    "agentcall.serving.ag_ui",
    "agentcall.tracing",
    "agentcall.testing",
    "agentcall_server.launch",
    *(f"agentcall_tools.{name}" for name in _TOOLS),
)

_FIELD = re.compile(r"^(\*{0,2}\w[\w, ]*): (?=\S)")
_HEADING = re.compile(r"^(Args|Raises|Returns|Yields|Rules|Source):(.*)$")


def module_page(name: str) -> str:
    """Return the page of a module."""
    module = import_module(name)
    blocks = [f"# {name}", markdown(module.__doc__ or "")]
    for member, value in members(module):
        blocks.extend(_render_member(member, value))
    return "\n\n".join(block for block in blocks if block) + "\n"


def members(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the public functions, classes and tools of a module, in the order of `__all__`."""
    exported = getattr(module, "__all__", None)
    for name in exported if exported is not None else vars(module):
        value = getattr(module, name)
        is_ours = exported is not None or getattr(value, "__module__", "") == module.__name__
        is_public = isinstance(value, Tool) or inspect.isclass(value) or inspect.isfunction(value)
        if is_ours and is_public and not name.startswith("_"):
            yield name, value


def markdown(docstring: str) -> str:
    """Convert a docstring to Markdown."""
    return "\n".join(_convert_lines(inspect.cleandoc(docstring).splitlines()))


def _render_member(name: str, value: object) -> Iterator[str]:
    yield f"## {name}"
    if isinstance(value, Tool):
        yield f"```python\n{name}{_format_signature(value.function)}\n```"
        yield markdown(inspect.getdoc(value.function) or "")
        return
    yield f"```python\n{'class ' * inspect.isclass(value)}{name}{_format_signature(value)}\n```"
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
            yield f"```python\n{method}{_format_signature(plain)}\n```"
        yield markdown(inspect.getdoc(function) or "")


def _format_signature(value: object) -> str:
    """Format the signature, long ones with one parameter per line; "" if there is none."""
    if not callable(value):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    returned = signature.return_annotation
    arrow = "" if returned in (signature.empty, None, "None") else f" -> {_Source(returned)!r}"
    parts = list(_format_parameters(signature))
    text = f"({', '.join(parts)}){arrow}"
    if len(text) <= 72:
        return text
    return "(\n" + "".join(f"    {part},\n" for part in parts) + f"){arrow}"


class _Source:
    """A value whose repr is its source text."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        value = self._value
        if isinstance(value, str):
            return value
        if inspect.isclass(value) or inspect.isfunction(value):
            return value.__name__
        return "..." if repr(value).startswith("<") else repr(value)


def _format_parameters(signature: inspect.Signature) -> Iterator[str]:
    has_star = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not has_star:
            yield "*"
        has_star = has_star or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        if parameter.annotation is not parameter.empty:
            parameter = parameter.replace(annotation=_Source(parameter.annotation))
        if parameter.default is not parameter.empty and not isinstance(parameter.default, str):
            parameter = parameter.replace(default=_Source(parameter.default))
        if parameter.name != "self":
            yield str(parameter)


def _convert_lines(lines: Iterable[str]) -> Iterator[str]:
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
            yield f"\n**{heading.group(1)}:**{_escape(heading.group(2))}\n"
            in_fields = heading.group(1) in ("Args", "Raises")
        elif field and (not is_inside or in_fields):
            name = field.group(1).replace("*", "\\*")
            yield f"- **{name}**: {_escape(line.strip()[field.end() :])}"
        elif is_inside and not in_fields:
            yield line  # the rest of a field, or code
        else:
            yield _escape(line)
    if in_example:
        yield "```"


def _escape(text: str) -> str:
    """Escape angle brackets, except between backticks."""
    parts = text.split("`")
    return "`".join(p if i % 2 else p.replace("<", "&lt;") for i, p in enumerate(parts))

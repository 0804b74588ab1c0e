"""The resources of an MCP server: as content of a prompt, and as two tools for the model.

Not a tool for each resource: a small model is to choose among few tools. One lists the resources
that match some words, and one reads a resource by its URI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentcall.display import to_single_line
from agentcall.errors import ToolError, UsageError
from agentcall.mcp.connection import Client
from agentcall.mcp.content import read_resource_contents
from agentcall.mcp.listing import list_items
from agentcall.messages import JSON, Image, Text
from agentcall.runtime.prompts import (
    LIST_RESOURCES,
    READ_RESOURCE,
    format_matching_resources,
)
from agentcall.tools.serialize import truncate_text
from agentcall.tools.tool import RunContext, Tool, ToolOptionArguments, tool_from_schema

LIST_RESOURCES_METHOD, READ_RESOURCE_METHOD = "resources/list", "resources/read"
MAX_LISTED = 50
"""How many resources the model reads in one result."""
MAX_PARTS = 100
_MAX_LINE = 300
_NETWORK = ("http:", "https:", "ftp:", "ws:", "wss:")


@dataclass(frozen=True, slots=True)
class MCPResource:
    """A resource that a server lists, or a template of resources.

    uri: of a template with its variables in braces, such as `db://{table}/schema`.
    size: in bytes, if it is known.
    """

    uri: str
    name: str
    description: str = ""
    mime_type: str = ""
    size: int | None = None
    is_template: bool = False

    def __str__(self) -> str:
        details = [self.mime_type] if self.mime_type else []
        details += [f"{self.size} bytes"] if self.size is not None else []
        details += ["a template: fill in what is in braces"] if self.is_template else []
        name = "" if self.name == self.uri else f" {self.name}"
        about = f" ({', '.join(details)})" if details else ""
        description = f": {self.description}" if self.description else ""
        return to_single_line(f"{self.uri}{name}{about}{description}"[:_MAX_LINE])


async def list_resources(client: Client, label: str) -> tuple[MCPResource, ...]:
    """Return the resources and templates of a server; none if it has none."""
    if client.server_capabilities.resources is None:
        return ()
    found = await list_items(client.list_resources, "resources", label)
    templates = await list_items(client.list_resource_templates, "resource_templates", label)
    return tuple(
        MCPResource(
            item.uri if hasattr(item, "uri") else item.uri_template,
            item.title or item.name,
            item.description or "",
            item.mime_type or "",
            getattr(item, "size", None),
            is_template=not hasattr(item, "uri"),
        )
        for item in (*found, *templates)
    )


def read_content_parts(
    contents: Sequence[Any], max_chars: int | None, *, untrusted: bool
) -> list[Text | Image]:
    """Return the parts of a resource for a prompt; what is longer than `max_chars` is cut."""
    parts: list[Text | Image] = []
    left = max_chars
    for part in read_resource_contents(contents[:MAX_PARTS]):
        if isinstance(part, Image):
            parts.append(Image(part.url, part.detail, untrusted))
            continue
        parts.append(Text(truncate_text(part, left), untrusted))
        left = None if left is None else max(left - len(part), 0)
    if len(contents) > MAX_PARTS:
        parts.append(Text(f"<{len(contents) - MAX_PARTS} more parts, not shown>", untrusted))
    return parts


class ResourceSource(Protocol):
    """A server whose resources are read."""

    @property
    def label(self) -> str:
        """How messages name the server."""
        ...

    async def list_resources(self) -> Sequence[MCPResource]:
        """Return its resources and templates."""
        ...

    async def request_contents(self, uri: str) -> Sequence[Any]:  # Any: types of the mcp package
        """Return the contents of a resource."""
        ...


class ResourceTools:
    """The functions of the two tools."""

    def __init__(self, source: ResourceSource) -> None:
        self._source = source
        self._known: frozenset[str] = frozenset()

    async def search(self, arguments: dict[str, JSON]) -> str:
        """Return a line for each resource that has one of the words."""
        listed = await self._source.list_resources()
        self._known = frozenset(resource.uri for resource in listed)
        words = str(arguments.get("query") or "").casefold().split()
        lines = [str(resource) for resource in listed]
        found = [line for line in lines if _has_any(line.casefold(), words)]
        return format_matching_resources(found[:MAX_LISTED], len(found), len(listed))

    async def read(self, arguments: dict[str, JSON]) -> str | Image | list[str | Image]:
        """Return the content of a resource."""
        uri = str(arguments.get("uri") or "")
        if "{" in uri:
            raise ToolError(f"{uri} is a template: replace what is in braces, and call this again")
        contents = await self._source.request_contents(uri)
        parts = read_resource_contents(contents[:MAX_PARTS])
        return parts[0] if len(parts) == 1 else parts

    def is_foreign(self, context: RunContext[Any], arguments: Mapping[str, Any]) -> bool:
        """Whether a URL that nobody listed is read after untrusted content has come in.

        The server may send a request to it, and so what the URL contains.
        """
        uri = str(arguments.get("uri"))
        return context.tainted and uri.lower().startswith(_NETWORK) and uri not in self._known


def _has_any(text: str, words: Iterable[str]) -> bool:
    words = tuple(words)
    return not words or any(word in text for word in words)


def create_resource_tools(
    source: ResourceSource, make_name: Callable[[str], str], options: ToolOptionArguments
) -> list[Tool]:
    """Create the tools with which a model lists and reads the resources of a server."""
    functions = ResourceTools(source)
    shared: ToolOptionArguments = {
        "untrusted": True,
        "read_only": True,
        "idempotent": True,
        "requires_approval": functions.is_foreign,
        **options,
    }
    query: dict[str, JSON] = {"type": "string", "description": "Words to find; all if left out."}
    uri: dict[str, JSON] = {"type": "string", "description": "The URI, as it is listed."}
    return [
        tool_from_schema(
            functions.search,
            name=make_name("list_resources"),
            description=LIST_RESOURCES,
            parameters={"type": "object", "properties": {"query": query}},
            **shared,
        ),
        tool_from_schema(
            functions.read,
            name=make_name("read_resource"),
            description=READ_RESOURCE,
            parameters={"type": "object", "properties": {"uri": uri}, "required": ["uri"]},
            **shared,
        ),
    ]


def check_uri(uri: object) -> str:
    """Return the URI. Raises UsageError if it is not a text."""
    if not isinstance(uri, str) or not uri:
        raise UsageError(f"{uri!r:.100} is not the URI of a resource")
    return uri

"""The tools of an MCP server as agentcall tools.

Rules:
1. A server is started when its tools are first needed, and serves all runs of the process.
2. A server that has ended is started again by the next call. The call during which it ended is not
   repeated: its outcome is unknown, and the model is told so.
3. The results of a server are untrusted content, so its tools have the option `untrusted`. Its
   hints about a tool (read-only, idempotent) are believed unless an option overrides them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import monotonic
from typing import Any, cast

import orjson
from typing_extensions import Self, Unpack

from agentcall.errors import SchemaError, ToolError, UsageError
from agentcall.mcp.connection import CALL, MCPConnection, MCPConnectionError
from agentcall.mcp.transport import parse_transport
from agentcall.messages import JSON, Image, decode_image, is_image
from agentcall.tools.registry import LazyToolSource
from agentcall.tools.schema.json_schema import strip_titles
from agentcall.tools.schema.regex import drop_unchecked_patterns
from agentcall.tools.tool import Tool, ToolOptionArguments, ToolOptions, tool_from_schema

_LIST_TOOLS = "tools/list"
MAX_PAGES = 100
MAX_TOOLS = 2_000
MAX_DESCRIPTION_LENGTH = 20_000
_DEFAULT_TIMEOUT = 60.0
"""Seconds for a server to start, and to list its tools, if no `timeout` is given."""
_MIN_START_SECONDS = 10.0
"""The smallest time limit for starting a server; a shorter `timeout` is meant for its calls."""
_GRACE_SECONDS = 1.0
_log = logging.getLogger("agentcall.mcp")


class MCPTools(LazyToolSource):
    """The tools of an MCP server; pass it to `Agent(tools=...)`, or iterate over it.

    server: a command that speaks MCP over its standard input and output, or the URL of a server
        that speaks streamable HTTP.
    prefix: prepended to each tool's name.
    env: environment variables of a command, beside PATH, HOME and a few others.
    headers: HTTP headers of each request to a URL, such as {"Authorization": "Bearer ..."}.
    options: the options of `@tool` for all tools of the server, such as `requires_approval`.
        `timeout` also limits how long the server may take to list its tools and, if it is at least
        10 seconds, to start.

    The server is started by the first use. It ends with the process, with `close()`, or at the end
    of a `with` or `async with` block. The first use raises `MCPConnectionError` if the server
    cannot be started or reached, or does not list its tools in time.

    `skipped_tools` has the tools that are not offered, by name, with the reason.
    """

    def __init__(
        self,
        server: str,
        *,
        prefix: str = "",
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Unpack[ToolOptionArguments],
    ) -> None:
        self._timeout = options.get("timeout") or _DEFAULT_TIMEOUT
        self._connection = MCPConnection(
            parse_transport(server, env, headers), max(self._timeout, _MIN_START_SECONDS)
        )
        self._prefix = prefix
        self._options = options
        self.skipped_tools: Mapping[str, str] = {}

    @cached_property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of the server. The first access lists them, and blocks until it answers."""
        return self._build_tools(
            self._connection.submit(self._list_tools, _LIST_TOOLS, self._timeout).result()
        )

    async def wait_until_ready(self, seconds: float | None = None) -> None:
        """Wait until the tools are listed; raise MCPConnectionError after `seconds`."""
        if "tools" not in vars(self):
            task = asyncio.ensure_future(self._load_tools())
            try:
                await asyncio.wait({task}, timeout=seconds)
                if not task.done():
                    raise self._make_error(
                        f"did not answer {_LIST_TOOLS} within {seconds:g} seconds"
                    )
                self.tools = task.result()
            finally:
                task.cancel()

    async def _load_tools(self) -> tuple[Tool, ...]:
        listed = await asyncio.wrap_future(
            self._connection.submit(self._list_tools, _LIST_TOOLS, self._timeout)
        )
        return await asyncio.to_thread(self._build_tools, listed)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)

    def close(self) -> None:
        """Close the connection, and end a server that was started for it."""
        self._connection.close().result()

    def __enter__(self) -> Self:
        _ = self.tools
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self.wait_until_ready()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.wrap_future(self._connection.close())

    async def _list_tools(self, client: Any) -> list[Any]:  # Any: types of the mcp package
        tools: list[Any] = []
        cursor: str | None = None
        seen: set[str] = set()
        while len(tools) <= MAX_TOOLS and len(seen) < MAX_PAGES:
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if not cursor:
                break
            if cursor in seen:
                raise self._make_error(f"repeats a page of tools (the cursor {cursor[:80]!r})")
            seen.add(cursor)
        if len(tools) > MAX_TOOLS:
            raise self._make_error(
                f"lists over {MAX_TOOLS} tools; configure it to offer only those that you need"
            )
        if len(seen) == MAX_PAGES:
            raise self._make_error(f"lists its tools on more than {MAX_PAGES} pages")
        return tools

    def _make_error(self, message: str) -> MCPConnectionError:
        return MCPConnectionError(f"the MCP server {self._connection.transport.label} {message}")

    def _build_tools(self, listed: Sequence[Any]) -> tuple[Tool, ...]:
        """Return the tools that can be offered. Raise MCPConnectionError if it takes too long."""
        deadline = monotonic() + self._timeout
        tools: dict[str, Tool] = {}
        skipped: dict[str, str] = {}
        for definition in listed:
            if monotonic() > deadline:
                raise self._make_error(
                    f"lists tools that cannot be read within {self._timeout:g} seconds"
                )
            try:
                tool = self._build_tool(definition)
            except SchemaError as error:
                skipped[definition.name] = str(error)
                continue
            if tool.name in tools:
                skipped[definition.name] = f"there is a tool {tool.name} already"
            tools.setdefault(tool.name, tool)
        self.skipped_tools = skipped
        for name, reason in skipped.items():
            _log.warning(
                "%s: the tool %s is skipped: %s", self._connection.transport.label, name, reason
            )
        return tuple(tools.values())

    def _build_tool(self, definition: Any) -> Tool:
        name = re.sub(r"[^\w-]", "_", self._prefix + definition.name, flags=re.ASCII)[:64]
        description = definition.description or definition.title or ""
        if len(description) > MAX_DESCRIPTION_LENGTH:
            raise SchemaError(
                f"its description has {len(description)} characters, more than "
                f"{MAX_DESCRIPTION_LENGTH}"
            )
        hints = definition.annotations
        options: ToolOptionArguments = {
            "untrusted": True,
            "read_only": bool(hints and hints.read_only_hint),
            "egress": bool(hints and hints.open_world_hint),
            "idempotent": bool(hints and (hints.idempotent_hint or hints.read_only_hint)),
            **self._options,
        }
        parameters = cast("dict[str, JSON]", definition.input_schema)
        checked, unchecked = drop_unchecked_patterns(parameters, name)
        for keyword, pattern, reason in unchecked:
            message = "%s: a %s of the tool %s is left to the server to check (%s): %.200s"
            _log.warning(message, self._connection.transport.label, keyword, name, reason, pattern)
        tool = tool_from_schema(
            _RemoteTool(self._connection, definition.name, ToolOptions(**options).timeout),
            name=name,
            description=description,
            parameters=checked,
            **options,
        )
        if not unchecked:
            return tool
        # The model still sees the patterns that only the server checks.
        original = cast("dict[str, JSON]", strip_titles(parameters))
        return tool.copy_with(replace(tool.schema, parameters=original), tool.options)

    def __repr__(self) -> str:
        return f"MCPTools({self._connection.transport.label!r})"


@dataclass(frozen=True)
class _RemoteTool:
    """A tool of an MCP server, as a function of its arguments."""

    connection: MCPConnection
    name: str
    timeout: float | None

    @property
    def location(self) -> str:
        return f"the MCP server {self.connection.transport.label}"

    async def __call__(self, arguments: dict[str, JSON]) -> str | Image | list[str | Image]:
        # The tool's own deadline comes first in a run, hence the grace period.
        timeout = None if self.timeout is None else self.timeout + _GRACE_SECONDS
        future = self.connection.submit(
            lambda client: client.call_tool(self.name, arguments), CALL, timeout
        )
        result = await asyncio.wrap_future(future)
        parts = read_contents(result.content, result.structured_content)
        if result.is_error:
            raise ToolError(*(parts or [f"{self.name} failed without a message"]))
        return parts[0] if len(parts) == 1 else parts


def read_contents(contents: Sequence[Any], structured: object) -> list[str | Image]:
    """Return the texts and images of a tool's result; other content is described by its type."""
    parts = [part for content in contents if (part := _read_part(content))]
    if not parts and structured is not None:
        return [orjson.dumps(structured).decode()]
    texts = [part for part in parts if isinstance(part, str)]
    return parts if len(texts) < len(parts) else ["\n".join(texts)]


def _read_part(part: Any) -> str | Image:
    match part.type:
        case "text":
            return str(part.text)
        case "image" | "audio":
            return _read_data(part.type, part.mime_type, part.data)
        case "resource_link":
            return f"<resource {part.name}: {part.uri}>"
        case "resource":
            resource = part.resource
            if data := getattr(resource, "blob", ""):
                return _read_data("resource", resource.mime_type or str(resource.uri), data)
            return str(getattr(resource, "text", "")) or f"<resource {resource.uri}, not text>"
        case kind:
            return f"<{kind}, not shown>"


def _read_data(kind: str, mime_type: str, data: str) -> str | Image:
    """Return base64 data as an image, or a description if servers of models do not accept it."""
    decoded = decode_image(Image(f"data:{mime_type};base64,{data}"))
    if decoded is None or not is_image(decoded[1]):
        return f"<{kind} {mime_type}, {len(data) * 3 // 4} bytes, not shown>"
    try:
        return Image.from_bytes(decoded[1])
    except UsageError as error:
        return f"<{kind} {mime_type}, not shown: {error}>"

"""The tools of an MCP server as tools of ours.

Rules:
1. A server is started when its tools are first needed, and serves all runs of the process.
2. A server that has ended is started again when a tool is called next. A call under which it ended
   is not made again: its outcome is not known, and the model is told so.
3. What a server gives is text of strangers: its tools are marked `untrusted`. What it says of them
   (read-only, idempotent) is believed unless a mark says otherwise.

What an MCP tool gave, as text that a model reads.
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

from agentcall.errors import SchemaError, ToolError
from agentcall.mcp.connection import CALL, MCPConnection, MCPConnectionError
from agentcall.mcp.transport import parse_transport
from agentcall.messages import JSON
from agentcall.tools.registry import LazyToolSource
from agentcall.tools.schema.json_schema import strip_titles
from agentcall.tools.schema.regex import drop_unchecked_patterns
from agentcall.tools.tool import Tool, ToolOptionArguments, ToolOptions, tool_from_schema


def format_contents(
    contents: Sequence[Any], structured: object
) -> str:  # Any: a type of the mcp package
    """The text of a result's parts; what is no text is named, with its type and size."""
    text = "\n".join(_format_part(part) for part in contents)
    if not text and structured is not None:
        return orjson.dumps(structured).decode()
    return text


def _format_part(part: Any) -> str:  # Any: as above
    match part.type:
        case "text":
            return str(part.text)
        case "image" | "audio":
            return f"<{part.type} {part.mime_type}, {len(part.data) * 3 // 4} bytes, not shown>"
        case "resource_link":
            return f"<resource {part.name}: {part.uri}>"
        case "resource":
            held = part.resource
            return str(getattr(held, "text", "")) or f"<resource {held.uri}, not text>"
        case kind:
            return f"<{kind}, not shown>"


MAX_PAGES = 100
MAX_TOOLS = 2_000
MAX_DESCRIPTION_LENGTH = 20_000
_DEFAULT_TIMEOUT = 60.0
"""Seconds that a server may take to start, and to list its tools, where no `timeout` is given."""
_STARTING = 10.0
"""Seconds that it may take to start at least: a `timeout` is for what it does then."""
_GRACE = 1.0
_log = logging.getLogger("agentcall.mcp")


class MCPTools(LazyToolSource):
    """The tools of an MCP server; give it to `Agent(tools=...)`, or iterate over it.

    server: a command that speaks MCP by its standard input and output, or the URL of one that
        speaks streamable HTTP.
    prefix: stands before each tool's name.
    env: what a command finds in its environment beside PATH, HOME and the like.
    headers: what every request to a URL carries, such as {"Authorization": "Bearer ..."}.
    marks: those of `@tool`, for every tool of the server; `timeout`, `requires_approval`, ...
        `timeout` is also how long the server may take to start (10 seconds at least), and to list
        its tools.

    The server is started with the first use and ends with the process, or with `close()` or the
    end of a `with` or `async with` block. Raises LinkBroken if it cannot be started or reached, or
    does not list its tools in time.

    `left_out`: the tools that are not offered, by name, with the reason.
    """

    def __init__(
        self,
        server: str,
        *,
        prefix: str = "",
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **marks: Unpack[ToolOptionArguments],
    ) -> None:
        self._timeout = marks.get("timeout") or _DEFAULT_TIMEOUT
        self._connection = MCPConnection(
            parse_transport(server, env, headers), max(self._timeout, _STARTING)
        )
        self._prefix = prefix
        self._marks = marks
        self.skipped_tools: Mapping[str, str] = {}

    @cached_property
    def tools(self) -> tuple[Tool, ...]:
        """The tools, as the server lists them when it is first asked. Blocks until it answers."""
        return self._build_tools(
            self._connection.submit(self._list_tools, _LIST_TOOLS, self._timeout).result()
        )

    async def wait_until_ready(self, seconds: float | None = None) -> None:
        """Waits until the tools are known, for so many seconds at most. Raises LinkBroken."""
        if "tools" not in vars(self):
            asked = asyncio.ensure_future(self._load_tools())
            try:
                await asyncio.wait({asked}, timeout=seconds)
                if not asked.done():
                    raise self._make_error(
                        f"did not answer {_LIST_TOOLS} within {seconds:g} seconds"
                    )
                self.tools = asked.result()
            finally:
                asked.cancel()

    async def _load_tools(self) -> tuple[Tool, ...]:
        listed = await asyncio.wrap_future(
            self._connection.submit(self._list_tools, _LIST_TOOLS, self._timeout)
        )
        return await asyncio.to_thread(self._build_tools, listed)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)

    def close(self) -> None:
        """Ends the connection, and a server that was started for it."""
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
                raise self._make_error(f"sends the same page again (the cursor {cursor[:80]!r})")
            seen.add(cursor)
        if len(tools) > MAX_TOOLS:
            raise self._make_error(
                f"lists over {MAX_TOOLS} tools; have it offer those that you need"
            )
        if len(seen) == MAX_PAGES:
            raise self._make_error(f"lists its tools on more than {MAX_PAGES} pages")
        return tools

    def _make_error(self, message: str) -> MCPConnectionError:
        return MCPConnectionError(f"the MCP server {self._connection.transport.label} {message}")

    def _build_tools(self, listed: Sequence[Any]) -> tuple[Tool, ...]:  # Any: as above
        """The tools that can be offered. Raises LinkBroken where that takes too long."""
        until = monotonic() + self._timeout
        made: dict[str, Tool] = {}
        left_out: dict[str, str] = {}
        for found in listed:
            if monotonic() > until:
                raise self._make_error(
                    f"lists tools that cannot be read within {self._timeout:g} seconds"
                )
            try:
                tool = self._build_tool(found)
            except SchemaError as error:
                left_out[found.name] = str(error)
                continue
            if tool.name in made:
                left_out[found.name] = f"there is a tool {tool.name} already"
            made.setdefault(tool.name, tool)
        self.skipped_tools = left_out
        for name, why in left_out.items():
            _log.warning(
                "%s: the tool %s is left out: %s", self._connection.transport.label, name, why
            )
        return tuple(made.values())

    def _build_tool(self, found: Any) -> Tool:  # Any: as above
        name = re.sub(r"[^\w-]", "_", self._prefix + found.name, flags=re.ASCII)[:64]
        description = found.description or found.title or ""
        if len(description) > MAX_DESCRIPTION_LENGTH:
            raise SchemaError(
                f"its description has {len(description)} characters, at most "
                f"{MAX_DESCRIPTION_LENGTH} are taken"
            )
        says = found.annotations
        marks: ToolOptionArguments = {
            "untrusted": True,
            "read_only": bool(says and says.read_only_hint),
            "egress": bool(says and says.open_world_hint),
            "idempotent": bool(says and (says.idempotent_hint or says.read_only_hint)),
            **self._marks,
        }
        parameters = cast("dict[str, JSON]", found.input_schema)
        checked, unchecked = drop_unchecked_patterns(parameters, name)
        for place, pattern, why in unchecked:
            words = "%s: a %s of the tool %s is left to the server to check (%s): %.200s"
            _log.warning(words, self._connection.transport.label, place, name, why, pattern)
        tool = tool_from_schema(
            _RemoteTool(self._connection, found.name, ToolOptions(**marks).timeout),
            name=name,
            description=description,
            parameters=checked,
            **marks,
        )
        if not unchecked:
            return tool
        shown = cast("dict[str, JSON]", strip_titles(parameters))
        return tool.copy_with(replace(tool.schema, parameters=shown), tool.options)

    def __repr__(self) -> str:
        return f"MCPTools({self._connection.transport.label!r})"


_LIST_TOOLS = "tools/list"


@dataclass(frozen=True)
class _RemoteTool:
    """Calls one tool of a server."""

    connection: MCPConnection
    name: str
    timeout: float | None

    @property
    def location(self) -> str:
        return f"the MCP server {self.connection.transport.label}"

    async def __call__(self, arguments: dict[str, JSON]) -> str:
        # in a run the call's own deadline comes first
        most = None if self.timeout is None else self.timeout + _GRACE
        asked = self.connection.submit(
            lambda client: client.call_tool(self.name, arguments), CALL, most
        )
        result = await asyncio.wrap_future(asked)
        text = format_contents(result.content, result.structured_content)
        if result.is_error:
            raise ToolError(text or f"{self.name} failed, and did not say why")
        return text

"""The tools of an MCP server as tools of ours.

Rules:
1. A server is started when its tools are first needed, and serves all runs of the process.
2. A server that has ended is started again when a tool is called next. A call under which it ended
   is not made again: its outcome is not known, and the model is told so.
3. What a server gives is text of strangers: its tools are marked `untrusted`. What it says of them
   (read-only, idempotent) is believed unless a mark says otherwise.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from typing_extensions import Self, Unpack

from agentcall.errors import ToolError, UsageError
from agentcall.mcp.contents import text_of
from agentcall.mcp.link import Link
from agentcall.mcp.source import source_of
from agentcall.messages import JSON
from agentcall.tool import MarkArguments, Tool, given_tool

_PAGES = 100


class MCPTools:
    """The tools of an MCP server; give it to `Agent(tools=...)`, or iterate over it.

    server: a command that speaks MCP by its standard input and output, or the URL of one that
        speaks streamable HTTP.
    prefix: stands before each tool's name.
    env: what a command finds in its environment beside PATH, HOME and the like.
    headers: what every request to a URL carries, such as {"Authorization": "Bearer ..."}.
    marks: those of `@tool`, for every tool of the server; `timeout`, `requires_approval`, ...

    The server is started with the first use and ends with the process, or with `close()` or the
    end of a `with` or `async with` block. Raises LinkBroken if it cannot be started or reached.
    """

    def __init__(
        self,
        server: str,
        *,
        prefix: str = "",
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **marks: Unpack[MarkArguments],
    ) -> None:
        self._link = Link(source_of(server, env, headers))
        self._prefix = prefix
        self._marks = marks

    @cached_property
    def tools(self) -> tuple[Tool, ...]:
        """The tools, as the server lists them when it is first asked. Blocks until it answers."""
        return self._made(self._link.ask(_listed).result())

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)

    def close(self) -> None:
        """Ends the connection, and a server that was started for it."""
        self._link.close().result()

    def __enter__(self) -> Self:
        _ = self.tools
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self.tools = self._made(await asyncio.wrap_future(self._link.ask(_listed)))
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.wrap_future(self._link.close())

    def _made(self, listed: list[Any]) -> tuple[Tool, ...]:  # Any: a type of the mcp package
        return tuple(self._tool(found) for found in listed)

    def _tool(self, found: Any) -> Tool:  # Any: as above
        name = re.sub(r"[^\w-]", "_", self._prefix + found.name)[:64]
        says = found.annotations
        marks: MarkArguments = {
            "untrusted": True,
            "read_only": bool(says and says.read_only_hint),
            "egress": bool(says and says.open_world_hint),
            "idempotent": bool(says and (says.idempotent_hint or says.read_only_hint)),
            **self._marks,
        }
        return given_tool(
            _Remote(self._link, found.name),
            name=name,
            description=found.description or found.title or "",
            parameters=cast("dict[str, JSON]", found.input_schema),
            **marks,
        )

    def __repr__(self) -> str:
        return f"MCPTools({self._link.source.place!r})"


async def _listed(client: Any) -> list[Any]:  # Any: as above
    tools: list[Any] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if not cursor:
            return tools
    raise UsageError(f"the MCP server lists its tools on more than {_PAGES} pages")


@dataclass(frozen=True)
class _Remote:
    """Calls one tool of a server."""

    link: Link
    name: str

    @property
    def place(self) -> str:
        return f"the MCP server {self.link.source.place}"

    async def __call__(self, arguments: dict[str, JSON]) -> str:
        asked = self.link.ask(lambda client: client.call_tool(self.name, arguments))
        result = await asyncio.wrap_future(asked)
        text = text_of(result.content, result.structured_content)
        if result.is_error:
            raise ToolError(text or f"{self.name} failed, and did not say why")
        return text

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
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import monotonic
from typing import Any, cast

from typing_extensions import Self, Unpack

from agentcall.errors import SchemaError, ToolError
from agentcall.mcp.contents import text_of
from agentcall.mcp.link import CALL, Link, LinkBroken
from agentcall.mcp.source import source_of
from agentcall.messages import JSON
from agentcall.registry import Late
from agentcall.schema.given import untitled
from agentcall.schema.pattern import checkable
from agentcall.tool import MarkArguments, Marks, Tool, given_tool

MOST_PAGES = 100
MOST_TOOLS = 2_000
LONGEST_DESCRIPTION = 20_000
_WAITING = 60.0
"""Seconds that a server may take to start, and to list its tools, where no `timeout` is given."""
_STARTING = 10.0
"""Seconds that it may take to start at least: a `timeout` is for what it does then."""
_GRACE = 1.0
_log = logging.getLogger("agentcall.mcp")


class MCPTools(Late):
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
        **marks: Unpack[MarkArguments],
    ) -> None:
        self._seconds = marks.get("timeout") or _WAITING
        self._link = Link(source_of(server, env, headers), max(self._seconds, _STARTING))
        self._prefix = prefix
        self._marks = marks
        self.left_out: Mapping[str, str] = {}

    @cached_property
    def tools(self) -> tuple[Tool, ...]:
        """The tools, as the server lists them when it is first asked. Blocks until it answers."""
        return self._made(self._link.ask(self._listed, _LIST, self._seconds).result())

    async def ready(self, seconds: float | None = None) -> None:
        """Waits until the tools are known, for so many seconds at most. Raises LinkBroken."""
        if "tools" not in vars(self):
            asked = asyncio.ensure_future(self._known())
            try:
                await asyncio.wait({asked}, timeout=seconds)
                if not asked.done():
                    raise self._odd(f"did not answer {_LIST} within {seconds:g} seconds")
                self.tools = asked.result()
            finally:
                asked.cancel()

    async def _known(self) -> tuple[Tool, ...]:
        listed = await asyncio.wrap_future(self._link.ask(self._listed, _LIST, self._seconds))
        return await asyncio.to_thread(self._made, listed)

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
        await self.ready()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.wrap_future(self._link.close())

    async def _listed(self, client: Any) -> list[Any]:  # Any: types of the mcp package
        tools: list[Any] = []
        cursor: str | None = None
        seen: set[str] = set()
        while len(tools) <= MOST_TOOLS and len(seen) < MOST_PAGES:
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if not cursor:
                break
            if cursor in seen:
                raise self._odd(f"sends the same page again (the cursor {cursor[:80]!r})")
            seen.add(cursor)
        if len(tools) > MOST_TOOLS:
            raise self._odd(f"lists over {MOST_TOOLS} tools; have it offer those that you need")
        if len(seen) == MOST_PAGES:
            raise self._odd(f"lists its tools on more than {MOST_PAGES} pages")
        return tools

    def _odd(self, words: str) -> LinkBroken:
        return LinkBroken(f"the MCP server {self._link.source.place} {words}")

    def _made(self, listed: Sequence[Any]) -> tuple[Tool, ...]:  # Any: as above
        """The tools that can be offered. Raises LinkBroken where that takes too long."""
        until = monotonic() + self._seconds
        made: dict[str, Tool] = {}
        left_out: dict[str, str] = {}
        for found in listed:
            if monotonic() > until:
                raise self._odd(f"lists tools that cannot be read within {self._seconds:g} seconds")
            try:
                tool = self._tool(found)
            except SchemaError as error:
                left_out[found.name] = str(error)
                continue
            if tool.name in made:
                left_out[found.name] = f"there is a tool {tool.name} already"
            made.setdefault(tool.name, tool)
        self.left_out = left_out
        for name, why in left_out.items():
            _log.warning("%s: the tool %s is left out: %s", self._link.source.place, name, why)
        return tuple(made.values())

    def _tool(self, found: Any) -> Tool:  # Any: as above
        name = re.sub(r"[^\w-]", "_", self._prefix + found.name, flags=re.ASCII)[:64]
        description = found.description or found.title or ""
        if len(description) > LONGEST_DESCRIPTION:
            raise SchemaError(
                f"its description has {len(description)} characters, at most "
                f"{LONGEST_DESCRIPTION} are taken"
            )
        says = found.annotations
        marks: MarkArguments = {
            "untrusted": True,
            "read_only": bool(says and says.read_only_hint),
            "egress": bool(says and says.open_world_hint),
            "idempotent": bool(says and (says.idempotent_hint or says.read_only_hint)),
            **self._marks,
        }
        parameters = cast("dict[str, JSON]", found.input_schema)
        checked, unchecked = checkable(parameters, name)
        for place, pattern, why in unchecked:
            words = "%s: a %s of the tool %s is left to the server to check (%s): %.200s"
            _log.warning(words, self._link.source.place, place, name, why, pattern)
        tool = given_tool(
            _Remote(self._link, found.name, Marks(**marks).timeout),
            name=name,
            description=description,
            parameters=checked,
            **marks,
        )
        if not unchecked:
            return tool
        shown = cast("dict[str, JSON]", untitled(parameters))
        return tool.remade(replace(tool.schema, parameters=shown), tool.marks)

    def __repr__(self) -> str:
        return f"MCPTools({self._link.source.place!r})"


_LIST = "tools/list"


@dataclass(frozen=True)
class _Remote:
    """Calls one tool of a server."""

    link: Link
    name: str
    seconds: float | None

    @property
    def place(self) -> str:
        return f"the MCP server {self.link.source.place}"

    async def __call__(self, arguments: dict[str, JSON]) -> str:
        # in a run the call's own deadline comes first
        most = None if self.seconds is None else self.seconds + _GRACE
        asked = self.link.ask(lambda client: client.call_tool(self.name, arguments), CALL, most)
        result = await asyncio.wrap_future(asked)
        text = text_of(result.content, result.structured_content)
        if result.is_error:
            raise ToolError(text or f"{self.name} failed, and did not say why")
        return text

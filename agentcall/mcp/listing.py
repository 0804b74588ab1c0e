"""What an MCP server lists, page by page, within bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agentcall.mcp.connection import MCPConnectionError

MAX_PAGES = 100
MAX_ITEMS = 2_000


async def list_items(
    request: Callable[..., Awaitable[Any]], kind: str, label: str
) -> list[Any]:  # Any: types of the mcp package
    """Return all items of a kind: "tools", "prompts", "resources" or "resource_templates".

    request: asks for one page. label: the server's, for messages.

    Raises MCPConnectionError for more than `MAX_ITEMS` items or `MAX_PAGES` pages.
    """
    items: list[Any] = []
    cursor: str | None = None
    seen: set[str] = set()
    server, kind_words = f"the MCP server {label}", kind.replace("_", " ")
    while len(items) <= MAX_ITEMS and len(seen) < MAX_PAGES:
        page = await request(cursor=cursor)
        items += getattr(page, kind)
        cursor = page.next_cursor
        if not cursor:
            break
        if cursor in seen:
            raise MCPConnectionError(
                f"{server} repeats a page of {kind_words} (the cursor {cursor[:80]!r})"
            )
        seen.add(cursor)
    if len(items) > MAX_ITEMS:
        raise MCPConnectionError(
            f"{server} lists over {MAX_ITEMS} {kind_words}; configure it to offer only those that "
            "you need"
        )
    if len(seen) == MAX_PAGES:
        raise MCPConnectionError(f"{server} lists its {kind_words} on more than {MAX_PAGES} pages")
    return items

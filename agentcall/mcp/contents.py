"""What an MCP tool gave, as text that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson


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

"""The content of an MCP server's results, resources and prompts, as texts and images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from agentcall.errors import UsageError
from agentcall.messages import Image, decode_image, is_image


def read_contents(contents: Sequence[Any], structured: object) -> list[str | Image]:
    """Return the texts and images of a tool's result; other content is described by its type."""
    parts = [part for content in contents if (part := read_part(content))]
    if not parts and structured is not None:
        return [orjson.dumps(structured).decode()]
    return join_texts(parts)


def join_texts(parts: Sequence[str | Image]) -> list[str | Image]:
    """Return the parts; one text if all of them are texts."""
    texts = [part for part in parts if isinstance(part, str)]
    return list(parts) if len(texts) < len(parts) else ["\n".join(texts)]


def read_resource_contents(contents: Iterable[Any]) -> list[str | Image]:
    """Return the texts and images of a resource."""
    return join_texts([_read_resource(resource) for resource in contents])


def read_part(part: Any) -> str | Image:  # Any: types of the mcp package
    """Return one block of content as a text or an image."""
    match part.type:
        case "text":
            return str(part.text)
        case "image" | "audio":
            return _read_data(part.type, part.mime_type, part.data)
        case "resource_link":
            return f"<resource {part.name}: {part.uri}>"
        case "resource":
            return _read_resource(part.resource)
        case kind:
            return f"<{kind}, not shown>"


def _read_resource(resource: Any) -> str | Image:
    if data := getattr(resource, "blob", ""):
        return _read_data("resource", resource.mime_type or str(resource.uri), data)
    return str(getattr(resource, "text", "")) or f"<resource {resource.uri}, not text>"


def _read_data(kind: str, mime_type: str, data: str) -> str | Image:
    """Return base64 data as an image, or a description if servers of models do not accept it."""
    decoded = decode_image(Image(f"data:{mime_type};base64,{data}"))
    if decoded is None or not is_image(decoded[1]):
        size = len(data) * 3 // 4 - data[-2:].count("=")
        return f"<{kind} {mime_type}, {size} bytes, not shown>"
    try:
        return Image.from_bytes(decoded[1])
    except UsageError as error:
        return f"<{kind} {mime_type}, not shown: {error}>"

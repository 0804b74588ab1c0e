"""Images in requests, for any dialect: after the results of a turn, or one line instead.

Rules:
1. The tool role has no images: vLLM, LMDeploy and OpenAI's API refuse them there. The images of a
   turn follow all of its results, in a user message that says which result each belongs to.
2. That message exists in the request only. In the transcript an image is a part of its result, so
   it never counts as the user's words, and an image of an untrusted result is marked as such.
3. A model that reads only text gets one line for each image, with its type and size.
4. No image becomes text: a dialect's own text never contains a `data:` URL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from agentcall.dialects.dialect import JSONObject
from agentcall.messages import (
    Assistant,
    Image,
    Message,
    RenderMessage,
    Text,
    ToolResult,
    User,
)

_HEADING = "(The images of the tool results above. The user did not send them.)"


def render_with_images(render: RenderMessage) -> RenderMessage:
    """Return a function that renders as `render` does, with the images of tool results."""

    def render_message(message: Message, before: Sequence[Message]) -> Sequence[JSONObject]:
        rendered = list(render(message, before))
        if not isinstance(message, ToolResult):
            return rendered
        results = _close_round(message, before)
        if not any(result.images for result in results):
            return rendered
        images = User(tuple(_build_parts(results)))
        (images_message,) = render(images, [*before, message])
        return _append_user_message(rendered, images_message)

    return render_message


def render_without_images(render: RenderMessage) -> RenderMessage:
    """Return a function that renders as `render` does, with a line for each image."""

    def render_message(message: Message, before: Sequence[Message]) -> Sequence[JSONObject]:
        return list(render(_describe_images(message), before))

    return render_message


def _close_round(message: ToolResult, before: Sequence[Message]) -> list[ToolResult]:
    """Return the results whose images follow this result: those of its turn if it is the last."""
    results = [message]
    for earlier in reversed(before):
        if isinstance(earlier, ToolResult):
            results.insert(0, earlier)
            continue
        calls = earlier.calls if isinstance(earlier, Assistant) else ()
        waiting = {call.id for call in calls} - {result.call_id for result in results[:-1]}
        if not waiting:  # complete before this result, which is one too many
            return results[-1:]
        return [] if waiting - {message.call_id} else results
    return results[-1:]


def _build_parts(results: Sequence[ToolResult]) -> Iterator[Text | Image]:
    yield Text(_HEADING)
    for result in results:
        for number, image in enumerate(result.images, 1):
            yield Text(f"image {number} of {result.name} ({result.call_id}):")
            yield replace(image, untrusted=image.untrusted or result.untrusted)


def _append_user_message(rendered: list[JSONObject], message: JSONObject) -> list[JSONObject]:
    """Append a message, joined to a user message before it: some servers count the roles."""
    last = rendered[-1] if rendered else {}
    text, parts = last.get("content"), message["content"]
    if last.get("role") != "user" or not isinstance(text, str) or not isinstance(parts, list):
        return [*rendered, message]
    return [*rendered[:-1], {**last, "content": [{"type": "text", "text": text}, *parts]}]


def _describe_images(message: Message) -> Message:
    """Return the message with a line for each image, and without the images."""
    if isinstance(message, ToolResult) and message.images:
        lines = (_format_note(image, f"image {n}") for n, image in enumerate(message.images, 1))
        return replace(message, text="\n".join([message.text, *lines]), images=())
    if isinstance(message, User) and not isinstance(message.content, str):
        parts = (
            Text(_format_note(part, "an image"), part.untrusted)
            if isinstance(part, Image)
            else part
            for part in message.content
        )
        return replace(message, content=tuple(parts))
    return message


def _format_note(image: Image, name: str) -> str:
    return f"({name} is not shown, as you read only text: {image.description})"

"""`Result`: what a tool returns that gives more than a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from agentcall.errors import UsageError
from agentcall.messages import Image, Picture, is_image, to_image

ImageLike: TypeAlias = Image | bytes | Picture
"""An image: `Image`, the bytes of an image file (PNG, JPEG, WebP, GIF), or an image of Pillow."""


class Result:
    """The result of a tool: a text and images for the model, and data for the application.

    text: what the model reads: a text, or any value, which becomes JSON as the result of a tool
        does that is returned alone.
    images: one image or a list of them; they follow the text.
    data: any value. The model never reads it. It is `result.tool_calls[...].data` of the run, and
        `ToolCallFinished.result.data` while it is running. In a saved run it is its JSON value, and
        None if it has none (docs/writing_tools.md).

    Return `Untrusted(Result(...))` or `Result(Untrusted(text))` for what others have written.
    Raises UsageError for an image that cannot be sent.

    >>> from agentcall import tool
    >>> @tool
    ... def count(word: str) -> Result:
    ...     "Count a word."
    ...     return Result(f"{word} is there twice", data=[3, 17])
    """

    __slots__ = ("data", "images", "text")

    def __init__(
        self,
        text: object,
        images: ImageLike | Sequence[ImageLike] = (),
        data: Any = None,  # Any: the application knows its type
    ) -> None:
        self.text = text
        self.images = _to_images(images)
        self.data = data

    def __repr__(self) -> str:
        images = f", images={list(self.images)!r}" if self.images else ""
        # Not the data: a tool may format a Result, and then the model reads this.
        data = "" if self.data is None else f", data=<{type(self.data).__name__}>"
        return f"Result({self.text!r}{images}{data})"


def _to_images(images: object) -> tuple[Image, ...]:
    if is_image(images):
        return (to_image(images),)
    if not isinstance(images, (list, tuple)):
        raise UsageError(f"Result(images={images!r:.100}): give a list of images")
    items = cast("Sequence[object]", images)
    for index, item in enumerate(items):
        if not is_image(item):
            raise UsageError(
                f"Result(images=...): image {index} is {item!r:.100}; use Image.file(path), the "
                "bytes of an image file, or an image of Pillow"
            )
    return tuple(map(to_image, items))

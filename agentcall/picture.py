"""Image files as the `data:` URLs that vision models are sent: checked here, where words are cheap.

A server says of an image that it cannot read at most that something failed (LMDeploy 0.18: "Request
preprocessing failed."), and uploads what is no image at full length first.
"""

from __future__ import annotations

import base64
from pathlib import Path

from agentcall.errors import UsageError

MAX_IMAGE_BYTES = 20 * 2**20
"""Bytes of a file that is sent; a model sees a few million pixels, and photos have 2 to 8 MiB."""

_IMAGE_SIGNATURES = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff",
    "gif": b"GIF8",
    "webp": b"RIFF",
}


def read_data_url(path: str | Path) -> str:
    """The image in a file as a `data:` URL, of the kind that its bytes are.

    Raises UsageError: no such file, no image that servers take, or a larger one than LARGEST.
    """
    file = Path(path).expanduser()
    try:
        size = file.stat().st_size
        if size > MAX_IMAGE_BYTES:
            raise UsageError(
                f"the image {path} has {size / 2**20:.0f} MiB, and at most {MAX_IMAGE_BYTES >> 20} are "
                f"sent; make it smaller"
            )
        data = file.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"there is no image file {path}") from None
    except OSError as error:
        raise UsageError(f"the image {path} cannot be read: {error.strerror or error}") from error
    kind = _detect_image_type(data)
    if kind is None:
        begins = f"it begins with {data[:8]!r}" if data else "it is empty"
        raise UsageError(f"{path} is no PNG, JPEG, WebP or GIF: {begins}")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _detect_image_type(data: bytes) -> str | None:
    for kind, beginning in _IMAGE_SIGNATURES.items():
        if data.startswith(beginning) and (kind != "webp" or data[8:12] == b"WEBP"):
            return kind
    return None

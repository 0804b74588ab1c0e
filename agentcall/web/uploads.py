"""What browsers upload: kept where nobody else of this machine reads, until the server ends."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from agentcall.errors import UsageError
from agentcall.messages import Image


@cache
def folder() -> Path:
    """Where Gradio puts what is uploaded; made at the first call."""
    made = tempfile.mkdtemp(prefix="agentcall-web-")
    os.environ["GRADIO_TEMP_DIR"] = made
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made).resolve()


def uploaded(path: str) -> Image:
    """The image in a file that was uploaded.

    Raises UsageError for another file: a request may name any file of this machine.
    """
    if not Path(path).resolve().is_relative_to(folder()):
        raise UsageError(f"the file {path!r:.200} was not uploaded here")
    return Image.file(path)

"""What browsers upload: kept where nobody else of this machine reads, until the server ends."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from agentcall.errors import UsageError
from agentcall.messages import Image


@cache
def get_upload_folder() -> Path:
    """Where Gradio puts what is uploaded; made at the first call."""
    made = tempfile.mkdtemp(prefix="agentcall-web-")
    os.environ["GRADIO_TEMP_DIR"] = made
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made).resolve()


class Uploads:
    """Which files were uploaded, each with its owners: whoever knows its path is not one."""

    def __init__(self) -> None:
        self._owners: defaultdict[Path, set[str]] = defaultdict(set)

    def add(self, user: str, paths: Iterable[str]) -> None:
        """Notes what a user has uploaded."""
        for path in paths:
            self._owners[Path(path).resolve()].add(user)

    def has(self, user: str, path: str) -> bool:
        """Whether the user has uploaded this file."""
        try:
            return user in self._owners.get(Path(path).resolve(), ())
        except (OSError, ValueError):  # a name that no file can have
            return False

    def load_image(self, user: str, path: str) -> Image:
        """The image that a user has uploaded.

        Raises UsageError for another file: a request may name any file of this machine.
        """
        if not self.has(user, path):
            raise UsageError(f"the file {path!r:.200} was not uploaded here")
        return Image.file(path)

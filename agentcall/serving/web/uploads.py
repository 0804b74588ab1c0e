"""Files that browsers have uploaded, in a private folder that is deleted when the server stops."""

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
    """Return the folder for Gradio's uploads; the first call creates it."""
    folder = tempfile.mkdtemp(prefix="agentcall-web-")
    os.environ["GRADIO_TEMP_DIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder).resolve()


class Uploads:
    """The uploaded files with their owners; to know a file's path does not grant access."""

    def __init__(self) -> None:
        self._owners: defaultdict[Path, set[str]] = defaultdict(set)

    def add(self, user: str, paths: Iterable[str]) -> None:
        """Record the files that a user has uploaded."""
        for path in paths:
            self._owners[Path(path).resolve()].add(user)

    def has(self, user: str, path: str) -> bool:
        """Return whether the user has uploaded this file."""
        try:
            return user in self._owners.get(Path(path).resolve(), ())
        except (OSError, ValueError):  # not a valid path
            return False

    def load_image(self, user: str, path: str) -> Image:
        """Load an image that the user has uploaded.

        Raises:
            UsageError: for any other file, as a request could name any file of this machine.
        """
        if not self.has(user, path):
            raise UsageError(f"the file {path!r:.200} was not uploaded here")
        return Image.file(path)

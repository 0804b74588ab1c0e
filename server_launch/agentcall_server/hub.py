"""The program that fetches one file from the Hugging Face hub, in a process of its own.

A process can be ended when the host says nothing; a thread inside the library's retries cannot.
It prints one JSON object a line: asking, then answered (with the size), then done (with the path),
or failed (with the reason). The library itself resumes a download that was cut.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from agentcall_server.leash import end_with_parent


def main() -> None:
    """Fetch REPO FILE REVISION into FOLDER (the four arguments)."""
    end_with_parent()
    repo, file, revision, folder = sys.argv[1:5]
    try:
        path = _fetch(repo, file, revision, folder)
    except Exception as error:  # the parent shows the reason, whatever it is
        _tell(event="failed", why=_first_line(error))
        raise SystemExit(1) from None
    _tell(event="done", path=path)


def _fetch(repo: str, file: str, revision: str, folder: str) -> str:
    hub: Any = importlib.import_module("huggingface_hub")  # Any: its types are partly unknown
    _tell(event="asking")
    cached = hub.try_to_load_from_cache(repo, file, revision=revision)
    if isinstance(cached, str):
        return cached
    found = hub.get_hf_file_metadata(hub.hf_hub_url(repo, file, revision=revision))
    _tell(event="answered", size=found.size)
    return str(hub.hf_hub_download(repo, file, revision=revision, local_dir=folder))


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _tell(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""The program that fetches one file from the Hugging Face hub, in a process of its own.

A process can be ended when the host says nothing; a thread inside the library's retries cannot.
It prints one JSON object a line: asking, then answered (with the size), then done (with the path),
or failed (with the reason). A download that was cut goes on where it was.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from agentcall_server.parent_watch import exit_with_parent

CHUNK_BYTES = 1 << 18


def main() -> None:
    """Fetch REPO FILE REVISION into FOLDER (the four arguments)."""
    exit_with_parent()
    repo, file, revision, folder = sys.argv[1:5]
    try:
        path = _fetch_file(repo, file, revision, Path(folder))
    except Exception as error:  # the parent shows the reason, whatever it is
        _print_event(event="failed", why=_format_error(error))
        raise SystemExit(1) from None
    _print_event(event="done", path=path)


def _fetch_file(repo: str, file: str, revision: str, folder: Path) -> str:
    hub: Any = importlib.import_module("huggingface_hub")  # Any: its types are partly unknown
    from_cache = hub.try_to_load_from_cache  # loads the rest of the library, before the clock
    _print_event(event="asking")
    cached = from_cache(repo, file, revision=revision)
    if isinstance(cached, str):
        return cached
    url = hub.hf_hub_url(repo, file, revision=revision)
    found = hub.get_hf_file_metadata(url)
    _print_event(event="answered", size=found.size)
    release = hashlib.sha256(str(found.etag).encode()).hexdigest()[:16]
    partial = folder / f"{Path(file).name}.{release}.incomplete"
    _resume_download(url, partial, found.size)
    return str(partial)


def _resume_download(url: str, partial: Path, size: int | None) -> None:
    """Bring the bytes that are missing. The library's own download begins again in each process."""
    web: Any = importlib.import_module("huggingface_hub.file_download")  # Any: as above
    web.constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES  # its own 10 MB are lost when the line breaks
    headers: Any = importlib.import_module("huggingface_hub.utils").build_hf_headers()  # Any: same
    with partial.open("ab") as out:
        here = out.tell()
        if here != size:
            web.http_get(url, out, resume_size=here, headers=headers, expected_size=size)


def _format_error(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _print_event(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""The program that downloads one file from the Hugging Face hub, in a process of its own.

    python -m agentcall_server.hub_download REPO FILE REVISION FOLDER

A process can be ended when the host does not answer; a thread inside the library's retries cannot.
It prints one JSON object per line: `asking`, then `answered` with the size, then `done` with the
path, or `failed` with the reason. An interrupted download resumes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from agentcall_server.processes import exit_with_parent

CHUNK_BYTES = 1 << 18


def main() -> None:
    """Download the file that the arguments name."""
    exit_with_parent()
    repo, file, revision, folder = sys.argv[1:5]
    try:
        path = _fetch_file(repo, file, revision, Path(folder))
    except Exception as error:  # any failure is reported to the parent, which tries another source
        lines = str(error).strip().splitlines()
        _print_event(event="failed", why=": ".join([type(error).__name__, *lines[:1]]))
        raise SystemExit(1) from None
    _print_event(event="done", path=path)


def _fetch_file(repo: str, file: str, revision: str, folder: Path) -> str:
    hub: Any = importlib.import_module("huggingface_hub")  # Any: its types are partly unknown
    http: Any = importlib.import_module("huggingface_hub.file_download")  # Any: likewise
    find_cached = hub.try_to_load_from_cache  # loads the rest of the library before the clock runs
    _print_event(event="asking")
    cached = find_cached(repo, file, revision=revision)
    if isinstance(cached, str):
        return cached
    url = hub.hf_hub_url(repo, file, revision=revision)
    metadata = hub.get_hf_file_metadata(url)
    _print_event(event="answered", size=metadata.size)
    release = hashlib.sha256(str(metadata.etag).encode()).hexdigest()[:16]
    partial = folder / f"{Path(file).name}.{release}.incomplete"
    # hf_hub_download 2.4 starts over in each process, so the missing bytes are requested here, in
    # chunks of less than its 10 MB, which would be lost when the connection breaks
    http.constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    headers: Any = importlib.import_module("huggingface_hub.utils").build_hf_headers()  # Any: same
    with partial.open("ab") as out:
        start = out.tell()
        if start != metadata.size:
            http.http_get(url, out, resume_size=start, headers=headers, expected_size=metadata.size)
    return str(partial)


def _print_event(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Finds the small files of a model on the hub: tokenizer, configuration and code, no weights.

Run by LMDeploy's own Python, as a file: it needs nothing of agentcall_server. It prints the folder
of the hub's cache, where LMDeploy will look for them too.

    python tokenizer_files.py OWNER/NAME
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

TOKENIZER_PATTERNS = ("*.json", "*.py", "*.model", "*.txt", "*.jinja", "*.tiktoken")


def main(model: str) -> None:
    """Bring them here if they are not, and say where."""
    hub: Any = import_module("huggingface_hub")  # Any: not a package of ours
    sys.stdout.write(
        str(hub.snapshot_download(model, allow_patterns=list(TOKENIZER_PATTERNS))) + "\n"
    )


if __name__ == "__main__":
    sys.path.pop(0)  # what lies beside this file has other names for other things
    main(sys.argv[1])

"""Runs an installed Python program in this process, so that it ends with its parent.

Executed as a file by that program's own Python, so it imports nothing of agentcall_server:

    python child_main.py KEY_FILE PROGRAM ARGUMENTS ...

When standard input ends, the program ends with all it started: no model server stays on a GPU when
its supervisor was killed. KEY_FILE (`-`: none) contains a key that is passed as `--api-keys` inside
the process, where the list of processes cannot show it.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

GRACE_SECONDS = 10.0
"""Seconds that the program has to end after SIGTERM."""


def main(arguments: list[str]) -> None:
    """Run the program as if it had been called itself."""
    key_file, program, *rest = arguments
    key = [] if key_file == "-" else ["--api-keys", Path(key_file).read_text("utf-8").strip()]
    threading.Thread(target=_end_with_input, daemon=True).start()
    sys.path[0] = str(Path(program).parent)  # the program must not import modules beside this file
    sys.argv = [program, *rest, *key]
    runpy.run_path(program, run_name="__main__")


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])

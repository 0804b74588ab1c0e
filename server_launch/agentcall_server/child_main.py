"""Runs an installed Python program in this process, on a leash and with its key kept from sight.

Run by that program's own Python, as a file: it needs nothing of agentcall_server.

    python tether.py KEY_FILE PROGRAM WORDS ...

When standard input ends, so does the program with all that it started: no model server is left on
a GPU when what watches it was killed. KEY_FILE (`-`: none) holds a key that is handed over as
`--api-keys`, where the list of processes cannot show it.
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
"""Seconds that the program has to end by itself."""


def main(arguments: list[str]) -> None:
    """Run the program as if it had been called itself."""
    key_file, program, *rest = arguments
    key = [] if key_file == "-" else ["--api-keys", Path(key_file).read_text("utf-8").strip()]
    threading.Thread(target=_end_when_input_closes, daemon=True).start()
    # what lies beside this file is none of the program's business
    sys.path[0] = str(Path(program).parent)
    sys.argv = [program, *rest, *key]
    runpy.run_path(program, run_name="__main__")


def _end_when_input_closes() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])

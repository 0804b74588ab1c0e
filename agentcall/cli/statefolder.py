"""The folder of what the command line keeps from one command to the next."""

from __future__ import annotations

import os
from pathlib import Path


def get_state_folder() -> Path:
    """$XDG_STATE_HOME/agentcall, else ~/.local/state/agentcall; it need not be there yet."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "agentcall"

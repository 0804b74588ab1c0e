"""The files that docs/architecture.md names exist."""

from __future__ import annotations

import re
from pathlib import Path

from rows import each_row

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PATHS = sorted(set(re.findall(r"`([\w./]+(?:\.py|/))`", PAGE)))


@each_row("path", PATHS)
def test_every_file_of_the_architecture_page_exists(path: str) -> None:
    assert any((ROOT / base / path).exists() for base in ("", "agentcall")), path

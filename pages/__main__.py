"""Build the site into build/docs/site with `python -m pages`; any warning is an error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pages.commands import commands_page
from pages.navigation import configuration
from pages.reference import REFERENCE, module_page

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "docs"


def main() -> int:
    """Build the site and return the exit code."""
    shutil.rmtree(BUILD, ignore_errors=True)
    pages = BUILD / "docs"
    shutil.copytree(ROOT / "docs", pages)
    paths = [path.relative_to(pages).as_posix() for path in sorted(pages.rglob("*.md"))]
    (pages / "reference").mkdir()
    for module in REFERENCE:
        (pages / "reference" / f"{module}.md").write_text(module_page(module))
    (pages / "reference" / "commands.md").write_text(commands_page())
    (BUILD / "zensical.toml").write_text(configuration(paths))
    zensical = Path(sys.executable).with_name("zensical")
    if not zensical.exists():
        sys.stderr.write(
            "zensical is not installed: pip install -e '.[docs]', with Python 3.11 or later\n"
        )
        return 2
    return subprocess.run([zensical, "build", "--strict"], cwd=BUILD, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

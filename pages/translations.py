"""The translated pages, and their code blocks.

A translation has the code blocks of its original, in the same order. `python -m pages.translations`
copies them from the originals.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = re.compile(r"^```\w*\n[\s\S]*?^```$|(?:^    .*\n)+", re.MULTILINE)


def translations() -> Iterator[tuple[Path, Path]]:
    """Yield each original with its translation."""
    yield ROOT / "README.md", ROOT / "README.zh-CN.md"
    for page in sorted((ROOT / "docs" / "zh").glob("*.md")):
        yield ROOT / "docs" / page.name, page


def code(text: str) -> list[str]:
    """Return the code blocks of a page, fenced or indented, in order."""
    return CODE.findall(text)


def with_code(text: str, blocks: list[str]) -> str:
    """Return the page with its code blocks replaced. Raise ValueError if their number differs."""
    if len(code(text)) != len(blocks):
        raise ValueError(
            f"it has {len(code(text))} code blocks, but its original has {len(blocks)}"
        )
    replacements = iter(blocks)
    return CODE.sub(lambda _: next(replacements), text)


def main() -> int:
    """Update the translations and return the exit code."""
    failed = 0
    for original, translation in translations():
        try:
            text = with_code(translation.read_text(), code(original.read_text()))
        except ValueError as error:
            sys.stderr.write(f"{translation.name}: {error}; add or remove a block\n")
            failed = 1
        else:
            translation.write_text(text)
    return failed


if __name__ == "__main__":
    sys.exit(main())

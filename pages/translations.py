"""The translations of pages, and their code: `python -m pages.translations` brings it up to date.

The code of a translation is that of its original, block for block; only words are translated.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = re.compile(r"^```\w*\n[\s\S]*?^```$|(?:^    .*\n)+", re.MULTILINE)


def translations() -> Iterator[tuple[Path, Path]]:
    """Each original, with its translation."""
    yield ROOT / "README.md", ROOT / "README.zh-CN.md"
    for page in sorted((ROOT / "docs" / "zh").glob("*.md")):
        yield ROOT / "docs" / page.name, page


def code(text: str) -> list[str]:
    """The blocks of code of a page, fenced or indented, in their order."""
    return CODE.findall(text)


def with_code(text: str, blocks: list[str]) -> str:
    """The page with these blocks in place of its own. Raises ValueError for another number."""
    if len(code(text)) != len(blocks):
        raise ValueError(f"it has {len(code(text))} blocks of code, and its original {len(blocks)}")
    left = iter(blocks)
    return CODE.sub(lambda _: next(left), text)


def main() -> int:
    """Rewrites the translations; gives the exit code."""
    failed = 0
    for original, translation in translations():
        try:
            text = with_code(translation.read_text(), code(original.read_text()))
        except ValueError as error:
            sys.stderr.write(f"{translation.name}: {error}; add or take out what is new\n")
            failed = 1
        else:
            translation.write_text(text)
    return failed


if __name__ == "__main__":
    sys.exit(main())

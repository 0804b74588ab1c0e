"""Every import of our packages that a page shows, in a block or a sentence, works as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rows import each_row

from agentcall.errors import MissingExtra

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAME = r"agentcall(?:_\w+)?(?:\.\w+)*"
IMPORT = re.compile(
    rf"\bfrom {NAME} import (?:\([^)]*\)|\w+(?: as \w+)?(?:, *\w+(?: as \w+)?)*)"
    rf"|\bimport {NAME}(?: as \w+)?(?!\w)"
)


def find_imports(page: Path) -> Iterator[str]:
    yield from dict.fromkeys(match.group() for match in IMPORT.finditer(page.read_text("utf-8")))


CASES = [(page, line) for page in PAGES for line in find_imports(page)]


def test_the_pages_show_imports() -> None:
    assert len(CASES) > 80
    assert {page.name for page, _ in CASES} >= {"README.md", "README.zh-CN.md", "settings.md"}


@each_row(("page", "line"), CASES, ids=lambda value: str(value).rpartition("/")[2])
def test_an_import_of_a_page_works(page: Path, line: str) -> None:
    try:
        exec(compile(line, str(page), "exec"), {})
    except MissingExtra as missing:
        pytest.skip(str(missing))
    except ModuleNotFoundError as missing:
        if str(missing.name).startswith("agentcall"):
            raise
        pytest.skip(f"{missing.name} is not installed")


@pytest.mark.parametrize("module", ["agentcall", "agentcall.models"])
def test_the_names_of_the_face_can_be_imported(module: str) -> None:
    namespace: dict[str, object] = {}
    exec(f"from {module} import *", namespace)
    assert len(namespace) > 6

"""Links between the pages lead to existing files and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rows import each_row

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def read_prose(page: Path) -> str:
    return FENCED.sub("", page.read_text())


def find_links(page: Path) -> Iterator[str]:
    for target in LINK.findall(read_prose(page)):
        if not re.match(r"[a-z]+:", target):
            yield target


def find_anchors(page: Path) -> set[str]:
    """The anchors that GitHub and the site generate from the headings."""
    headings = re.findall(r"^#+ (.+)$", read_prose(page), re.MULTILINE)
    plain = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


@each_row("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in find_links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in find_anchors(there), f"{target}: the heading does not exist"


def test_no_page_of_the_site_links_outside_docs() -> None:
    docs = ROOT / "docs"
    for page in docs.rglob("*.md"):
        for target in find_links(page):
            there = (page.parent / target.partition("#")[0]).resolve()
            assert there.is_relative_to(docs), f"{page.name}: {target} is not in the site"

"""The documentation site builds without warnings, is complete, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from rows import each_row

from pages.navigation import configuration
from pages.reference import REFERENCE, markdown, module_page

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "docs" / "site"


class Page(HTMLParser):
    """The links, loaded resources and anchors of an HTML page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.loaded.append(values["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in values:
            self.loaded.append(values["src"])


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    """The pages of a freshly built site."""
    if sys.version_info < (3, 11):
        pytest.skip("zensical needs Python 3.11")
    done = subprocess.run(
        [sys.executable, "-m", "pages"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: Page(path) for path in sorted(SITE.rglob("*.html"))}


@pytest.mark.docs
def test_every_page_is_in_the_site(site: dict[Path, Page]) -> None:
    docs = ROOT / "docs"
    for page in docs.rglob("*.md"):
        assert SITE / page.relative_to(docs).with_suffix(".html") in site
    for module in REFERENCE:
        assert SITE / "reference" / f"{module}.html" in site


@pytest.mark.docs
def test_every_link_and_anchor_of_the_site_leads_somewhere(site: dict[Path, Page]) -> None:
    for path, page in site.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            if re.match(r"[a-z]+:|//", link) or link in (".", "#"):
                continue
            target, anchor = urldefrag(link)
            there = (path.parent / unquote(target)).resolve() if target else path
            there = there / "index.html" if there.is_dir() else there
            assert there.exists(), f"{path.name}: {link}"
            if anchor and there in site:
                assert unquote(anchor) in site[there].anchors, f"{path.name}: {link}"


@pytest.mark.docs
def test_no_page_loads_anything_from_elsewhere(site: dict[Path, Page]) -> None:
    for path, page in site.items():
        assert [url for url in page.loaded if re.match(r"([a-z]+:)?//", url)] == [], path.name
    for sheet in SITE.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text()), sheet.name


@pytest.mark.docs
def test_the_reference_has_the_docstrings(site: dict[Path, Page]) -> None:
    page = site[SITE / "reference" / "agentcall.html"]
    assert {"agent", "agentrun", "limits", "runresult"} <= page.anchors
    assert "agentcall run" in site[SITE / "reference" / "commands.html"].text


@each_row("name", REFERENCE)
def test_a_module_of_the_reference_has_a_page_with_its_members(name: str) -> None:
    page = module_page(name)
    assert page.startswith(f"# {name}\n\n")
    assert "\n## " in page
    assert page.count("```") % 2 == 0


def test_a_docstring_becomes_a_list_code_and_examples() -> None:
    text = markdown(
        """It does a thing to <x>.

        name: what it is called,
            and more.

        >>> 1 + 1
        2

        Raises UsageError for `<none>`.
        """
    )
    assert "It does a thing to &lt;x>." in text
    assert "- **name**: what it is called,\n    and more." in text
    assert "```pycon\n>>> 1 + 1\n2\n```" in text
    assert "`<none>`" in text


def test_an_unlisted_page_comes_last_and_a_missing_one_is_left_out() -> None:
    text = configuration(["index.md", "new.md"])
    assert '"More" = ["new.md"]' in text
    assert "tutorial.md" not in text

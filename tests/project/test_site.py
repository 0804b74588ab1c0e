"""The site of the documentation: built without a warning, whole, and without the network."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from pages.navigation import configuration
from pages.reference import REFERENCE, markdown, module_page

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "docs" / "site"


class Page(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.loaded.append(given["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in given:
            self.loaded.append(given["src"])


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    """The pages of the site, built anew."""
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
def test_the_reference_says_what_the_docstrings_say(site: dict[Path, Page]) -> None:
    page = site[SITE / "reference" / "agentcall.html"]
    assert {"agent", "agentrun", "limits", "runresult"} <= page.anchors
    assert "agentcall run" in site[SITE / "reference" / "commands.html"].text


@pytest.mark.parametrize("name", REFERENCE)
def test_a_module_of_the_reference_has_a_page_with_its_members(name: str) -> None:
    page = module_page(name)
    assert page.startswith(f"# {name}\n\n")
    assert "\n## " in page
    assert page.count("```") % 2 == 0


def test_a_docstring_becomes_a_list_code_and_examples() -> None:
    said = markdown(
        """It does a thing to <x>.

        name: what it is called,
            and more.

        >>> 1 + 1
        2

        Raises UsageError for `<none>`.
        """
    )
    assert "It does a thing to &lt;x>." in said
    assert "- **name**: what it is called,\n    and more." in said
    assert "```pycon\n>>> 1 + 1\n2\n```" in said
    assert "`<none>`" in said


def test_a_page_that_nobody_listed_comes_last_and_one_that_is_not_there_is_left_out() -> None:
    text = configuration(["index.md", "new.md"])
    assert '"More" = ["new.md"]' in text
    assert "tutorial.md" not in text

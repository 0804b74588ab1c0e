"""What is translated says the same in code, and knows its original."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRANSLATED = {
    "README.md": "README.zh-CN.md",
    **{
        f"docs/{page.name}": f"docs/zh/{page.name}"
        for page in sorted((ROOT / "docs/zh").glob("*.md"))
    },
}
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)


def code(page: str) -> list[str]:
    """The blocks of code of a page, fenced ones first."""
    text = (ROOT / page).read_text()
    fenced = FENCED.findall(text)
    return [*fenced, *INDENTED.findall(FENCED.sub("", text))]


@pytest.mark.parametrize("english", TRANSLATED)
def test_the_code_of_a_translation_is_that_of_its_original(english: str) -> None:
    assert code(english) != []
    assert code(TRANSLATED[english]) == code(english)


@pytest.mark.parametrize("english", TRANSLATED)
def test_a_translation_has_the_sections_of_its_original(english: str) -> None:
    def levels(page: str) -> list[int]:
        prose = FENCED.sub("", (ROOT / page).read_text())
        return [len(marks) for marks in re.findall(r"^(#+) ", prose, re.MULTILINE)]

    assert levels(TRANSLATED[english]) == levels(english)


@pytest.mark.parametrize("english", TRANSLATED)
def test_original_and_translation_link_to_each_other(english: str) -> None:
    chinese = ROOT / TRANSLATED[english]
    there = chinese.relative_to((ROOT / english).parent).as_posix()
    assert f"]({there})" in (ROOT / english).read_text()
    back = (
        "../" * (len(chinese.relative_to(ROOT).parts) - 1 - english.count("/")) + Path(english).name
    )
    assert f"]({back})" in chinese.read_text()


@pytest.mark.parametrize("chinese", TRANSLATED.values())
def test_a_translation_is_in_chinese(chinese: str) -> None:
    prose = FENCED.sub("", (ROOT / chinese).read_text())
    for paragraph in re.split(r"\n\n+", prose):
        words = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", "", paragraph)
        if len(words) > 80 and not paragraph.startswith("    "):
            assert re.search(r"[\u4e00-\u9fff]", words), paragraph

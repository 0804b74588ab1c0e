"""A translation has the code and the sections of its original, and links to it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pages.translations import CODE, ROOT, code, translations, with_code

BOTH = pytest.mark.parametrize(
    ("original", "translation"),
    [pytest.param(*pair, id=str(pair[1].relative_to(ROOT))) for pair in translations()],
)


@BOTH
def test_the_code_of_a_translation_is_that_of_its_original(
    original: Path, translation: Path
) -> None:
    translated, expected = code(translation.read_text()), code(original.read_text())
    assert expected != []
    assert translated == expected, "run: python -m pages.translations"


@BOTH
def test_a_translation_has_the_sections_of_its_original(original: Path, translation: Path) -> None:
    def levels(page: Path) -> list[int]:
        prose = CODE.sub("", page.read_text())
        return [len(marks) for marks in re.findall(r"^(#+) ", prose, re.MULTILINE)]

    assert levels(translation) == levels(original)


@BOTH
def test_original_and_translation_link_to_each_other(original: Path, translation: Path) -> None:
    forward = os.path.relpath(translation, original.parent)
    back = os.path.relpath(original, translation.parent)
    assert f"]({forward})" in original.read_text()
    assert f"]({back})" in translation.read_text()


@BOTH
def test_a_translation_is_in_chinese(original: Path, translation: Path) -> None:
    for paragraph in re.split(r"\n\n+", CODE.sub("", translation.read_text())):
        text = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", "", paragraph)
        if len(text) > 80:
            assert re.search(r"[\u4e00-\u9fff]", text), paragraph


def test_the_code_blocks_of_a_translation_are_replaced_in_order() -> None:
    page = "# 一\n\n```sh\nold\n```\n\n二：\n\n    old\n\n三\n"
    assert with_code(page, ["```sh\nnew\n```", "    new\n"]) == page.replace("old", "new")
    with pytest.raises(ValueError, match="has 2 code blocks, but its original has 1"):
        with_code(page, ["```sh\nnew\n```"])

from __future__ import annotations

from benchmarks.overhead.parts import made


def test_the_page_and_its_pictures_are_those_of_the_figures() -> None:
    for path, text in made().items():
        assert path.read_text("utf-8") == text, path.name

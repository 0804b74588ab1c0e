"""A table in one test fails as its rows would, each for itself."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from rows import each_row


def test_every_row_is_checked_and_those_that_failed_are_named() -> None:
    seen: list[int] = []

    @each_row("number", [1, 2, 3, 4], ids=["one", "two", "three", "four"])
    def check(number: int) -> None:
        seen.append(number)
        assert number % 2, "it is even"

    with pytest.raises(pytest.fail.Exception) as caught:
        check()
    told = str(caught.value)
    assert seen == [1, 2, 3, 4]
    assert told.startswith("2 rows failed")
    assert "row two" in told
    assert "row four" in told
    assert "it is even" in told
    assert "row one" not in told


def test_tables_multiply_and_leave_the_fixtures_to_pytest() -> None:
    seen: list[tuple[int, str, str]] = []

    @each_row("number", (pytest.param(number, id=f"n{number}") for number in (1, 2)))
    @each_row("word", "ab", ids=str.upper)
    async def check(number: int, word: str, folder: str) -> None:
        seen.append((number, word, folder))
        assert (number, word) != (2, "b")

    assert list(inspect.signature(check).parameters) == ["folder"]
    with pytest.raises(pytest.fail.Exception, match=r"row n2\n(.|\n)*row B\n"):
        asyncio.run(check(folder="here"))
    assert seen == [(1, "a", "here"), (1, "b", "here"), (2, "a", "here"), (2, "b", "here")]


def test_rows_that_are_skipped_leave_the_others() -> None:
    @each_row("number", [1, 2])
    def check(number: int) -> None:
        if number < least:
            pytest.skip("too small")
        assert number != 2

    least = 2
    with pytest.raises(pytest.fail.Exception, match="1 row failed"):
        check()
    least = 3
    with pytest.raises(pytest.skip.Exception, match="row 0: too small"):
        check()


def test_a_table_without_rows_or_with_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="without rows"):
        each_row("number", [])
    with pytest.raises(ValueError, match="no marks"):
        each_row("number", [pytest.param(1, marks=pytest.mark.skip)])

"""A table that one test checks row by row, and that says at once which rows are wrong.

`@each_row("text, value", [("1", 1), ("2", 2)])` stands where `@pytest.mark.parametrize` would. A
row costs nothing but itself then: a test of its own costs two milliseconds, in three processes.
For rows that need no fixtures of their own (a folder, a monkeypatch): all rows share those.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

_SHOWN = 20
"""Rows whose failure is shown in full."""


def each_row(
    names: str | Sequence[str],
    rows: Iterable[Any],
    ids: Iterable[object] | Callable[[Any], object] | None = None,
    *,
    at_once: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Call the test with each row in turn; it fails at the end, with all rows that failed.

    The arguments are those of `pytest.mark.parametrize`. at_once: the rows of an async test wait
    at the same time.
    """
    single = isinstance(names, str) and "," not in names
    words = [word.strip() for word in names.split(",")] if isinstance(names, str) else [*names]
    table = list(_named(words, rows, ids, single=single))
    if not table:
        raise ValueError("a table without rows checks nothing")

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def checked_later(**given: Any) -> None:
                with _failures() as row_named:

                    async def check(name: str, row: dict[str, Any]) -> None:
                        with row_named(name):
                            await test(**given, **row)

                    if at_once:
                        await asyncio.gather(*(check(name, row) for name, row in table))
                    else:
                        for name, row in table:
                            await check(name, row)
                            forget_learned()

            checked = checked_later
        else:

            @functools.wraps(test)
            def checked(**given: Any) -> None:
                with _failures() as row_named:
                    for name, row in table:
                        with row_named(name):
                            test(**given, **row)
                        forget_learned()

        signature = inspect.signature(test)
        kept = [given for name, given in signature.parameters.items() if name not in words]
        checked.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return checked

    return decorate


def forget_learned() -> None:
    """Forget what was learned of a server: the next one may listen at the same port."""
    capabilities = sys.modules.get("agentcall.models.capabilities")
    if capabilities is not None:
        capabilities.clear_dialect_cache()


def _named(
    words: list[str], rows: Iterable[Any], ids: Any, *, single: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the arguments of each row."""
    told = None if ids is None or callable(ids) else [*ids]
    for number, row in enumerate(rows):
        own = row.id if hasattr(row, "marks") else None
        if hasattr(row, "marks"):
            if row.marks:
                raise ValueError("a row of a table has no marks: it needs a test of its own")
            row = row.values
        elif single:
            row = (row,)
        values = dict(zip(words, row, strict=True))
        if own is None and told is not None:
            own = told[number]
        if own is None and callable(ids):
            own = "-".join(str(ids(value)) for value in values.values())
        yield f"{own or number}", values


@contextmanager
def _failures() -> Iterator[Callable[[str], Any]]:
    """Gives `row_named(name)`, which keeps a failure; raises them together at the end.

    A row that is skipped is passed over; where all are, so is the test.
    """
    failed: list[str] = []
    skipped: list[str] = []
    number = 0

    @contextmanager
    def row_named(name: str) -> Iterator[None]:
        nonlocal number
        number += 1
        try:
            yield
        except pytest.skip.Exception as error:
            skipped.append(f"row {name}: {error}")
        except (Exception, pytest.fail.Exception) as error:
            trace = error.__traceback__ and error.__traceback__.tb_next
            lines = traceback.format_exception(type(error), error, trace)
            failed.append(f"row {name}\n{''.join(lines)}")

    yield row_named
    if failed:
        more = [f"and {len(failed) - _SHOWN} more"] if len(failed) > _SHOWN else []
        text = "\n".join(
            [
                f"{len(failed)} {'row' if len(failed) == 1 else 'rows'} failed",
                *failed[:_SHOWN],
                *more,
            ]
        )
        pytest.fail(text, pytrace=False)
    if len(skipped) == number:
        pytest.skip("\n".join(skipped))

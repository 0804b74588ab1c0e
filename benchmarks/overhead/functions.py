"""Write functions for tools to a module on disk, with docstrings and types, as users do.

Frameworks read a function's source, signature and docstring, so the functions are in a file. The
first one is `add`, which the server calls; the others have five shapes and unique names. A second
file has their tool definitions, which the loops by hand send unchanged.
"""

from __future__ import annotations

import json
from pathlib import Path

from agentcall import tool
from benchmarks.overhead.adapters.worker import DEFINITIONS, FUNCTIONS, load_functions

_SHAPES = (
    '''
def {name}(a: int, b: int) -> str:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return RESULT
''',
    '''
def {name}(query: str, limit: int = 10, language: str = "en") -> str:
    """Search the documents for words.

    Args:
        query: The words to look for.
        limit: How many documents to give at most.
        language: The language of the documents, two letters.
    """
    return RESULT
''',
    '''
def {name}(city: str, nights: int, breakfast: bool = False, price: float | None = None) -> str:
    """Look for a room in a city.

    Args:
        city: The city to stay in.
        nights: How many nights to stay.
        breakfast: Whether breakfast is wanted.
        price: The highest price of a night, in euros.
    """
    return RESULT
''',
    '''
def {name}(labels: list[str], match: Literal["all", "any"] = "all") -> str:
    """List the notes that have labels.

    Args:
        labels: The labels that a note needs.
        match: Whether it needs all of them or any.
    """
    return RESULT
''',
    '''
def {name}(values: list[float], note: str | None = None) -> str:
    """Record the values of a measurement.

    Args:
        values: The values, in order.
        note: A word about them.
    """
    return RESULT
''',
)


def write_functions(folder: Path, count: int, output: int) -> None:
    """Write `count` functions that return `output` characters, and their tool definitions."""
    names = ["add", *(f"function_{number}" for number in range(1, count))]
    result = '"16"' if output == 2 else f'"x" * {output}'
    head = f"from typing import Literal\n\nRESULT = {result}\n"
    bodies = [_SHAPES[n % len(_SHAPES)].format(name=name) for n, name in enumerate(names)]
    path = folder / FUNCTIONS
    path.write_text("\n".join([head, *bodies]), "utf-8")
    definitions = [tool(function).definition for function in load_functions(path, count)]
    (folder / DEFINITIONS).write_text(json.dumps(definitions), "utf-8")

"""The rules for code that a program can check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from rows import each_row

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("agentcall", "tools", "server_launch")
    for path in (ROOT / folder).rglob("*.py")
)
LONGEST_FUNCTION = 40
FORBIDDEN = {"eval", "exec", "compile", "__import__"}


def find_functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


@each_row("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    lengths = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in find_functions(path)}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}


@each_row("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_evaluates_code_or_unpickles(path: Path) -> None:
    tree = ast.parse(path.read_text())
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    imported = {
        name.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
    } | {
        (node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert called & FORBIDDEN == set()
    assert imported & {"pickle", "cloudpickle", "marshal", "shelve"} == set()


@each_row("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_a_docstring(path: Path) -> None:
    if path.read_text().strip():
        assert ast.get_docstring(ast.parse(path.read_text()))


@each_row("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_silenced_check_gives_its_reason(path: Path) -> None:
    silenced = re.compile(r"# (noqa|type: ignore|pyright: ignore)(?:: [A-Z0-9, ]+|\[[^\]]+\])?(.*)")
    bare = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := silenced.search(line)) and not re.search(r"\w\w", found[2])
    ]
    assert bare == []


def test_a_class_name_is_defined_once_in_the_product() -> None:
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_agentcall_has_few_subpackages_and_few_files_beside_them() -> None:
    package = ROOT / "agentcall"
    assert len([path for path in package.iterdir() if (path / "__init__.py").exists()]) <= 16
    assert len(list(package.glob("*.py"))) <= 11  # __init__.py and ten others


def test_every_file_of_tests_has_a_name_of_its_own() -> None:
    """As pytest imports them: two of one name stop the whole of `make test`."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []

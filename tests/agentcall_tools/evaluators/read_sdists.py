"""Reads the cases of other evaluators' own tests out of their source distributions.

    pip download --no-deps --no-binary :all: simpleeval==1.0.8 asteval==1.0.10
    python read_sdists.py simpleeval-1.0.8.tar.gz asteval-1.0.10.tar.gz

writes `cases.json` beside this file. Nothing of the distributions is run: their tests are parsed.
A value is an expression of numbers alone that a test compares with something; an attack is
whatever a test expects an error from. Both projects are MIT licensed; simpleeval is
(c) 2013-2026 Daniel Fairhead, asteval (c) 2026 Matthew Newville, The University of Chicago.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

CASES = Path(__file__).with_name("cases.json")
LONGEST = 10_000
NUMERIC = (
    ast.Expression, ast.Constant, ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.Compare, ast.IfExp,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
OTHER_MEANING = (ast.BitXor, ast.In, ast.NotIn, ast.Is, ast.IsNot)
# Sums that a test expects an error from because it took an operator, a function or a limit away.
NO_ATTACKS = {
    "10 + 10", "int(42)", "1+2", "~ 2", "101**2", "1<<250", "1000>>250",
    "1.01**10000", "1.01**10001", "1<<1000",
}  # fmt: skip


@dataclass
class Cases:
    """What one project's tests expect: values by expression, and what has to be refused."""

    values: dict[str, object] = field(default_factory=dict)
    attacks: list[str] = field(default_factory=list)

    def attack(self, node: ast.expr) -> None:
        text = folded(node)
        if isinstance(text, str) and len(text) <= LONGEST and text not in NO_ATTACKS:
            self.attacks += [text] if text not in self.attacks else []

    def value(self, node: ast.expr, expected: object) -> None:
        text = folded(node)
        if isinstance(text, str) and is_numeric(text) and is_short(expected):
            self.values[text] = expected

    def truth(self, node: ast.expr, expected: bool) -> None:
        """What is true or false, and not merely not zero."""
        text = folded(node)
        if isinstance(text, str) and re.search(r"[<>=]|not|True|False", text):
            self.value(node, expected)


def folded(node: ast.expr) -> object:
    """The constant that an expression of constants comes to, or None."""
    if isinstance(node, ast.BinOp):
        left, right = folded(node.left), folded(node.right)
        match node.op, left, right:
            case ast.Add(), str(), str():
                return left + right
            case ast.Mult(), (str() | int()), (str() | int()):
                return left * right  # type: ignore[operator]  # two texts are in no test
    try:
        return ast.literal_eval(node)
    except ValueError:
        pass
    text = ast.unparse(node)
    return eval(text) if is_numeric(text) else None


def is_numeric(text: str) -> bool:
    """Whether it is an expression of numbers and operators that mean the same in ours."""
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except SyntaxError:
        return False
    return all(
        isinstance(node, NUMERIC)
        and not isinstance(node, OTHER_MEANING)
        and not (isinstance(node, ast.Constant) and not isinstance(node.value, (int, float)))
        for node in nodes
    )


def is_short(value: object) -> bool:
    """Whether ours shows it in full: a longer integer is told by its size."""
    return not isinstance(value, int) or value.bit_length() < 4_000


def called(node: ast.AST) -> str:
    """The name of the function or method that a node calls."""
    if isinstance(node, ast.Expr):
        node = node.value
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def read_simpleeval(node: ast.AST, cases: Cases, raising: bool = False) -> None:
    """`self.t(expression, value)`, and what stands in `with self.assertRaises(...)`."""
    if isinstance(node, ast.With):
        raising = raising or any(called(i.context_expr) == "assertRaises" for i in node.items)
    if isinstance(node, ast.Call) and called(node) in ("t", "eval", "simple_eval") and node.args:
        if raising:
            cases.attack(node.args[0])
        elif called(node) == "t" and len(node.args) == 2:
            cases.value(node.args[0], folded(node.args[1]))
    for child in ast.iter_child_nodes(node):
        read_simpleeval(child, cases, raising)


def read_asteval(tree: ast.AST, cases: Cases) -> None:
    """`istrue` and `isfalse`, and what `check_error` stands behind."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            for first, second in pairwise(body):
                if called(first) == "interp" and called(second) == "check_error":
                    cases.attack(first.value.args[0])
        if called(node) in ("istrue", "isfalse") and isinstance(node, ast.Call):
            cases.truth(node.args[1], called(node) == "istrue")


def tests_of(sdist: Path) -> Iterator[ast.Module]:
    with tarfile.open(sdist) as archive:
        for member in sorted(archive.getnames()):
            if "/tests/test_" in member:
                file = archive.extractfile(member)
                assert file
                yield ast.parse(file.read())


def main(sdists: list[str]) -> None:
    found = {}
    for sdist in map(Path, sdists):
        name = sdist.name.removesuffix(".tar.gz")
        cases = Cases()
        for tree in tests_of(sdist):
            (read_asteval if name.startswith("asteval") else read_simpleeval)(tree, cases)
        found[name] = {"licence": "MIT", "values": cases.values, "attacks": cases.attacks}
        print(f"{name}: {len(cases.values)} values, {len(cases.attacks)} attacks")
    CASES.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

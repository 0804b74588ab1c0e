"""A calculator that computes an expression, exactly if it can, and never runs code."""

import ast
import math
import operator
from collections.abc import Callable
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction
from functools import partial

from agentcall import tool
from agentcall_tools.arithmetic import Arithmetic, CalculationError, Number, count_digits
from agentcall_tools.calculator_functions import call_function
from agentcall_tools.expression import ALLOWED, MAX_NESTING, TOO_DEEP, parse_expression

MAX_LENGTH = 10_000
EXACT_DIGITS = 28
SHOWN_DIGITS = 15
PRINTED_DIGITS = 4_000
MAX_VALUE = Decimal("1.8e308")

OPERATORS: dict[type[ast.operator], Callable[[Arithmetic, Number, Number], Number]] = {
    ast.Add: Arithmetic.add,
    ast.Sub: Arithmetic.subtract,
    ast.Mult: Arithmetic.multiply,
    ast.MatMult: Arithmetic.multiply,
    ast.Div: Arithmetic.divide,
    ast.FloorDiv: Arithmetic.floor_divide,
    ast.Mod: Arithmetic.modulo,
    ast.Pow: Arithmetic.power,
    ast.LShift: partial(Arithmetic.shift, left=True),
    ast.RShift: partial(Arithmetic.shift, left=False),
    ast.BitAnd: lambda n, a, b: n.to_integer(a, "&") & n.to_integer(b, "&"),
    ast.BitOr: lambda n, a, b: n.to_integer(a, "|") | n.to_integer(b, "|"),
}
COMPARISONS: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
ROOT_FUNCTIONS = {"ROOT2": "sqrt", "ROOT3": "cbrt"}


def calculate(expression: str) -> str:
    """Computes one arithmetic expression and returns the result.

    Use it for every calculation, also simple ones. Write numbers only, no variables or units.

    Args:
        expression: For example "(3+5)*2", "2^10", "15% of 80", "sqrt(2)*pi", "5!",
            "round(2/3, 2)", "sin(30°)", "log(100, 10)" or "1.1 < 1.2".
            log is the natural logarithm; angles are radians without °.
    """
    if len(expression) > MAX_LENGTH:
        raise CalculationError(
            f"the expression has {len(expression)} characters, at most {MAX_LENGTH} are read; "
            "split it into smaller calculations"
        )
    try:
        tree, operands = parse_expression(expression)
        return format_number(_Evaluator(operands).evaluate(tree))
    except (Overflow, OverflowError):
        raise CalculationError("the result is too large; use smaller numbers") from None
    except (InvalidOperation, DivisionByZero, ZeroDivisionError):
        raise CalculationError("the expression has no defined result") from None


class _Evaluator:
    """Computes the tree of one expression; every branch is computed, also of `or` and `if`."""

    def __init__(self, operands: list[Number]) -> None:
        self.numbers = Arithmetic()
        self.operands = operands
        self.depth = 0
        self.is_percentage = False
        """Whether the last value is a percentage that isn't in parentheses, or a sum of them."""

    def evaluate(self, node: ast.expr) -> Number:
        """Return the value of a node."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise CalculationError(TOO_DEEP)
        # A long sum leans to the left: a loop needs no stack for it.
        spine: list[ast.BinOp | ast.Subscript] = []
        while isinstance(node, (ast.BinOp, ast.Subscript)):
            spine.append(node)
            node = node.left if isinstance(node, ast.BinOp) else node.value
        self.is_percentage = False
        value = self._evaluate_operand(node)
        for outer in reversed(spine):
            if isinstance(outer, ast.BinOp):
                value = self._apply_operator(outer, value)
            else:
                value = self._apply_postfix(outer, value)
        self.depth -= 1
        return value

    def _evaluate_operand(self, node: ast.expr) -> Number:
        match node:
            case ast.Constant(value=int(index)):
                value = self.operands[index]
                return self.numbers.simplify(value) if isinstance(value, Fraction) else value
            case ast.UnaryOp():
                return self._apply_prefix(node)
            case ast.BoolOp():
                values = [self.evaluate(value) for value in node.values]
                is_or = isinstance(node.op, ast.Or)
                value = next((v for v in values[:-1] if bool(v) is is_or), values[-1])
            case ast.Compare():
                value = self._compare(node)
            case ast.IfExp():
                body, test, orelse = map(self.evaluate, (node.body, node.test, node.orelse))
                value = body if test else orelse
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                lists = [arg.elts if isinstance(arg, ast.List) else [arg] for arg in node.args]
                values = [self.evaluate(element) for elements in lists for element in elements]
                value = call_function(self.numbers, ROOT_FUNCTIONS.get(name, name), values)
            case _:
                raise CalculationError(_describe_misplaced(node))
        self.is_percentage = False
        return value

    def _apply_prefix(self, node: ast.UnaryOp) -> Number:
        value = self.evaluate(node.operand)
        self.is_percentage &= node.operand.end_col_offset == node.end_col_offset
        match node.op:
            case ast.USub():
                return self.numbers.negate(value)
            case ast.Invert():
                return ~self.numbers.to_integer(value, "~")
            case ast.Not():
                return not value
            case _:
                return value

    def _apply_postfix(self, node: ast.Subscript, value: Number) -> Number:
        match node.slice:
            case ast.Constant(value="!" | "°" as sign):
                name = "factorial" if sign == "!" else "radians"
                return call_function(self.numbers, name, [value])
            case ast.Constant(value="%"):
                self.is_percentage = True
                return self.numbers.divide(value, 100)
            case ast.Constant(value="万" | "亿" as sign):
                return self.numbers.multiply(value, 10**4 if sign == "万" else 10**8)
            case _:
                raise CalculationError(_describe_misplaced(node))

    def _apply_operator(self, node: ast.BinOp, left: Number) -> Number:
        # A child in parentheses begins after its parent, or ends before it.
        is_left_percentage = self.is_percentage and node.left.col_offset == node.col_offset
        right = self.evaluate(node.right)
        self.is_percentage &= node.right.end_col_offset == node.end_col_offset
        if isinstance(node.op, (ast.Add, ast.Sub)):
            if self.is_percentage and not is_left_percentage and left != 1:
                sign = "+" if isinstance(node.op, ast.Add) else "-"
                raise CalculationError(
                    f"x {sign} 10% can be read in two ways: "
                    f"write x * (1 {sign} 10%) for a change by 10%, or x {sign} (10%) for 0.1"
                )
            self.is_percentage &= is_left_percentage
        else:
            self.is_percentage = False
        if isinstance(node.op, ast.MatMult) and node.left.col_offset == node.col_offset:
            _refuse_ambiguous_product(node.left)
        return OPERATORS[type(node.op)](self.numbers, left, right)

    def _compare(self, node: ast.Compare) -> bool:
        """Return the truth of a chain of comparisons, as in 1 < 2 <= 3."""
        left, truth = self.evaluate(node.left), True
        for sign, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.evaluate(comparator)
            truth &= COMPARISONS[type(sign)](self.numbers.compare(left, right), 0)
            left = right
        return truth


def _refuse_ambiguous_product(left: ast.expr) -> None:
    """Refuse a product without a sign whose left factor ends a division, a power or a root."""
    match left:
        case (
            ast.BinOp(op=ast.Div() | ast.FloorDiv() | ast.Mod() | ast.Pow())
            | ast.Call(func=ast.Name(id="ROOT2" | "ROOT3"))
        ):
            raise CalculationError(
                "a product without * after a division, a power or a root can be read in two ways: "
                "write 1/(2*pi) or (1/2)*pi, with * and ( ) where you mean them"
            )
        case _:
            pass


def _describe_misplaced(node: ast.expr) -> str:
    """Return why a part of an expression is not a number."""
    match node:
        case ast.Tuple():
            return (
                "a comma is only for function arguments and thousands (1,000,000); "
                "write decimals with a dot"
            )
        case ast.List() | ast.Subscript():
            return "[ ] is only for a list inside a function: sum([1, 2, 3]); group with ( )"
        case ast.Name(id=name):
            return f"{name} is a function: write {name}(...) with parentheses"
        case _:
            return f"the order of the signs has no meaning. {ALLOWED}."


def format_number(value: Number) -> str:
    """Return the value as text: integers in full, others to 15 digits unless exact in 28."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if count_digits(value) <= PRINTED_DIGITS:
            return str(value)
        size = math.floor(math.log10(abs(value))) + 1
        return f"about {Decimal(value):.14e} (an integer of {size} digits)".replace("e+", "e")
    if isinstance(value, Decimal):
        return _format_decimal(value, SHOWN_DIGITS)
    numerator, denominator = Decimal(value.numerator), Decimal(value.denominator)
    exact = Context(prec=EXACT_DIGITS, traps=[]).divide(numerator, denominator)
    if Fraction(exact) == value:
        return _format_decimal(exact, EXACT_DIGITS)
    return _format_decimal(Context(prec=50).divide(numerator, denominator), SHOWN_DIGITS)


def _format_decimal(value: Decimal, precision: int) -> str:
    rounded = Context(prec=precision).plus(value)
    if rounded == 0:
        return "0"
    if rounded.copy_abs() > MAX_VALUE:
        raise CalculationError("the result is larger than 1.8e308; use smaller numbers")
    power = rounded.adjusted()
    in_full = power > -7 and (power <= SHOWN_DIGITS or precision > SHOWN_DIGITS)
    text = f"{rounded if in_full else rounded.scaleb(-power):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if in_full else f"{text}e{power}"


calculator = tool(name="calculator", idempotent=True, read_only=True, timeout=5)(calculate)
